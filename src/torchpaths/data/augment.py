"""Augmentation as a pure function of (seed, epoch, index).

What happens to an image never depends on its batch, rank or worker, so a run that was cut off, or spread over other
machines, sees the same pixels. Padding, cropping, mirroring and one way of erasing work on whole batches; resized crops
and ``randaugment`` are torchvision's operations, given parameters of ours; policies, colours and the other ways of
erasing are transforms of timm and torchvision, their generators seeded for each image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor

from torchpaths.data import noise, policies
from torchpaths.data.drawn import each
from torchpaths.data.erasing import Fill, erasing
from torchpaths.data.scaling import Interpolation
from torchpaths.errors import DataError, near

_ATTEMPTS = 10  # boxes tried per image before erasing is given up, as in torchvision and timm
_GREY = (0.5, 0.5, 0.5)
_KNOWN: dict[str, tuple[str, ...]] = {
    "interpolation": ("bilinear", "bicubic", "random"),
    "erase_fill": ("bytes", "zero", "normal"),
}


@dataclass(frozen=True, slots=True)
class Augment:
    """Random changes to training images, in this order: crop, randaugment, policy, jitter, pad, flip, erase. timm and
    torchvision mirror before their policies; as both directions are equally likely, it makes no difference.

    Attributes:
        crop: (least, most) share of the area of a random box that is scaled to the image's size, as torchvision's
            ``RandomResizedCrop``; (0.35, 1.0) is gentle, (0.08, 1.0) usual for training on ImageNet from scratch. None
            for none.
        whole: take these boxes of the images as they are stored, each read anew every time, as the papers do; otherwise
            of squares somewhat larger than the image's size, which are read once where they fit into memory.
        interpolation: how boxes are scaled, and images turned by a policy.
        randaugment: (operations, magnitude 0 to 30) of `torchpaths.data.randaugment`; None for none.
        policy: of timm or torchvision by name, see `torchpaths.data.policies`: "rand-m9-mstd0.5", "ta_wide".
        jitter: brightness, contrast and saturation change by up to this share, in random order.
        pad: zero pixels on each side, of which a crop of the image's size is taken; 4 is usual on CIFAR.
        flip: probability of mirroring left to right. True is a half, as older versions wrote it.
        erase: probability that a box is filled.
        erase_fill: with what. "bytes": random pixels (Zhong et al., "Random Erasing Data Augmentation", 2017,
            algorithm 1: 2 to 40 % of the area, aspect ratio 0.3 to 1/0.3); "zero" and "normal" after normalisation, as
            torchvision and timm do, see `torchpaths.data.erasing`.
        erase_count: most boxes of one image, with "normal"; they share the area.

    Raises:
        DataError: for a value out of range, a policy that neither library knows.
    """

    pad: int = 0
    flip: float | bool = 0.0
    randaugment: tuple[int, int] | None = None
    erase: float = 0.0
    crop: tuple[float, float] | None = None
    whole: bool = False
    interpolation: Interpolation = "bilinear"
    policy: str | None = None
    jitter: float = 0.0
    erase_fill: Fill = "bytes"
    erase_count: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.flip, bool):
            object.__setattr__(self, "flip", 0.5 * self.flip)
        if self.pad < 0:
            raise DataError(f"pad={self.pad}: give zero or more pixels.")
        if self.crop is not None and not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise DataError(
                f"crop={self.crop}: give least and most of the area, above 0 and up to 1, e.g. (0.35, 1.0)."
            )
        if self.whole and self.crop is None:
            raise DataError("whole=True takes crops of whole images, and crop is None; give it, e.g. (0.08, 1.0).")
        for name in ("erase", "flip"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(f"{name}={getattr(self, name)}: give a probability, 0 to 1.")
        if not 0 <= self.jitter < math.inf:
            raise DataError(f"jitter={self.jitter}: give a share by which colours change, e.g. 0.4.")
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                raise DataError(f"{name}={getattr(self, name)!r} is unknown. {near(str(getattr(self, name)), known)}")
        if self.erase_count < 1 or (self.erase_count > 1 and self.erase_fill != "normal"):
            raise DataError(
                f"erase_count={self.erase_count}: 1, or more boxes with erase_fill='normal', which is timm's."
            )
        if self.randaugment is not None and not (self.randaugment[0] >= 1 and 0 <= self.randaugment[1] <= 30):
            raise DataError(
                f"randaugment={self.randaugment}: give (operations from 1, magnitude 0 to 30), e.g. (2, 9)."
            )
        if self.policy is not None:
            policies.check(self.policy)

    @property
    def drawn(self) -> bool:
        """Whether parts of it draw from global generators, so that no thread may run it beside another that does."""
        return self.policy is not None or self.jitter > 0 or self._erases_later

    @property
    def _erases_later(self) -> bool:
        return self.erase > 0 and self.erase_fill != "bytes"

    def __call__(
        self,
        images: NDArray[np.uint8] | Sequence[NDArray[np.uint8]],
        *,
        seed: int,
        epoch: int,
        indices: ArrayLike,
        side: int | None = None,
        mean: Sequence[float] = _GREY,
    ) -> NDArray[np.uint8]:
        """Augmented copies, but for what is done `after` normalisation.

        Args:
            images: uint8 ``[n, H, W, C]``; for ``whole`` also ``[H, W, C]`` each, of any size.
            seed: of the run.
            epoch: from 0.
            indices: ``[n]``, each image's number in its set.
            side: of resized crops in pixels; None for the size of the images.
            mean: colour that a policy of timm's shows outside of the image, scale 0 to 1, of each channel.

        Returns:
            uint8 ``[n, H, W, C]``, of resized crops ``[n, side, side, C]``.
        """
        which = np.asarray(indices, dtype=np.int64)
        if which.shape != (len(images),):
            raise DataError(
                f"{len(images)} images came with indices of shape {list(which.shape)}; give one index per image."
            )
        # torchvision's transforms take a second to import.
        if self.crop is not None:
            from torchpaths.data.crops import random_crops

            images = random_crops(
                images, self.crop, side, seed=seed, epoch=epoch, indices=which, interpolation=self.interpolation
            )
        pixels = np.asarray(images)
        if self.randaugment is not None:
            from torchpaths.data.randaugment import randaugment

            pixels = randaugment(pixels, *self.randaugment, seed=seed, epoch=epoch, indices=which)
        if self.policy is not None:
            fill = policies.grey_levels(mean[: pixels.shape[3]])
            chosen = policies.policy(self.policy, self.interpolation, fill, min(pixels.shape[1:3]))
            pixels = _drawn(chosen, pixels, noise.bits(seed, noise.POLICY, epoch, which))
        if self.jitter:
            pixels = _drawn(policies.jitter(self.jitter), pixels, noise.bits(seed, noise.JITTER, epoch, which))
        if self.pad or self.flip:
            pixels = _crop_flip(pixels, self.pad, float(self.flip), seed, epoch, which)
        if self.erase and self.erase_fill == "bytes":
            pixels = _erase(pixels.copy(), self.erase, seed, epoch, which)
        return pixels

    def after(self, x: Tensor, *, seed: int, epoch: int, indices: ArrayLike) -> Tensor:
        """What is done to normalised images float32 ``[n, C, H, W]``, in place; arguments as of a call."""
        if self._erases_later:
            erase = erasing(self.erase, self.erase_fill, self.erase_count)
            seeds = noise.bits(seed, noise.ERASE, epoch, np.asarray(indices, dtype=np.int64))
            for image, erased in zip(x, each(erase, list(x), seeds), strict=True):
                image.copy_(erased)
        return x


def _drawn(
    transform: Callable[[Image.Image], Image.Image], images: NDArray[np.uint8], seeds: NDArray[np.uint64]
) -> NDArray[np.uint8]:
    """A library's transform of every image."""
    if not len(images):
        return images
    shape = images.shape[1:]
    opened = [Image.fromarray(image if shape[2] == 3 else image[:, :, 0]) for image in images]
    return np.stack([np.asarray(image, dtype=np.uint8).reshape(shape) for image in each(transform, opened, seeds)])


def _crop_flip(
    images: NDArray[np.uint8], pad: int, flip: float, seed: int, epoch: int, which: NDArray[np.int64]
) -> NDArray[np.uint8]:
    n, height, width, channels = images.shape
    padded = np.zeros((n, height + 2 * pad, width + 2 * pad, channels), np.uint8)
    padded[:, pad : pad + height, pad : pad + width] = images
    top, left = noise.integers(2 * pad + 1, seed, noise.CROP, epoch, which, [[0], [1]])
    mirrored = noise.uniform(seed, noise.FLIP, epoch, which) < flip
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
