"""Random resized crops (Szegedy et al., "Going Deeper with Convolutions", 2014, section 6).

A box of random area and shape, scaled to one size. Boxes are drawn as torchvision's ``RandomResizedCrop`` draws them,
but from counters: torchvision's own draws from a global generator, which would tie an image to its batch. torchvision
cuts and scales them, one image at a time through Pillow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from torchpaths.data import noise
from torchpaths.data.decode import threaded
from torchpaths.data.scaling import Interpolation, mode

_ATTEMPTS = 10
_RATIO = (3 / 4, 4 / 3)


def random_crops(
    images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
    area: tuple[float, float],
    side: int | None,
    *,
    seed: int,
    epoch: int,
    indices: NDArray[np.int64],
    interpolation: Interpolation = "bilinear",
) -> NDArray[np.uint8]:
    """One random box of each image, scaled.

    Args:
        images: uint8 ``[n, H, W, C]``, or ``[H, W, C]`` each; C 1 or 3.
        area: least and most of a box, as a share of the image's.
        side: of the result in pixels; None for the size of the images, which is then one.
        seed: of the run.
        epoch: from 0.
        indices: ``[n]``, each image's number in its set.
        interpolation: how boxes are scaled.

    Returns:
        uint8 ``[n, side, side, C]``.
    """
    n = len(indices)
    heights, widths = (np.array([image.shape[axis] for image in images], dtype=np.int64) for axis in (0, 1))
    channels = images[0].shape[2] if n else 3
    size = [int(heights[0]), int(widths[0])] if side is None else [side, side]
    tops, lefts, talls, wides = boxes(heights, widths, area, seed=seed, epoch=epoch, indices=indices)
    cubic = noise.uniform(seed, noise.SCALING, epoch, indices) < 0.5

    def one(i: int) -> NDArray[np.uint8]:
        image = Image.fromarray(images[i] if channels == 3 else images[i][:, :, 0])
        box = int(tops[i]), int(lefts[i]), int(talls[i]), int(wides[i])
        how = mode(("bicubic" if cubic[i] else "bilinear") if interpolation == "random" else interpolation)
        return np.asarray(tv.resized_crop(image, *box, size, how), dtype=np.uint8).reshape(*size, channels)

    out = np.empty((n, *size, channels), np.uint8)
    for i, image in enumerate(threaded(one, range(n))):
        out[i] = image
    return out


def boxes(
    height: ArrayLike, width: ArrayLike, area: tuple[float, float], *, seed: int, epoch: int, indices: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Top, left, height and width ``[n]`` of the box of each image; arguments as of `random_crops`, ``height`` and
    ``width`` of the images, one for all or ``[n]``.

    The first of ten attempts that fits; the centre, in a shape that is allowed, where none does.
    """
    tries = np.arange(_ATTEMPTS)
    height, width = (np.broadcast_to(np.asarray(v, dtype=np.int64), indices.shape) for v in (height, width))
    draws = [noise.uniform(seed, noise.RESIZED, epoch, indices[:, None], draw, tries) for draw in range(4)]
    wanted = (area[0] + (area[1] - area[0]) * draws[0]) * (height * width)[:, None]
    low, high = np.log(_RATIO)
    ratio = np.exp(low + (high - low) * draws[1])
    tall = np.round(np.sqrt(wanted / ratio)).astype(np.int64)
    wide = np.round(np.sqrt(wanted * ratio)).astype(np.int64)
    fits = (tall >= 1) & (tall <= height[:, None]) & (wide >= 1) & (wide <= width[:, None])
    first = (np.arange(len(indices)), fits.argmax(1))
    tall, wide = tall[first], wide[first]
    top = (draws[2][first] * (height - tall + 1)).astype(np.int64)
    left = (draws[3][first] * (width - wide + 1)).astype(np.int64)
    none = ~fits.any(1)
    whole_tall = np.minimum(height, np.round(width / _RATIO[0]).astype(np.int64))
    whole_wide = np.minimum(width, np.round(height * _RATIO[1]).astype(np.int64))
    centre = (height - whole_tall) // 2, (width - whole_wide) // 2, whole_tall, whole_wide
    found = [np.where(none, middle, drawn) for middle, drawn in zip(centre, (top, left, tall, wide), strict=True)]
    return found[0], found[1], found[2], found[3]


def room(side: int) -> int:
    """Side of the images of which crops are taken: more pixels than are shown, as a crop is a part of them."""
    return math.ceil(side * 5 / 4)
