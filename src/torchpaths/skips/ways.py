"""``Rates``: in which of several ways a layer that leaves filters out is fastest, by what its parts take here.

Leaving out work costs copies: rows of the weights are copied, columns gathered, and a convolution of weights that are
new is prepared anew. Where much is open, or weights are large beside the image, it is faster to compute all rows and
multiply by zero, or to put the image's channels among zeros and multiply by all columns; where the image is small, a
product of unfolded pixels is faster than a convolution, whatever is open. So each part is timed once for each kind of
layer, when one is first met, and taken to be in proportion to what is open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from torchpaths.places.channels.weights import width
from torchpaths.skips.folded import Folded, is_last, placed
from torchpaths.skips.prices import Prices


@dataclass(frozen=True)
class Way:
    """How a layer computes.

    Attributes:
        rows: only those that are open; otherwise all.
        columns: by only those that are there; otherwise what is there is put among zeros.
        unfold: as a product of unfolded pixels.
    """

    rows: bool = True
    columns: bool = True
    unfold: bool = False


EXACT = Way()
"""Nothing closed is computed."""


@dataclass(frozen=True)
class Rates:
    """Seconds that a layer takes for one image.

    Attributes:
        compute: with all rows and columns, as a convolution and as a product of unfolded pixels; None where there is no
            such product.
        rows: to copy all rows.
        columns: to gather all columns of all rows.
        place: to put all of its input's channels in their places among zeros.
        mask: to multiply all of its output by zeros and ones.
    """

    compute: tuple[float, float | None]
    rows: float
    columns: float
    place: float
    mask: float

    def best(self, rows: float, columns: float) -> Way:
        """The way that takes least.

        Args:
            rows: the share that is open.
            columns: the share that is there.
        """
        convolution, product = self.compute
        unfold = product is not None and product < convolution
        full = product if product is not None and unfold else convolution
        best, least = EXACT, math.inf
        for own in (True, False) if rows < 1 else (True,):
            of_rows, copying = (rows, rows * self.rows * (rows < 1)) if own else (1.0, self.mask)
            for among in (True, False) if columns < 1 else (True,):
                of_columns = columns if among else 1.0
                preparing = of_rows * columns * self.columns if among and columns < 1 else 0.0
                placing = 0.0 if among else columns * self.place
                seconds = of_rows * of_columns * full + copying + preparing + placing
                if seconds < least:
                    best, least = Way(own, among, unfold), seconds
        return best


def way(folded: Folded, x: Tensor, rows: Tensor | None, columns: Tensor | None, prices: Prices) -> Way:
    """How a layer had better compute.

    Args:
        folded: it.
        x: its input.
        rows: those that are open, long; None for all.
        columns: those that ``x`` has; None for all.
        prices: what is known; what is not is measured.
    """
    layer = folded.layer
    if prices.exact or (isinstance(layer, nn.Conv2d) and layer.groups > 1):
        return EXACT
    counts = tuple(None if kept is None else len(kept) for kept in (rows, columns))
    case = (x.shape, x.stride(), counts, x.dtype, torch.get_num_threads())
    known: Way | None = folded.ways.get(case)
    if known is None:
        shares = (1.0 if count is None else count / width(layer, i) for i, count in enumerate(counts))
        known = folded.ways[case] = _rates(folded, x, prices).best(*shares)
    return known


def _rates(folded: Folded, x: Tensor, prices: Prices) -> Rates:
    """Of a layer for images like ``x``, which may lack channels; measured once for each kind."""
    layer = folded.layer
    inputs = width(layer, 1)
    axis = x.dim() - 1 if isinstance(layer, nn.Linear) else 1
    sides = () if isinstance(layer, nn.Linear) else (layer.stride, layer.padding, layer.dilation)
    last = is_last(x)
    shape = (*x.shape[:axis], inputs, *x.shape[axis + 1 :])
    kind = (folded.weight.shape, sides, shape, last, x.dtype, x.device, torch.get_num_threads())
    known = prices.rates.get(kind)
    if known is None:
        full = x.new_zeros(shape)
        if last:
            full = full.contiguous(memory_format=torch.channels_last)
        known = prices.rates[kind] = _measured(folded, full, axis, prices)
    return known


def _measured(folded: Folded, x: Tensor, axis: int, prices: Prices) -> Rates:
    every = (torch.arange(width(folded.layer, i), device=x.device) for i in range(2))
    rows, columns = every
    y, last = folded(x, None, None), is_last(x)
    z = y.new_ones(*(y.shape[i] if i == axis else 1 for i in range(y.dim())))
    copied = prices.seconds(partial(folded.taken, rows, None, last))
    return Rates(
        (
            prices.seconds(partial(folded, x, None, None)),
            prices.seconds(partial(folded, x, None, None, unfold=True)) if folded.unfolds else None,
        ),
        copied,
        max(0.0, prices.seconds(partial(folded.taken, rows, columns, last)) - copied),
        prices.seconds(partial(placed, x, columns, len(columns), axis)),
        prices.seconds(lambda: y.mul_(z)),
    )
