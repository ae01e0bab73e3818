"""Copies of networks, also of such as have been pruned or weight-normalised.

The masks of ``torch.nn.utils.prune`` and the older ``weight_norm`` and ``spectral_norm`` put the weight in use on the
layer as a plain attribute, made anew by a hook before each call. After a call with gradients it is part of a graph, and
torch copies no such tensor.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def copied(module: Module, shared: Iterable[Any] = ()) -> Module:
    """A deep copy.

    Args:
        module: see above; not changed.
        shared: parameters, buffers or other parts that the copy has in common with it.
    """
    memo = {id(part): part for part in shared}
    for part in module.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    return copy.deepcopy(module, memo)
