"""What a coding scheme is worth: its distances, its columns, and how much better another scheme could be.

Rules A, B and C of Coded ResNeXt (Avranas and Kountouris, NeurIPS 2022, section 3.2.1), read off a finished table,
whoever made it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from torchpaths.coding.bits import Words, overlaps
from torchpaths.coding.bounds import distance_bound
from torchpaths.errors import CodeError

ROWS = 512
"""Rows compared with all others at once."""


@dataclass(frozen=True)
class Certificate:
    """A scheme's numbers, see `certificate`.

    Attributes:
        classes: codewords.
        units: their length.
        weight: ones in each of them (rule A).
        distance: the smallest Hamming distance of two codewords (rule C).
        histogram: Hamming distance -> pairs of codewords, ascending.
        mean: Hamming distance of two codewords, over all pairs.
        columns: for each unit the classes that it works for (rule B).
        bound: no scheme of as many classes, units and ones has a larger minimum distance.
        theorem: what proves that.
    """

    classes: int
    units: int
    weight: int
    distance: int
    histogram: dict[int, int]
    mean: float
    columns: tuple[int, ...]
    bound: int
    theorem: str

    @property
    def lowest(self) -> int:
        """The smallest column sum."""
        return min(self.columns)

    @property
    def highest(self) -> int:
        """The largest column sum."""
        return max(self.columns)

    @property
    def balanced(self) -> bool:
        """Whether columns are as equal as can be: equal, or within 1 where the ones cannot be shared out equally."""
        return self.highest - self.lowest <= (1 if self.classes * self.weight % self.units else 0)

    @property
    def optimal(self) -> bool:
        """Whether the minimum distance is proved to be the largest possible."""
        return self.distance == self.bound

    @property
    def nearest(self) -> tuple[int, ...]:
        """Where columns cannot be equal: the nearest numbers of classes for which they can, else nothing."""
        step = self.units // math.gcd(self.units, self.weight)
        below = self.classes // step * step
        if below == self.classes:
            return ()
        return tuple(n for n in (below, below + step) if 2 <= n <= math.comb(self.units, self.weight))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON has it; distances are keys and so strings."""
        return {
            "classes": self.classes,
            "units": self.units,
            "active": self.weight,
            "distance": self.distance,
            "bound": self.bound,
            "theorem": self.theorem,
            "optimal": self.optimal,
            "mean_distance": self.mean,
            "histogram": {str(distance): pairs for distance, pairs in self.histogram.items()},
            "columns": {"min": self.lowest, "max": self.highest, "sums": list(self.columns)},
            "balanced": self.balanced,
            "nearest_equal_classes": list(self.nearest),
        }

    def __str__(self) -> str:
        if self.optimal:
            limit = f"no scheme has more ({self.theorem})"
        else:
            limit = f"no scheme has more than {self.bound} ({self.theorem})"
        if self.lowest == self.highest:
            shares = f"every unit works for {self.lowest} classes"
        else:
            shares = f"a unit works for {self.lowest} to {self.highest} classes"
        if self.nearest:
            others = " or ".join(map(str, self.nearest))
            shares += (
                f"; {self.classes} x {self.weight} ones do not share out equally, with {others} classes they would"
            )
        return (
            f"{self.classes} codewords of {self.units} units, {self.weight} active\n"
            f"minimum distance {self.distance}, {limit}; mean {self.mean:.3f}\n"
            f"{shares}"
        )


def certificate(words: ArrayLike) -> Certificate:
    """Measure a coding scheme and compare it with what theorems allow.

    Args:
        words: 0 and 1, or bools, ``[classes, units]``, at least two rows, with equally many ones in each. Made by
            `torchpaths.codes` or by anyone else; two equal rows are allowed and have distance 0.

    Returns:
        The certificate. Time grows with the square of the classes: 21,841 classes take some seconds.

    Raises:
        CodeError: ``words`` is no such table.

    Source: Avranas and Kountouris, NeurIPS 2022, section 3.2.1; for the bounds see `torchpaths.coding.bounds`.
    """
    table = _table(words)
    classes, units = table.shape
    weight = int(table[0].sum())
    counts = np.zeros(weight + 1, np.int64)
    for start in range(0, classes, ROWS):
        shared = overlaps(table[start : start + ROWS], table)
        counts += np.bincount(shared.ravel(), minlength=weight + 1)
    counts[weight] -= classes  # each word with itself
    histogram = {2 * (weight - shared): int(counts[shared]) // 2 for shared in range(weight, -1, -1) if counts[shared]}
    total = sum(distance * pairs for distance, pairs in histogram.items())
    bound, theorem = distance_bound(classes, units, weight)
    return Certificate(
        classes=classes,
        units=units,
        weight=weight,
        distance=min(histogram),
        histogram=histogram,
        mean=total / math.comb(classes, 2),
        columns=tuple(int(n) for n in table.sum(0)),
        bound=bound,
        theorem=theorem,
    )


def _table(words: ArrayLike) -> Words:
    """The words as bools, checked."""
    try:
        given = np.asarray(words)
    except ValueError as error:
        raise CodeError("words: rows of different lengths. Give a table of 0 and 1, [classes, units].") from error
    if given.ndim != 2 or given.shape[0] < 2 or given.shape[1] < 1:
        raise CodeError(f"words of shape {list(given.shape)}: give a table [classes, units] of at least two rows.")
    if given.dtype.kind not in "biuf" or not np.isin(given, (0, 1)).all():
        raise CodeError(
            "words: codewords are 0 and 1, or bools, and here is something else. Compare first, as in `words > 0.5`."
        )
    table = given.astype(bool)
    weights = table.sum(1)
    other = np.flatnonzero(weights != weights[0])
    if len(other):
        raise CodeError(
            f"words: row {other[0]} has {weights[other[0]]} ones and row 0 has {weights[0]}. Rule A wants equally many "
            "in each row: give the rows of one weight."
        )
    return table
