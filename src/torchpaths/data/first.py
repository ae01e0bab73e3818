"""``First``: the first images of a loader, as often as they are asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from torchpaths.data.loader import Loader


@dataclass(frozen=True)
class First:
    """The first images of a loader."""

    loader: Loader
    count: int

    def __len__(self) -> int:
        """Batches."""
        return min(len(self.loader), math.ceil(self.count / self.loader.batch_size))

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        left = self.count
        for x, y in self.loader:
            yield x[:left], y[:left]
            left -= len(x)
            if left <= 0:
                return
