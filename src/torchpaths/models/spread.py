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
        layer: a linear layer, a convolution or a norm, which does not spread already; the result shares its parameters.
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


class Spread(nn.Module):
    """What the classes of such layers have in common.

    Attributes:
        plain: the class of the layer that does not spread.
        spread_channels: how many channels there are with the zeros.
        spread_places: of those that are computed, ascending, long ``[channels]``.
    """

    plain: Any
    spread_channels: int
    spread_places: Tensor

    def narrow(self, x: Tensor) -> Tensor:
        """The channels that are computed, side by side."""
        y: Tensor = super().forward(x)
        return y

    def widen(self, y: Tensor, places: Tensor | None = None) -> Tensor:
        """Channels in their places among zeros; ``places`` where they are not all of them."""
        axis = y.dim() - 1 if isinstance(self, nn.Linear) else 1
        shape = [self.spread_channels if i == axis else n for i, n in enumerate(y.shape)]
        return y.new_zeros(shape).index_copy(axis, self.spread_places if places is None else places, y)

    def forward(self, x: Tensor) -> Tensor:
        return self.widen(self.narrow(x))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _rebuilt, (self.plain,), self.__getstate__()  # type: ignore[no-untyped-call]


def is_spread(layer: nn.Module) -> bool:
    """Whether a layer is of such a class, of this file or of a copy of it."""
    return "spread_places" in layer._buffers


@functools.cache
def _spreading(kind: Any) -> Any:
    """A class that does what ``kind`` does, and puts the channels in their places."""
    name = f"Spread{kind.__name__}"
    return type(name, (Spread, kind), {"plain": kind, "__module__": __name__, "__qualname__": name})


def _rebuilt(kind: Any) -> nn.Module:
    """For pickle and copy, which find no class by the name of one that is made here."""
    made: nn.Module = object.__new__(_spreading(kind))
    return made
