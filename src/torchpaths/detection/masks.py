"""Masks of COCO's layout: polygons and run lengths to pixels, and pixels to run lengths, by the evaluation library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchpaths.errors import DataError
from torchpaths.optional import need


def decode(segmentation: Any, height: int, width: int, where: str) -> NDArray[np.uint8]:
    """An object's mask, 0 or 1, ``[height, width]``.

    Args:
        segmentation: polygons ``[[x, y, x, y, ...], ...]``, or ``{"size": [height, width], "counts": ...}`` with counts
            a list or a string.
        height: of its image.
        width: of its image.
        where: file and entry, for errors.

    Raises:
        DataError: for anything else.
    """
    mask = need("faster_coco_eval.core.mask", "detection")
    if isinstance(segmentation, Mapping):
        encoded = _run_lengths(segmentation, height, width, where)
    else:
        _check_polygons(segmentation, where)
        encoded = mask.merge(mask.frPyObjects(segmentation, height, width))
    pixels: NDArray[np.uint8] = np.ascontiguousarray(mask.decode(encoded))
    return pixels


def encode(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """A mask 0 or 1, ``[height, width]``, as run lengths in a string, fit for JSON."""
    mask = need("faster_coco_eval.core.mask", "detection")
    encoded = mask.encode(np.asfortranarray(pixels))
    counts = encoded["counts"]
    return {"size": list(encoded["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def _check_polygons(segmentation: Any, where: str) -> None:
    polygons = segmentation if isinstance(segmentation, Sequence) and not isinstance(segmentation, str) else ()
    good = [
        isinstance(p, Sequence)
        and len(p) >= 6
        and len(p) % 2 == 0
        and all(isinstance(v, (int, float)) and np.isfinite(v) for v in p)
        for p in polygons
    ]
    if not good or not all(good):
        raise DataError(
            f"{where}: 'segmentation' must be polygons of three corners or more, [[x, y, x, y, x, y, ...], ...], or "
            "run lengths {'size': ..., 'counts': ...}; correct it, or give masks=False to read boxes alone."
        )


def _run_lengths(segmentation: Mapping[str, Any], height: int, width: int, where: str) -> dict[str, Any]:
    """Run lengths that fill exactly the image: the library's decoder trusts them."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    lengths = _lengths(counts) if isinstance(counts, (str, bytes)) else counts
    whole = isinstance(lengths, list) and all(isinstance(n, int) and n >= 0 for n in lengths)
    if list(size or ()) != [height, width] or not whole or sum(lengths or ()) != height * width:
        filled = f"{sum(lengths or ())} pixels" if whole else "no run lengths"
        raise DataError(
            f"{where}: run lengths of size {size} that hold {filled} do not fill the image's {height} x {width}; "
            "correct 'segmentation', or give masks=False to read boxes alone."
        )
    if isinstance(counts, list):
        mask = need("faster_coco_eval.core.mask", "detection")
        encoded: dict[str, Any] = mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        return encoded
    return {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}


def _lengths(counts: str | bytes) -> list[int]:
    """The numbers of a counts string: five bits a character, from the fourth on differences to the one before
    the last."""
    found: list[int] = []
    value = shift = 0
    for character in counts.encode() if isinstance(counts, str) else counts:
        bits = character - 48
        if not 0 <= bits < 64:
            return [-1]
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            found.append(value + found[-2] if len(found) > 2 else value)
            value = shift = 0
    return found if not shift else [-1]
