"""Layers that give only some of their channels, put in their places among zeros.

Of torchpaths, and complete in itself: a copy of this file goes with networks that are cut out.

Where filters are closed whose outputs go into a sum (network decoupling; Li et al., 2019), the convolution and the norm
behind it get smaller and the sum does not. Between them stands nothing but zeros, which takes no parameter: the layer's
own class gives them, with the names that its parameters always had.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

Layer = TypeVar("Layer", bound=nn.Module)


def spread_out(layer: Layer, places: Sequence[int], channels: int) -> Layer:
    """A layer that computes what another does and puts its channels in places among zeros.

    Args:
        layer: a linear layer, a convolution or a norm; the result shares its parameters.
        places: of its channels, ascending.
        channels: how many there are with the zeros.
    """
    made = copy.copy(layer)
    made._buffers = dict(layer._buffers)
    made._non_persistent_buffers_set = set(layer._non_persistent_buffers_set)
    kind: Any = type(layer)
    made.__class__ = _spreading(kind)
    made.spread_channels = channels  # type: ignore[assignment]
    device = next((t.device for t in (*layer.parameters(), *layer.buffers())), None)
    made.register_buffer("spread_places", torch.tensor(list(places), device=device), persistent=False)
    return made


@functools.cache
def _spreading(kind: Any) -> Any:
    """A class that does what ``kind`` does, and puts the channels in their places."""

    class Spreading(kind):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = super().forward(x)
            axis = y.dim() - 1 if isinstance(self, nn.Linear) else 1
            shape = [self.spread_channels if i == axis else n for i, n in enumerate(y.shape)]
            return y.new_zeros(shape).index_copy(axis, self.spread_places, y)

        def __reduce_ex__(self, protocol: Any) -> Any:
            return _rebuilt, (kind,), self.__getstate__()

    Spreading.__name__ = Spreading.__qualname__ = f"Spread{kind.__name__}"
    return Spreading


def _rebuilt(kind: Any) -> nn.Module:
    """For pickle and copy, which find no class by the name of one that is made here."""
    made: nn.Module = object.__new__(_spreading(kind))
    return made
