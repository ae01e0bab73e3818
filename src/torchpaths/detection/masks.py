"""Masks of COCO's layout: polygons and run lengths to pixels, and pixels to run lengths, by the evaluation library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchpaths.errors import DataError, clip
from torchpaths.optional import need


def check(segmentation: Any, height: int, width: int, where: str) -> None:
    """What the library's decoder trusts: it would read past the end, take all memory, or draw something else.

    Args:
        segmentation: polygons ``[[x, y, x, y, ...], ...]``, or ``{"size": [height, width], "counts": ...}`` with counts
            a list or a string.
        height: of its image.
        width: of its image.
        where: file and entry, for errors.

    Raises:
        DataError: for anything else, for run lengths that do not fill the image, and for corners further outside it
            than it is long.
    """
    if isinstance(segmentation, Mapping):
        _check_run_lengths(segmentation, height, width, where)
    else:
        _check_polygons(segmentation, height, width, where)


def decode(segmentation: Any, height: int, width: int) -> NDArray[np.uint8]:
    """An object's mask, 0 or 1, ``[height, width]``.

    Args:
        segmentation: which `check` accepts.
        height: of its image.
        width: of its image.
    """
    mask = need("faster_coco_eval.core.mask", "detection")
    if not isinstance(segmentation, Mapping):
        encoded = mask.merge(mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        encoded = mask.frPyObjects(dict(segmentation), height, width)
    else:
        counts = segmentation["counts"]
        encoded = {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}
    pixels: NDArray[np.uint8] = np.ascontiguousarray(mask.decode(encoded))
    return pixels


def encode(pixels: NDArray[np.uint8]) -> dict[str, Any]:
    """A mask 0 or 1, ``[height, width]``, as run lengths in a string, fit for JSON."""
    mask = need("faster_coco_eval.core.mask", "detection")
    encoded = mask.encode(np.asfortranarray(pixels))
    counts = encoded["counts"]
    return {"size": list(encoded["size"]), "counts": counts.decode() if isinstance(counts, bytes) else counts}


def _check_polygons(segmentation: Any, height: int, width: int, where: str) -> None:
    polygons = segmentation if isinstance(segmentation, Sequence) and not isinstance(segmentation, str) else ()
    good = [
        isinstance(p, Sequence) and len(p) >= 6 and len(p) % 2 == 0 and all(type(v) in (int, float) for v in p)
        for p in polygons
    ]
    if not good or not all(good):
        raise DataError(
            f"{where}: 'segmentation' must be polygons of three corners or more, [[x, y, x, y, x, y, ...], ...], or "
            "run lengths {'size': ..., 'counts': ...}; correct it, or give masks=False to read boxes alone."
        )
    for axis, side in enumerate((width, height)):
        # What lies outside is cut off; but the decoder walks along each edge, pixel by pixel.
        far = [v for p in polygons for v in p[axis::2] if not -side <= v <= 2 * side]
        if far:
            raise DataError(
                f"{where}: 'segmentation' has a corner at {'xy'[axis]} = {far[0]:g}, far outside the image of "
                f"{width} x {height}; correct it, or give masks=False to read boxes alone."
            )


def _check_run_lengths(segmentation: Mapping[str, Any], height: int, width: int, where: str) -> None:
    """They fill exactly the image."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    lengths = _lengths(counts) if isinstance(counts, (str, bytes)) else counts
    whole = isinstance(lengths, list) and all(type(n) is int and n >= 0 for n in lengths)
    if size != [height, width] or not whole or sum(lengths or ()) != height * width:
        filled = f"{sum(lengths or ())} pixels" if whole else "no run lengths"
        raise DataError(
            f"{where}: run lengths of size {clip(repr(size), 60)} that hold {clip(filled, 60)} do not fill the image's "
            f"{height} x {width}; correct 'segmentation', or give masks=False to read boxes alone."
        )


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
        if shift > 35:  # more than any image has pixels
            return [-1]
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            found.append(value + found[-2] if len(found) > 2 else value)
            value = shift = 0
    return found if not shift else [-1]
