"""Augmentation as a pure function of (seed, epoch, index).

What happens to an image never depends on its batch, rank or worker, so a run that was cut off, or spread over other
machines, sees the same pixels. Padding, cropping, flipping and erasing work on whole batches; resized crops and
RandAugment's operations are torchvision's, given parameters of ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from torchpaths.data import noise
from torchpaths.errors import DataError

_ATTEMPTS = 10  # boxes tried per image before erasing is given up, as in torchvision and timm


@dataclass(frozen=True, slots=True)
class Augment:
    """Random changes to training images, in this order.

    Attributes:
        crop: (least, most) share of the area of a random box that is scaled to the image's size, as torchvision's
            ``RandomResizedCrop``; (0.35, 1.0) is gentle, (0.08, 1.0) usual for training on ImageNet from scratch. None
            for none.
        randaugment: (operations, magnitude 0 to 30) of `torchpaths.data.randaugment`; None for none.
        pad: zero pixels on each side, of which a crop of the image's size is taken; 4 is usual on CIFAR.
        flip: mirror left to right, with probability 1/2.
        erase: probability that a box is filled with random pixels (Zhong et al., "Random Erasing Data Augmentation",
            2017, algorithm 1: 2 to 40 % of the area, aspect ratio 0.3 to 1/0.3).

    Raises:
        DataError: for a value out of range.
    """

    pad: int = 0
    flip: bool = False
    randaugment: tuple[int, int] | None = None
    erase: float = 0.0
    crop: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise DataError(f"pad={self.pad}: give zero or more pixels.")
        if self.crop is not None and not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise DataError(
                f"crop={self.crop}: give least and most of the area, above 0 and up to 1, e.g. (0.35, 1.0)."
            )
        if not 0 <= self.erase <= 1:
            raise DataError(f"erase={self.erase}: give a probability, 0 to 1.")
        if self.randaugment is not None and not (self.randaugment[0] >= 1 and 0 <= self.randaugment[1] <= 30):
            raise DataError(
                f"randaugment={self.randaugment}: give (operations from 1, magnitude 0 to 30), e.g. (2, 9)."
            )

    def __call__(
        self, images: NDArray[np.uint8], *, seed: int, epoch: int, indices: ArrayLike, side: int | None = None
    ) -> NDArray[np.uint8]:
        """Augmented copies.

        Args:
            images: uint8 ``[n, H, W, C]``.
            seed: of the run.
            epoch: from 0.
            indices: ``[n]``, each image's number in its set.
            side: of resized crops in pixels; None for the size of the images.

        Returns:
            uint8 ``[n, H, W, C]``, of resized crops ``[n, side, side, C]``.
        """
        which = np.asarray(indices, dtype=np.int64)
        if which.shape != images.shape[:1]:
            raise DataError(
                f"{len(images)} images came with indices of shape {list(which.shape)}; give one index per image."
            )
        # torchvision's transforms take a second to import.
        if self.crop is not None:
            from torchpaths.data.crops import random_crops

            images = random_crops(images, self.crop, side, seed=seed, epoch=epoch, indices=which)
        if self.randaugment is not None:
            from torchpaths.data.randaugment import randaugment

            images = randaugment(images, *self.randaugment, seed=seed, epoch=epoch, indices=which)
        images = _crop_flip(images, self.pad, self.flip, seed, epoch, which)
        return _erase(images, self.erase, seed, epoch, which) if self.erase else images


def _crop_flip(
    images: NDArray[np.uint8], pad: int, flip: bool, seed: int, epoch: int, which: NDArray[np.int64]
) -> NDArray[np.uint8]:
    n, height, width, channels = images.shape
    padded = np.zeros((n, height + 2 * pad, width + 2 * pad, channels), np.uint8)
    padded[:, pad : pad + height, pad : pad + width] = images
    top, left = noise.integers(2 * pad + 1, seed, noise.CROP, epoch, which, [[0], [1]])
    mirrored = noise.uniform(seed, noise.FLIP, epoch, which) < 0.5 * flip
    out = np.empty_like(images)
    # One copy per image: numpy gathers single pixels several times more slowly.
    for i, (y, x, mirror) in enumerate(zip(top.tolist(), left.tolist(), mirrored.tolist(), strict=True)):
        crop = padded[i, y : y + height, x : x + width]
        out[i] = crop[:, ::-1] if mirror else crop
    return out


def _erase(
    images: NDArray[np.uint8], probability: float, seed: int, epoch: int, which: NDArray[np.int64]
) -> NDArray[np.uint8]:
    n, height, width, channels = images.shape
    chosen = noise.uniform(seed, noise.ERASE, epoch, which, 0) < probability
    tries = np.arange(_ATTEMPTS)
    draws = [noise.uniform(seed, noise.ERASE, epoch, which[:, None], draw, tries) for draw in (1, 2, 3, 4)]
    area = (0.02 + 0.38 * draws[0]) * height * width
    ratio = np.exp(math.log(0.3) * (1 - 2 * draws[1]))
    tall = np.round(np.sqrt(area * ratio)).astype(np.int64)
    wide = np.round(np.sqrt(area / ratio)).astype(np.int64)
    fits = (tall >= 1) & (tall < height) & (wide >= 1) & (wide < width)
    first = (np.arange(n), fits.argmax(1))  # of the attempts that fit; the first if none does
    chosen &= fits[first]
    tall, wide = tall[first], wide[first]
    top = (draws[2][first] * (height - tall + 1)).astype(np.int64)
    left = (draws[3][first] * (width - wide + 1)).astype(np.int64)
    for i in np.flatnonzero(chosen).tolist():
        y, x, h, w = int(top[i]), int(left[i]), int(tall[i]), int(wide[i])
        pixels = noise.integers(256, seed, noise.ERASE, epoch, which[i], 5, np.arange(h * w * channels))
        images[i, y : y + h, x : x + w] = pixels.reshape(h, w, channels)
    return images
