"""Some rows of a batch, taken and put or added back in memory order.

On a CPU ``index_select`` and ``index_add_`` copy whole rows of a contiguous tensor, and walk element by element over
one in channels_last: ten times slower for the very same bytes. Seen as ``[batch, bytes of a row]`` both are contiguous.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def _flat(x: Tensor) -> Tensor | None:
    """``[batch, values of a row]`` in memory order, a view; None for a tensor in another order."""
    if x.is_contiguous():
        return x.flatten(1)
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        return x.permute(0, 2, 3, 1).flatten(1)
    return None


def take_rows(x: Tensor, rows: Tensor) -> Tensor:
    """The rows (long ``[n]``) of ``x`` as a new tensor in the memory order of ``x``."""
    flat = _flat(x)
    if flat is None:
        return x.index_select(0, rows)
    taken = flat.index_select(0, rows)
    if x.is_contiguous():
        return taken.view(len(rows), *x.shape[1:])
    _, channels, height, width = x.shape
    return taken.view(len(rows), height, width, channels).permute(0, 3, 1, 2)


def of_rows(value: Any, rows: Tensor, batch: int) -> Any:
    """What some images have of an argument: their rows of a tensor with a row for each image, else the argument."""
    by_image = isinstance(value, Tensor) and value.dim() > 0 and value.shape[0] == batch
    return take_rows(value, rows) if by_image else value


def add_rows(y: Tensor, rows: Tensor, values: Tensor) -> None:
    """``y[rows] += values``, in place; no row twice."""
    flat, values = _alike(y, values)
    flat.index_add_(0, rows, values)


def put_rows(y: Tensor, rows: Tensor, values: Tensor) -> None:
    """``y[rows] = values``, in place; no row twice."""
    flat, values = _alike(y, values)
    flat.index_copy_(0, rows, values)


def _alike(y: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """A view of ``y`` whose rows are contiguous if it has one, else ``y``; and values of the same form and dtype."""
    values = values.to(y.dtype)
    flat = _flat(y)
    if flat is None:
        return y, values
    if values.stride() != y.stride():
        values = values.contiguous(memory_format=_order(y))
    ordered = _flat(values)
    assert ordered is not None
    return flat, ordered


def _order(x: Tensor) -> torch.memory_format:
    return torch.contiguous_format if x.is_contiguous() else torch.channels_last
