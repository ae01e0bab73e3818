"""Which paths images took, by class and prediction: ``Taken``, a table of bounded size that adds up exactly.

Where there are more different paths than are kept (`most_kept`), those whose hash is smallest stay, a sample of them
that depends on the paths alone: neither on the order of images nor on how they were shared among processes. A path in
the sample was never out of it, so its counts are exact; how many paths there were is then estimated from how densely
the hashes lie (bottom-k sketch: Cohen and Kaplan, *Summarizing data using bottom-k sketches*, PODC 2007).
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
Bits: TypeAlias = NDArray[np.uint8]

TOP_PATHS = 20
"""How many of the most frequent paths a survey names."""

MOST_BYTES = 2**29
"""What a table of paths may take in memory."""
_ROW = 400
"""Bytes that a path takes beside its bits."""
_HASHES = 2**64


def most_kept(units: int) -> int:
    """How many different paths of so many units are kept."""
    return MOST_BYTES // (-(-units // 8) + _ROW)


@dataclass(frozen=True)
class PathCount:
    """One of the most frequent paths.

    Attributes:
        packed: the path's bits in layout order, 8 units per byte, the first unit in the highest bit.
        count: images that took it.
        label: the class that most of them belong to (the first of equals).
        share: images of that class with this very path, as a share of the class.
    """

    packed: bytes
    count: int
    label: int
    share: float


@dataclass(frozen=True, eq=False)
class Taken:
    """How many images of each class took each path and were taken for which class, a row for each such combination.

    Attributes:
        packed: uint8 ``[row, ceil(units / 8)]``, see `PathCount.packed`.
        labels: int64 ``[row]``, the images' class.
        predictions: int64 ``[row]``, the class of the highest score.
        counts: int64 ``[row]``, images.
        whole: whether every path is there, and not a sample of them.

    Rows are in order of bits, label and prediction.
    """

    packed: Bits
    labels: Ints
    predictions: Ints
    counts: Ints
    whole: bool = True

    def groups(self) -> list[tuple[int, int]]:
        """The rows of each path, first and behind the last."""
        if not len(self.packed):
            return []
        new = np.flatnonzero((self.packed[1:] != self.packed[:-1]).any(1)) + 1
        ends = [0, *new.tolist(), len(self.packed)]
        return list(itertools.pairwise(ends))

    @property
    def distinct(self) -> int:
        """How many different paths were taken; an estimate where not all were kept."""
        starts = [start for start, _ in self.groups()]
        if self.whole:
            return len(starts)
        largest = max(hashed(self.packed[start].tobytes()) for start in starts)
        return round((len(starts) - 1) / (largest / _HASHES))

    def top(self, most: int, images: Ints) -> tuple[PathCount, ...]:
        """The most frequent paths; equals in order of their bits, so the order of images does not matter.

        Args:
            most: how many at most.
            images: of each class, int64 ``[class]``.
        """
        groups = self.groups()
        totals = np.array([self.counts[start:stop].sum() for start, stop in groups], np.int64)
        found = []
        for number in np.argsort(-totals, kind="stable")[:most].tolist():
            rows = slice(*groups[number])
            by_class = np.bincount(self.labels[rows], self.counts[rows])
            label = int(by_class.argmax())
            share = int(by_class[label]) / int(images[label])
            found.append(PathCount(self.packed[rows.start].tobytes(), int(totals[number]), label, share))
        return tuple(found)

    def confusion(self, packed: bytes) -> Ints:
        """Of the images that took a path, how many of a class were taken for which: int64 ``[row, 3]``, rows of class,
        prediction and count; none for a path that nobody took."""
        rows = (self.packed == np.frombuffer(packed, np.uint8)).all(1)
        return np.stack([self.labels[rows], self.predictions[rows], self.counts[rows]], 1)

    def share(self, packed: Bits, labels: Ints, images: Ints) -> NDArray[np.float64]:
        """How common a path is: the share of a class's images that took this very one.

        Args:
            packed: paths, uint8 ``[n, ceil(units / 8)]``.
            labels: for each the class it is compared with, int64 ``[n]``.
            images: of each class, int64 ``[class]``.

        Returns:
            float64 ``[n]``; 0 for a path that none of them took, NaN for a class without images, and, where only a
            sample of paths is known, for a path that is not in it.
        """
        found: Counter[tuple[bytes, int]] = Counter()
        for row, label, count in zip(self.packed, self.labels.tolist(), self.counts.tolist(), strict=True):
            found[row.tobytes(), label] += count
        known = None if self.whole else {path for path, _ in found}
        shares = np.full(len(packed), np.nan)
        for i, (row, label) in enumerate(zip(packed, labels.tolist(), strict=True)):
            bits = row.tobytes()
            if images[label] and (known is None or bits in known):
                shares[i] = found[bits, label] / int(images[label])
        return shares


class TakenSoFar:
    """A `Taken` while it is counted.

    Args:
        units: of the network.
    """

    def __init__(self, units: int) -> None:
        self.width = -(-units // 8)
        self.most = most_kept(units)
        self.counts: Counter[tuple[bytes, int, int]] = Counter()
        self.paths: set[bytes] = set()
        self.limit = _HASHES  # paths of this hash and above are out of the sample

    def add(self, packed: Bits, labels: Iterable[int], predictions: Iterable[int]) -> None:
        """Images: uint8 ``[batch, width]``, and their classes and predictions."""
        for row, label, prediction in zip(packed, labels, predictions, strict=True):
            self._add(row.tobytes(), label, prediction, 1)
        if len(self.paths) > 2 * self.most:
            self._prune()

    def join(self, other: Taken) -> None:
        """What was counted elsewhere."""
        columns = (column.tolist() for column in (other.labels, other.predictions, other.counts))
        for row, *rest in zip(other.packed, *columns, strict=True):
            self._add(row.tobytes(), *rest)
        if not other.whole:  # it kept as many as it may
            self.limit = min(self.limit, max(hashed(row.tobytes()) for row in other.packed) + 1)
        self._prune()

    def _add(self, packed: bytes, label: int, prediction: int, count: int) -> None:
        if packed not in self.paths:
            if self.limit < _HASHES and hashed(packed) >= self.limit:
                return
            self.paths.add(packed)
        self.counts[packed, label, prediction] += count

    def _prune(self) -> None:
        """Leave the paths of the smallest hashes, as many as are kept."""
        if len(self.paths) > self.most or self.limit < _HASHES:
            ranked = sorted(self.paths, key=hashed)
            ranked = [path for path in ranked[: self.most] if hashed(path) < self.limit]
            self.limit = hashed(ranked[-1]) + 1
            self.paths = set(ranked)
            self.counts = Counter({key: n for key, n in self.counts.items() if key[0] in self.paths})

    def table(self) -> Taken:
        """As it stands."""
        self._prune()
        rows = sorted(self.counts)
        numbers = np.array([row[1:] for row in rows], np.int64).reshape(-1, 2)
        packed = np.frombuffer(b"".join(row[0] for row in rows), np.uint8).reshape(len(rows), self.width)
        counts = np.array([self.counts[row] for row in rows], np.int64)
        labels, predictions = (np.ascontiguousarray(column) for column in numbers.T)
        return Taken(packed, labels, predictions, counts, self.limit == _HASHES)


def hashed(packed: bytes) -> int:
    """A path's hash, 0 to 2^64, the same in every process."""
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest())
