"""``Kept``: which images a survey keeps path and prediction of: all, or so many that a hash of their numbers draws.

The sample is a function of the images' numbers alone, so it does not depend on batches, and what several processes kept
of their images comes to the sample that one would have kept.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from torchpaths.errors import DataError
from torchpaths.surveys.counts import Samples
from torchpaths.surveys.taken import Ints

_FIELDS = tuple(field.name for field in dataclasses.fields(Samples))


class Kept:
    """Images kept so far.

    Args:
        units: of the network.
        most: how many to keep; 0 for none, None for all.
    """

    def __init__(self, units: int, most: int | None) -> None:
        self.most = most
        nothing = np.zeros(0, np.int64)
        self._parts = [Samples(np.zeros((0, -(-units // 8)), np.uint8), *(nothing,) * 4)]
        self._pending = 0

    def add(self, images: Samples) -> None:
        """Some more."""
        if self.most == 0:
            return
        self._parts.append(images)
        self._pending += len(images.numbers)
        if self.most is not None and self._pending > max(self.most, 4096):
            self._merge()

    def samples(self) -> Samples | None:
        """Those kept, in order of their numbers; None if none were to be.

        Raises:
            DataError: for a number that two images have.
        """
        if self.most == 0:
            return None
        self._merge()
        [all_] = self._parts
        order = np.argsort(all_.numbers, kind="stable")
        check_apart(all_.numbers)
        return _taken(all_, order)

    def _merge(self) -> None:
        """One part of the parts, the images of the smallest hashes."""
        columns = (np.concatenate([getattr(part, name) for part in self._parts]) for name in _FIELDS)
        merged = Samples(*columns)
        if self.most is not None and len(merged.numbers) > self.most:
            merged = _taken(merged, np.argsort(_hash(merged.numbers), kind="stable")[: self.most])
        self._parts, self._pending = [merged], 0


def check_apart(numbers: Ints) -> None:
    """Raise `DataError` for a number that two images have."""
    ordered = np.sort(numbers)
    if (twice := ordered[1:] == ordered[:-1]).any():
        raise DataError(
            f"two images have the number {int(ordered[1:][twice][0])}; give each process the numbers of its own "
            "images: survey(net, loader, numbers=range(first, last))."
        )


def _taken(samples: Samples, rows: Ints) -> Samples:
    return Samples(*(np.ascontiguousarray(getattr(samples, name)[rows]) for name in _FIELDS))


def _hash(numbers: Ints) -> NDArray[np.uint64]:
    """A bijection that mixes whole numbers (the finaliser of SplitMix64), so that no two images are alike."""
    mixed = numbers.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))
