"""Shares in a page: bytes, deflated, as text; fewer levels where a network is so large that they would not fit."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGE = 2_000_000
"""Cells from which on shares are packed: as bytes, with the noise of few images, they would pass the page's 5 MB."""

OVERVIEW = (250, 1000)
"""Rows and columns of the means that are painted first."""


def text_of(data: bytes) -> str:
    """Bytes, deflated, in base64."""
    return base64.b64encode(zlib.compress(data, 9)).decode()


def bytes_of(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Shares in 0 to 1 as bytes, 255 for 1; NaN as 0."""
    return np.asarray(np.rint(np.nan_to_num(shares) * 255), np.uint8)


def packed(shares: NDArray[np.float64], most: int = LARGE) -> dict[str, Any]:
    """Shares ``[row, column]`` for the page: ``shape``, ``dtype``, ``levels``, ``data``.

    Args:
        shares: in 0 to 1.
        most: cells up to which they are bytes; more are six levels, three to a byte.
    """
    shape = list(shares.shape)
    if shares.size <= most:
        return {"shape": shape, "dtype": "uint8", "levels": 256, "data": text_of(bytes_of(shares).tobytes())}
    levels = np.rint(np.nan_to_num(shares) * 5).astype(np.uint8).ravel()
    triples = np.pad(levels, (0, -len(levels) % 3)).reshape(-1, 3)
    return {
        "shape": shape,
        "dtype": "uint8",
        "levels": 6,
        "data": text_of((triples @ np.array([1, 6, 36], np.uint8)).tobytes()),
    }


def overview(shares: NDArray[np.float64], rows: list[int], columns: NDArray[np.int64]) -> dict[str, Any]:
    """Means of ``shares`` over blocks of rows and columns in the order in which they are drawn."""
    ordered = np.nan_to_num(shares)[np.ix_(np.array(rows), columns)]
    shape = [min(size, most) for size, most in zip(ordered.shape, OVERVIEW, strict=True)]
    for axis, bins in enumerate(shape):
        edges = np.arange(bins) * ordered.shape[axis] // bins
        sizes = np.diff([*edges, ordered.shape[axis]])
        ordered = np.add.reduceat(ordered, edges, axis) / (sizes[:, None] if axis == 0 else sizes)
    return {"shape": shape, "data": text_of(bytes_of(ordered).tobytes())}
