"""Shares in a page: bytes, deflated, as text; fewer levels where a network is so large that they would not fit.

They stand unit by unit: the shares of one unit over all classes are alike, those of one class over all units are not,
and so deflated they take half the bytes that they take class by class.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE = 2_000_000
"""Cells up to which shares are whole bytes."""

ROOM = 4_000_000
"""Characters that more of them may take: the page's 5 MB without its scripts, names and overview."""

FINEST = ((256, 1), (21, 1), (11, 2), (6, 3))
"""Levels, and how many of them share a byte, the finest first."""

OVERVIEW = (250, 1000)
"""Rows and columns of the means that are painted first."""


def text_of(data: bytes) -> str:
    """Bytes, deflated, in base64."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def bytes_of(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Shares in 0 to 1 as bytes, 255 for 1; NaN as 0."""
    return np.asarray(np.rint(np.nan_to_num(shares) * 255), np.uint8)


def packed(shares: NDArray[np.float64], most: int = LARGE, room: int = ROOM) -> dict[str, Any]:
    """Shares ``[row, column]`` for the page: ``shape``, ``dtype``, ``levels``, and ``data``, column by column.

    Args:
        shares: in 0 to 1.
        most: cells up to which there are 256 levels; more have as many as fit.
        room: characters that ``data`` may take then.
    """
    columns = np.nan_to_num(shares).T
    for levels, each in FINEST:
        steps = np.rint(columns * (levels - 1)).astype(np.uint8).ravel()
        groups = np.pad(steps, (0, -len(steps) % each)).reshape(-1, each)
        data = text_of((groups @ levels ** np.arange(each)).astype(np.uint8).tobytes())
        if shares.size <= most or len(data) <= room:
            break
    return {"shape": list(shares.shape), "dtype": "uint8", "levels": levels, "data": data}


def overview(shares: NDArray[np.float64], rows: list[int], columns: NDArray[np.int64]) -> dict[str, Any]:
    """Means of ``shares`` over blocks of rows and columns in the order in which they are drawn, row by row."""
    ordered = np.nan_to_num(shares)[np.ix_(np.array(rows), columns)]
    shape = [min(size, most) for size, most in zip(ordered.shape, OVERVIEW, strict=True)]
    for axis, bins in enumerate(shape):
        edges = np.arange(bins) * ordered.shape[axis] // bins
        sizes = np.diff([*edges, ordered.shape[axis]])
        ordered = np.add.reduceat(ordered, edges, axis) / (sizes[:, None] if axis == 0 else sizes)
    return {"shape": shape, "data": text_of(bytes_of(ordered).tobytes())}
