"""``Counts``: what a survey counted, and arithmetic on it.

Counts are kept, not rates, so that every number is exact, independent of the batch size and comes back bit for bit from
a file. How they are collected is in `collect`, how they are written in `files`; both know them only. What can be done
with them is in `result`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from torchpaths.layout import Layout

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


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
class Samples:
    """What each image did, in the loader's order.

    Attributes:
        packed: uint8 ``[image, ceil(units / 8)]``, see `PathCount.packed`.
        labels: int64 ``[image]``.
        predictions: int64 ``[image]``, the class of the highest score.
        macs: int64 ``[image]``, what ran.
    """

    packed: NDArray[np.uint8]
    labels: Ints
    predictions: Ints
    macs: Ints

    def opened(self, units: int) -> NDArray[np.bool_]:
        """bool ``[image, unit]`` for a layout of that many units."""
        return np.unpackbits(self.packed, axis=1, count=units).astype(bool)


@dataclass(frozen=True, eq=False)
class Counts:
    """What was counted over the traces of one network and one data set.

    Attributes:
        layout: units and costs of the network.
        classes: names of the classes.
        images: int64 ``[class]``, images seen.
        correct: int64 ``[class]``, images whose highest score was the right class.
        opened: int64 ``[class, unit]``, images that opened the unit. For images that did not come to a site, since a
            block around it was closed for them, its units count as closed.
        histogram: int64 ``[class, units + 1]``, images that executed 0, 1, ... units.
        macs_by_class: float64 ``[class]``, mean MACs executed by one image (what always runs included); NaN for classes
            without images.
        macs_std_by_class: float64 ``[class]``, standard deviation (of the population) of the same.
        distinct_paths: how many different paths were taken.
        top_paths: the most frequent ones, most frequent first.
        decided: sites whose decision was estimated from the input (their decisions carried a score).
        samples: path, prediction and MACs of each image, where the survey was asked to keep them.
        name: the network's name for titles, at first its class's.
        method: how the network decides, a line for each method.
        dataset: name of the data set.
        split: which part of it.
    """

    layout: Layout
    classes: tuple[str, ...]
    images: Ints
    correct: Ints
    opened: Ints
    histogram: Ints
    macs_by_class: Floats
    macs_std_by_class: Floats
    distinct_paths: int
    top_paths: tuple[PathCount, ...]
    decided: tuple[str, ...] = ()
    samples: Samples | None = None
    name: str = ""
    method: tuple[str, ...] = ()
    dataset: str = ""
    split: str = ""

    @property
    def openness(self) -> Floats:
        """``[class, unit]``: share of the class's images that opened the unit; NaN for a class without images."""
        return _ratio(self.opened, self.images[:, None])

    @property
    def rates(self) -> Floats:
        """``[unit]``: share of all images that opened the unit (each image counts the same, not each class)."""
        return np.asarray(self.opened.sum(0) / self.images.sum(), dtype=np.float64)

    @property
    def shares(self) -> dict[str, float]:
        """The mean share of units open, in 0 to 1, of each kind of units (`Unit.kind`)."""
        return self.layout.shares(self.rates)

    @property
    def accuracy_by_class(self) -> Floats:
        """``[class]``, in 0 to 1; NaN for a class without images."""
        return _ratio(self.correct, self.images)

    @property
    def accuracy(self) -> float:
        """Share of all images classified rightly (top-1), in 0 to 1."""
        return float(self.correct.sum() / self.images.sum())

    @property
    def macs(self) -> float:
        """Mean MACs executed by one image."""
        return float(np.nansum(self.macs_by_class * self.images) / self.images.sum())

    @property
    def macs_std(self) -> float:
        """Standard deviation over images of the MACs executed."""
        within = self.macs_std_by_class**2 + (self.macs_by_class - self.macs) ** 2
        return float(np.sqrt(np.nansum(within * self.images) / self.images.sum()))

    @property
    def executed_by_class(self) -> Floats:
        """``[class, 2]``: mean and standard deviation of the number of units executed."""
        return np.array([_mean_std(row) for row in self.histogram])

    @property
    def executed(self) -> tuple[float, float]:
        """Mean and standard deviation over all images of the number of units executed."""
        return _mean_std(self.histogram.sum(0))

    @property
    def title(self) -> str:
        """Network and data set, for headings."""
        return f"{self.name} on {self.dataset}" if self.dataset else self.name


def _ratio(part: Ints, whole: Ints) -> Floats:
    with np.errstate(invalid="ignore"):
        return np.asarray(part / whole, dtype=np.float64)


def _mean_std(counts: Ints) -> tuple[float, float]:
    """Mean and standard deviation of a number that took the value k ``counts[k]`` times; NaN for no values."""
    total = int(counts.sum())
    if total == 0:
        return float("nan"), float("nan")
    values = np.arange(len(counts))
    mean = float(counts @ values) / total
    return mean, float(np.sqrt(counts @ (values - mean) ** 2 / total))
