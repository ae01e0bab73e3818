"""What is looked at while the parts of a block are tried for the first time."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from torchpaths.errors import RouteError
from torchpaths.places.residual.axes import channel_axis
from torchpaths.places.residual.parts import Residual, Split, alike, part


def check_returned(block: nn.Module, parts: Split, starts: list[Tensor], whole: Any, inputs: tuple[Any, ...]) -> None:
    """Raise unless what a block returned beside its output is what its parts give."""
    if parts.returned is None:
        return
    notes: dict[int, Any] = {}
    for noting, start in zip(parts.returned.noting, starts, strict=True):
        if noting is not None:
            _, *found = noting[0](block, start.clone(), *inputs)
            notes.update(zip(noting[1], found, strict=True))
    made = parts.returned.made(block, whole[0], notes, inputs)
    same = type(made) is type(whole) and len(made) == len(whole)
    for a, b in zip(tree_leaves(made), tree_leaves(whole), strict=False):
        same = same and (torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else alike(a, b))
    if not same:
        raise RouteError("what it returns beside its output is not what its parts give")


def with_axis(block: nn.Module, inputs: tuple[Any, ...], residual: Residual, start: Tensor) -> Residual:
    """A residual sum whose channels' axis is known; images and vectors have them in the second where nothing tells.

    Raises:
        RouteError: for other values, such as sequences, of which nothing tells.
    """
    if residual.axis is not None:
        return residual
    run = partial(part(residual.branch), block)
    axis = channel_axis(start, (), lambda value: run(value, *inputs), block.children())
    if axis is None and start.dim() not in (2, 4):
        raise RouteError(
            f"nothing tells which axis of its input, of shape {tuple(start.shape)}, holds channels; say so, "
            "Residual(..., axis=)"
        )
    return replace(residual, axis=axis or 1)


class ParametersUsed(TorchFunctionMode):
    """Notes which parameters the operations inside it read: what a branch given by hand holds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, nn.Parameter] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        leaves = tree_leaves((args, kwargs or {}))
        self.found.update({id(leaf): leaf for leaf in leaves if isinstance(leaf, nn.Parameter)})
        return func(*args, **(kwargs or {}))
