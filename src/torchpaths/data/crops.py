"""Random resized crops (Szegedy et al., "Going Deeper with Convolutions", 2014, section 6).

A box of random area and shape, scaled to one size. Boxes are drawn as torchvision's ``RandomResizedCrop`` draws them,
but from counters: torchvision's own draws from a global generator, which would tie an image to its batch. torchvision
cuts and scales them, one image at a time through Pillow.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from torchpaths.data import noise
from torchpaths.data.decode import threaded

_ATTEMPTS = 10
_RATIO = (3 / 4, 4 / 3)


def random_crops(
    images: NDArray[np.uint8],
    area: tuple[float, float],
    side: int | None,
    *,
    seed: int,
    epoch: int,
    indices: NDArray[np.int64],
) -> NDArray[np.uint8]:
    """One random box of each image, scaled.

    Args:
        images: uint8 ``[n, H, W, C]``, C 1 or 3.
        area: least and most of a box, as a share of the image's.
        side: of the result in pixels; None for the size of the images.
        seed: of the run.
        epoch: from 0.
        indices: ``[n]``, each image's number in its set.

    Returns:
        uint8 ``[n, side, side, C]``.
    """
    n, height, width, channels = images.shape
    size = [height, width] if side is None else [side, side]
    tops, lefts, talls, wides = boxes(height, width, area, seed=seed, epoch=epoch, indices=indices)

    def one(i: int) -> NDArray[np.uint8]:
        image = Image.fromarray(images[i] if channels == 3 else images[i, :, :, 0])
        box = int(tops[i]), int(lefts[i]), int(talls[i]), int(wides[i])
        return np.asarray(tv.resized_crop(image, *box, size), dtype=np.uint8).reshape(*size, channels)

    out = np.empty((n, *size, channels), np.uint8)
    for i, image in enumerate(threaded(one, range(n))):
        out[i] = image
    return out


def boxes(
    height: int, width: int, area: tuple[float, float], *, seed: int, epoch: int, indices: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Top, left, height and width ``[n]`` of the box of each image; arguments as of `random_crops`.

    The first of ten attempts that fits; the centre, in a shape that is allowed, where none does.
    """
    tries = np.arange(_ATTEMPTS)
    draws = [noise.uniform(seed, noise.RESIZED, epoch, indices[:, None], draw, tries) for draw in range(4)]
    wanted = (area[0] + (area[1] - area[0]) * draws[0]) * height * width
    low, high = np.log(_RATIO)
    ratio = np.exp(low + (high - low) * draws[1])
    tall = np.round(np.sqrt(wanted / ratio)).astype(np.int64)
    wide = np.round(np.sqrt(wanted * ratio)).astype(np.int64)
    fits = (tall >= 1) & (tall <= height) & (wide >= 1) & (wide <= width)
    first = (np.arange(len(indices)), fits.argmax(1))
    tall, wide = tall[first], wide[first]
    top = (draws[2][first] * (height - tall + 1)).astype(np.int64)
    left = (draws[3][first] * (width - wide + 1)).astype(np.int64)
    none = ~fits.any(1)
    whole_tall = min(height, round(width / _RATIO[0]))
    whole_wide = min(width, round(height * _RATIO[1]))
    centre = (height - whole_tall) // 2, (width - whole_wide) // 2, whole_tall, whole_wide
    found = [np.where(none, middle, drawn) for middle, drawn in zip(centre, (top, left, tall, wide), strict=True)]
    return found[0], found[1], found[2], found[3]


def room(side: int) -> int:
    """Side of the images of which crops are taken: more pixels than are shown, as a crop is a part of them."""
    return math.ceil(side * 5 / 4)
