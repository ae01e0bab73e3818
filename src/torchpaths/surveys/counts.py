"""``Counts``: what a survey counted, and arithmetic on it.

Counts are kept, not rates, so that every number is exact, independent of the batch size and comes back bit for bit from
a file. How they are collected is in `collect`, how they are written in `files`; both know them only. What can be done
with them is in `result`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from torchpaths.layout import Layout
from torchpaths.surveys.columns import Alone, FrontPoint, Shown, Times
from torchpaths.surveys.taken import Ints, PathCount, Taken

Floats: TypeAlias = NDArray[np.float64]

ENERGY_STEPS = 2**20
"""Energies are added up in whole steps of this part of 1, so that sums are exact in any order."""


@dataclass(frozen=True, eq=False)
class Samples:
    """What each image did, of all images or of a sample of them, in order of their numbers.

    Attributes:
        packed: uint8 ``[image, ceil(units / 8)]``, see `PathCount.packed`.
        labels: int64 ``[image]``.
        predictions: int64 ``[image]``, the class of the highest score.
        macs: int64 ``[image]``, what ran.
        numbers: int64 ``[image]``, rising: which images of the data set they are.
    """

    packed: NDArray[np.uint8]
    labels: Ints
    predictions: Ints
    macs: Ints
    numbers: Ints

    def opened(self, units: int) -> NDArray[np.bool_]:
        """bool ``[image, unit]`` for a layout of that many units."""
        return np.unpackbits(self.packed, axis=1, count=units).astype(bool)


@dataclass(frozen=True, eq=False)
class Together:
    """How often units are open together.

    Attributes:
        units: int64 ``[n]``, numbers of the units that were looked at: all, or so many evenly spread over the network.
        counts: int64 ``[n, n]``, images that opened both; on the diagonal those that opened the unit.
    """

    units: Ints
    counts: Ints


@dataclass(frozen=True, eq=False)
class Energy:
    """Energies of coded units.

    Attributes:
        sites: where they were measured.
        sums: int64 ``[class, unit]``, in steps of 1 / `ENERGY_STEPS`, over the images that came to the site; 0 for
            units of other sites.
    """

    sites: tuple[str, ...]
    sums: Ints


@dataclass(frozen=True)
class Sums:
    """Over each class's images, exactly: MACs and their squares; of each class a Python integer of any size."""

    macs: tuple[int, ...]
    squares: tuple[int, ...]


def moments(sums: Sums, images: Ints) -> tuple[Floats, Floats]:
    """Mean and standard deviation of the MACs of each class's images, float64 ``[class]``; NaN for none."""
    means, deviations = np.full((2, len(images)), np.nan)
    for c, n in enumerate(images.tolist()):
        if n:
            means[c] = sums.macs[c] / n
            deviations[c] = np.sqrt((n * sums.squares[c] - sums.macs[c] ** 2) / n**2)
    return means, deviations


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
        samples: path, prediction and MACs of each image or of a sample of them, where the survey was asked to keep
            them.
        keep: of how many images it was asked to; None for all.
        name: the network's name for titles, at first its class's.
        method: how the network decides, a line for each method.
        dataset: name of the data set.
        split: which part of it.
        along: a digest of the path that was chosen from outside, "free" for none; empty where an older version counted.
        weights: a digest of the network's parameters; likewise.
        groups: of each class the name of the group it belongs to; empty where there are none.

    What older versions did not count is None in what they wrote:

    Attributes:
        sums: of MACs, exactly.
        taken: all paths by class and prediction, or a sample of them.
        confused: int64 ``[row, 3]``, images of a class that were taken for which, rows of class, prediction and count.
        ran: int64 ``[class, site]``, images that came to a site.
        together: how often units are open together.
        top5: int64 ``[class]``, images whose class was among the five highest scores; None also for five classes or
            fewer.
        energy: of coded units, where there are any.
        code: bool ``[class, unit]``, the codewords of coded units, False for others; None where nothing is coded.

    What takes more than the pass is there only where it was measured:

    Attributes:
        alone: accuracy lost where one unit is shut.
        times: milliseconds.
        front: the sub-networks worth having.
        cloud: MACs and accuracy of other sub-networks that were tried, at most 500.
        gallery: images with what the network makes of them.
        filters: number of a unit -> numbers of the images it responds to most.
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
    keep: int | None = 0
    name: str = ""
    method: tuple[str, ...] = ()
    dataset: str = ""
    split: str = ""
    along: str = ""
    weights: str = ""
    groups: tuple[str, ...] = ()
    sums: Sums | None = None
    taken: Taken | None = None
    confused: Ints | None = None
    ran: Ints | None = None
    together: Together | None = None
    top5: Ints | None = None
    energy: Energy | None = None
    code: NDArray[np.bool_] | None = None
    alone: Alone | None = None
    times: Times | None = None
    front: tuple[FrontPoint, ...] = ()
    cloud: tuple[tuple[float, float], ...] = ()
    gallery: tuple[Shown, ...] = ()
    filters: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def coded(self) -> tuple[str, ...]:
        """Sites whose units belong to classes: those that have codewords."""
        if self.code is None:
            return ()
        used = {self.layout.units[number].site for number in np.flatnonzero(self.code.any(0)).tolist()}
        return tuple(site for site in self.layout.sites if site in used)

    @property
    def confusion(self) -> Ints | None:
        """int64 ``[class, class]``, images of a class taken for which; None where predictions were not counted."""
        if self.confused is None:
            return None
        found = np.zeros((len(self.classes), len(self.classes)), np.int64)
        found[self.confused[:, 0], self.confused[:, 1]] = self.confused[:, 2]
        return found

    @property
    def energies(self) -> Floats | None:
        """``[class, unit]``: mean energy over the class's images that came to the unit's site; NaN for classes without
        any and for units that have none. None where no energies were measured."""
        if self.energy is None or self.ran is None:
            return None
        sizes = [len(units) for units in self.layout.sites.values()]
        measured = np.repeat([site in self.energy.sites for site in self.layout.sites], sizes)
        came = np.repeat(self.ran, sizes, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(measured, self.energy.sums / (came * ENERGY_STEPS), np.nan)
        return np.asarray(means, np.float64)

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
    def accuracy_top5(self) -> float | None:
        """Share of all images whose class was among the five highest scores, in 0 to 1; None where not counted."""
        return None if self.top5 is None else float(self.top5.sum() / self.images.sum())

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
