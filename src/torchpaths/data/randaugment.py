"""RandAugment (Cubuk et al., 2019): some random operations per image, all of one magnitude.

The operations and their ranges are torchvision's, called one image at a time through Pillow, so that a result depends
on no other image; torchvision's own class draws from a global generator, which would tie an image to its batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from torchpaths.data import noise
from torchpaths.data.decode import threaded

_MOST = 30


def _shear(image: Image.Image, x: float, y: float) -> Image.Image:
    angles = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    sheared: Image.Image = tv.affine(image, angle=0.0, translate=[0, 0], scale=1.0, shear=angles, center=[0.0, 0.0])
    return sheared


def _translate(image: Image.Image, x: float, y: float) -> Image.Image:
    pixels = [int(x), int(y)]
    moved: Image.Image = tv.affine(image, angle=0.0, translate=pixels, scale=1.0, shear=[0.0, 0.0])
    return moved


# level: magnitude / 30, from 0 to 1; sign: +1 or -1, for the operations that have two directions.
OPERATIONS: dict[str, Callable[[Image.Image, float, float], Image.Image]] = {
    "identity": lambda image, level, sign: image,
    "shear_x": lambda image, level, sign: _shear(image, sign * 0.3 * level, 0.0),
    "shear_y": lambda image, level, sign: _shear(image, 0.0, sign * 0.3 * level),
    "translate_x": lambda image, level, sign: _translate(image, sign * 150 / 331 * image.width * level, 0.0),
    "translate_y": lambda image, level, sign: _translate(image, 0.0, sign * 150 / 331 * image.height * level),
    "rotate": lambda image, level, sign: tv.rotate(image, sign * 30.0 * level),
    "brightness": lambda image, level, sign: tv.adjust_brightness(image, 1.0 + sign * 0.9 * level),
    "color": lambda image, level, sign: tv.adjust_saturation(image, 1.0 + sign * 0.9 * level),
    "contrast": lambda image, level, sign: tv.adjust_contrast(image, 1.0 + sign * 0.9 * level),
    "sharpness": lambda image, level, sign: tv.adjust_sharpness(image, 1.0 + sign * 0.9 * level),
    "posterize": lambda image, level, sign: tv.posterize(image, 8 - round(4 * level)),
    "solarize": lambda image, level, sign: tv.solarize(image, 255 * (1 - level)),
    "autocontrast": lambda image, level, sign: tv.autocontrast(image),
    "equalize": lambda image, level, sign: tv.equalize(image),
}
"""torchvision's space of operations: (image, level, sign) -> image."""

_NAMES = tuple(OPERATIONS)


def randaugment(
    images: NDArray[np.uint8], operations: int, magnitude: int, *, seed: int, epoch: int, indices: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Apply ``operations`` random operations, drawn with replacement, to each image.

    Args:
        images: uint8 ``[n, H, W, C]``, C 1 or 3.
        operations: how many per image.
        magnitude: 0 to 30, on torchvision's scale (30 is the strongest). timm's are of another scale, operations and
            probability; they are a policy, see `torchpaths.data.policies`.
        seed: of the run.
        epoch: from 0.
        indices: ``[n]``, each image's number in its set.

    Returns:
        uint8 ``[n, H, W, C]``; pixels that come from outside the image are black.
    """
    level = magnitude / _MOST
    slots = np.arange(operations)
    drawn = noise.integers(len(_NAMES), seed, noise.RANDAUGMENT, epoch, indices[:, None], 0, slots)
    signs = np.where(noise.uniform(seed, noise.RANDAUGMENT, epoch, indices[:, None], 1, slots) < 0.5, -1.0, 1.0)

    def one(i: int) -> NDArray[np.uint8]:
        image = Image.fromarray(images[i] if images.shape[3] == 3 else images[i, :, :, 0])
        for operation, sign in zip(drawn[i], signs[i], strict=True):
            image = OPERATIONS[_NAMES[operation]](image, level, float(sign))
        return np.asarray(image, dtype=np.uint8).reshape(images.shape[1:])

    out = np.empty_like(images)
    for i, image in enumerate(threaded(one, range(len(images)))):
        out[i] = image
    return out
