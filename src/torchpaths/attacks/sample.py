"""``Sample``: some images of a set, kept as they are, and handed out as an attacker and as a network see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from torchpaths.data import ImageSet
from torchpaths.errors import DataError
from torchpaths.whole import is_whole, whole


@dataclass(frozen=True, eq=False)
class Sample:
    """Images with labels.

    Attributes:
        x: ``[image, channel, height, width]``, uint8 levels or floats of 0 to 1.
        labels: long ``[image]``.
    """

    x: Tensor
    labels: Tensor

    @classmethod
    def of(cls, images: ImageSet, most: int | None, seed: int = 0) -> Sample:
        """So many images as they come by chance, or all in order.

        Raises:
            DataError: for less than one.
        """
        if most is not None and not is_whole(most, 1):
            raise DataError(f"{most!r} images: take at least one, or leave the number out for all.")
        order = np.arange(len(images))
        if most is not None and most < len(images):
            order = np.random.default_rng(whole(seed, "seed", DataError)).permutation(len(images))[:most]
        pixels = torch.from_numpy(images.read(order)).permute(0, 3, 1, 2)
        return cls(pixels, torch.from_numpy(images.labels[order]))

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, count: int) -> Sample:
        """The first so many."""
        return Sample(self.x[:count], self.labels[:count])

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images of 0 to 1, float32, and labels."""
        for start in range(0, len(self), size):
            x = self.x[start : start + size]
            yield x if x.is_floating_point() else x.float() / 255, self.labels[start : start + size]

    def normalised(self, mean: Sequence[float], std: Sequence[float], size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The same, normalised for a network."""
        middle, spread = (torch.tensor(values).view(1, -1, 1, 1) for values in (mean, std))
        for x, y in self.batches(size):
            yield (x - middle) / spread, y

    def attacked(self, attack: Callable[[Tensor, Tensor, int], Tensor], size: int) -> Sample:
        """The images after an attack, ``(x, labels, number of the batch) -> x``. Raises `DataError` for no images."""
        if not len(self):
            raise DataError("no images to attack; take at least one.")
        parts = [attack(x, y, number).cpu() for number, (x, y) in enumerate(self.batches(size))]
        return Sample(torch.cat(parts), self.labels)
