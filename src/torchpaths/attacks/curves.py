"""Accuracy against the strength of an attack, with and without JPEG (ConvNet-AIG, figure 7 left)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.attacks.jpeg import QUALITY, jpeg
from torchpaths.attacks.linf import drawing_from, fgsm_of_strengths
from torchpaths.attacks.pixels import Pixels, as_levels
from torchpaths.errors import DataError
from torchpaths.trust.roc import Interval, wilson


@dataclass(frozen=True, eq=False)
class Curve:
    """How many images are right after an attack.

    Attributes:
        name: of the network, and how it is attacked.
        strengths: scale 0 to 1.
        images: how many there are.
        right: of them, as attacked, ``[strength]``.
        compressed: of them, compressed after the attack, ``[strength]``; None where that was not tried.
    """

    name: str
    strengths: tuple[float, ...]
    images: int
    right: NDArray[np.int64]
    compressed: NDArray[np.int64] | None

    def accuracy(self, right: NDArray[np.int64]) -> list[tuple[float, Interval]]:
        """Accuracy and its 95 % interval at each strength."""
        return [(int(count) / self.images, wilson(int(count), self.images)) for count in right]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""

        def told(right: NDArray[np.int64]) -> list[dict[str, Any]]:
            return [
                {"strength": as_levels(strength), "accuracy": accuracy, "interval": list(interval)}
                for strength, (accuracy, interval) in zip(self.strengths, self.accuracy(right), strict=True)
            ]

        jpeg_told = {} if self.compressed is None else {"jpeg": told(self.compressed)}
        return {"name": self.name, "images": self.images, "as_attacked": told(self.right), **jpeg_told}


def curve(
    name: str,
    pixels: Pixels,
    batches: Iterable[tuple[Tensor, Tensor]],
    strengths: Sequence[float],
    *,
    quality: int | None = QUALITY,
    draws: int = 1,
    seed: int = 0,
    attack: Callable[..., list[Tensor]] = fgsm_of_strengths,
) -> Curve:
    """Attack a network by FGSM and count.

    Args:
        name: of the curve.
        pixels: the network.
        batches: images of 0 to 1, and labels.
        strengths: scale 0 to 1; 0 is no attack.
        quality: of JPEG; None for none.
        draws: over how many passes a gradient is averaged, where gates draw.
        seed: of what gates draw.
        attack: another than FGSM, with its arguments.

    Raises:
        DataError: for no images, or such as `torchpaths.attacks.linf.fgsm` refuses.
    """
    right = np.zeros(len(strengths), np.int64)
    compressed = np.zeros(len(strengths), np.int64)
    images = 0
    for number, (x, y) in enumerate(batches):
        attacked = attack(pixels, x, y, strengths, draws=draws, seed=seed + number)
        with drawing_from(seed + number), torch.no_grad():
            for i, changed in enumerate(attacked):
                right[i] += _right(pixels, changed, y)
                if quality is not None:
                    compressed[i] += _right(pixels, jpeg(changed, quality), y)
        images += len(x)
    if not images:
        raise DataError("no images to attack; check the split and its folder.")
    return Curve(name, tuple(strengths), images, right, compressed if quality is not None else None)


def _right(pixels: Pixels, x: Tensor, y: Tensor) -> int:
    return int((pixels(x)[0].argmax(1).cpu() == y).sum())
