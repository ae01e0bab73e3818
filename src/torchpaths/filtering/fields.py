"""Receptive fields, found by what really depends on what: which pixels can change a filter's response in a place.

A pixel that is not a number (NaN) makes every response that depends on it not a number, whatever the weights are. So
each row of an image, and then each column, is put out in turn, and what is touched is written down: kernels, strides,
padding, dilation, pooling, branches and shortcuts all come out by themselves. A field is the rows times the columns
that reach a place, exact for convolutions and pooling. Where a layer sees the whole image (squeeze-and-excitation,
attention), the field is the whole image. That gates look at the pooled image is left aside: every filter is open.

The pass is in double precision on the CPU, where torch computes convolutions as sums of products; faster algorithms may
mix places, and would spread what is not a number too far.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.copies import copied
from torchpaths.errors import RouteError
from torchpaths.filtering.maps import watched
from torchpaths.filtering.sites import chosen
from torchpaths.path import Path
from torchpaths.routed import Routed

CHUNK = 8
"""Images run at a time."""


@dataclass(frozen=True, eq=False)
class Fields:
    """The receptive fields of a layer's filters.

    Attributes:
        rows: bool ``[place, height of the image]``; places as in `torchpaths.filtering.maps.watched`.
        columns: bool ``[place, width of the image]``.
    """

    rows: NDArray[np.bool_]
    columns: NDArray[np.bool_]

    def mask(self, place: int) -> NDArray[np.bool_]:
        """Which pixels reach a place, bool ``[height, width]``."""
        found: NDArray[np.bool_] = self.rows[place][:, None] & self.columns[place]
        return found

    @property
    def size(self) -> tuple[int, int]:
        """Pixels from the first to the last in the largest field, in height and width."""
        return _longest(self.rows), _longest(self.columns)


def _longest(touched: NDArray[np.bool_]) -> int:
    ends = [np.flatnonzero(line) for line in touched]
    return max((int(e[-1] - e[0]) + 1 for e in ends if len(e)), default=0)


def receptive_fields(
    net: Routed, sites: Iterable[str] | None = None, shape: tuple[int, ...] | None = None
) -> dict[str, Fields]:
    """The receptive fields of every place of some layers. Height plus width images are run once, for all layers.

    Args:
        net: a network in any mode, on any device; a copy of it is run.
        sites: names of layers; None for all of filters.
        shape: ``(channel, height, width)`` of an image; None: that of the example it was routed with.

    Raises:
        RouteError: for a network without filters, or without a known image shape.
        PathError: for a name that is no site of filters.
    """
    names = chosen(net, sites)
    shape = shape or net.example_shape
    if len(shape) != 3:
        raise RouteError("receptive fields need an image's shape; give shape=(channels, height, width).")
    twin = copied(net).to("cpu", torch.float64).eval()
    path = Path.full(twin)
    touched: dict[int, dict[str, list[Tensor]]] = {1: {n: [] for n in names}, 2: {n: [] for n in names}}
    maps: dict[str, Tensor] = {}
    with torch.no_grad(), watched(twin, names, maps):
        for axis, found in touched.items():
            for lines in torch.split(torch.arange(shape[axis]), CHUNK):
                x = torch.zeros(len(lines), *shape, dtype=torch.float64)
                for i, line in enumerate(lines.tolist()):
                    x[i].select(axis, line).fill_(torch.nan)
                twin(x, path)
                for name in names:
                    found[name].append(maps[name].isnan().any(1))
    return {name: Fields(*(torch.cat(touched[axis][name]).T.contiguous().numpy() for axis in (1, 2))) for name in names}
