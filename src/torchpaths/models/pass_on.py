"""A call that hands on keyword arguments nobody knows beforehand.

Of torchpaths, and complete in itself: a copy of this file goes with networks that are cut out.

A graph of torch.fx names every argument of every call. Layers of transformers take any (``**kwargs``) and hand them to
their attention: what a path leaves of such a layer does so too, by this function.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn


def pass_on(module: nn.Module, args: tuple[Any, ...], named: Mapping[str, Any], rest: Any) -> Any:
    """``module(*args, **named, **rest)``; ``rest`` is a mapping, or empty."""
    return module(*args, **named, **dict(rest))
