"""``way``: how a layer that leaves filters out computes fastest here (`torchpaths.skips.rates`), measured when a kind
of layer is first met."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from torchpaths.places.channels.weights import width
from torchpaths.skips.folded import Folded, is_last, placed
from torchpaths.skips.prices import Prices, fastest
from torchpaths.skips.rates import EXACT, Rates, Way


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

    def measure() -> Rates:
        full = x.new_zeros(shape)
        return _measured(folded, full.contiguous(memory_format=torch.channels_last) if last else full, axis)

    return prices.rate(kind, measure)


def _measured(folded: Folded, x: Tensor, axis: int) -> Rates:
    every = (torch.arange(width(folded.layer, i), device=x.device) for i in range(2))
    rows, columns = every
    y, last = folded(x, None, None), is_last(x)
    z = y.new_ones(*(y.shape[i] if i == axis else 1 for i in range(y.dim())))
    copied = fastest(partial(folded.taken, rows, None, last))
    return Rates(
        (
            fastest(partial(folded, x, None, None)),
            fastest(partial(folded, x, None, None, unfold=True)) if folded.unfolds else None,
        ),
        copied,
        max(0.0, fastest(partial(folded.taken, rows, columns, last)) - copied),
        fastest(partial(placed, x, columns, len(columns), axis)),
        fastest(lambda: y.mul_(z)),
    )
