"""Masks that mask nothing, left out of a graph as they are left out of a call.

transformers makes no attention mask for images without padding, except while something is exported: then it makes one
that lets everything through, as a graph could not look into a mask that was given. Blocks that were routed without a
mask would meet one, and the file would carry it. Where none was given there is nothing to look into.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

_ALONE = threading.Lock()


@contextlib.contextmanager
def without_empty_masks() -> Iterator[None]:
    """Let models of transformers make, while they are traced, only those masks that they make in a call."""
    module: Any = sys.modules.get("transformers.masking_utils")
    if module is None:
        yield
        return
    with _ALONE:
        masks: Any = module.ALL_MASK_ATTENTION_FUNCTIONS
        before = dict(masks)
        masks.update({name: _where_needed(make) for name, make in before.items()})
        try:
            yield
        finally:
            for name, make in before.items():
                del masks[name]  # what this library's registry holds for all of its models shows again
                if masks.get(name) is not make:
                    masks[name] = make


def _where_needed(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def mask(*args: Any, attention_mask: Any = None, **kwargs: Any) -> Any:
        everything = kwargs.get("allow_is_bidirectional_skip", False) and kwargs.get("local_size") is None
        if attention_mask is None and everything:
            return None
        return make(*args, attention_mask=attention_mask, **kwargs)

    return mask
