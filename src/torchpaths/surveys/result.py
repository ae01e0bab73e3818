"""``Survey``: statistics of traces over a data set (ConvNet-AIG, section 4.2: execution rates, layers executed).

Data and arithmetic on counts. Counts are kept, not rates, so that every number is exact, independent of the batch size
and comes back bit for bit from a file. How a survey is collected is in `collect`, how it is written in `files`.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from torchpaths.errors import PathError, near
from torchpaths.layout import Budget, Layout
from torchpaths.path import Path
from torchpaths.surveys.choose import as_path, choose

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
class Survey:
    """Statistics of the traces of one network over one data set; made by `torchpaths.survey`, read by figures and page.

    `dataclasses.replace` fills in what the pass cannot know: ``name``, ``method``, ``dataset`` and ``split``.

    Attributes:
        layout: units and costs of the network.
        classes: names of the classes.
        images: int64 ``[class]``, images seen.
        correct: int64 ``[class]``, images whose highest score was the right class.
        opened: int64 ``[class, unit]``, images that opened the unit. A site that did not run counts as closed.
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

    def label(self, label: int | str) -> int:
        """A class's number from its number or name.

        Raises:
            PathError: for a class that the survey does not have, with near names.
        """
        if isinstance(label, str):
            if label not in self.classes:
                raise PathError(
                    f"no class {label!r} in this survey of {len(self.classes)} classes. {near(label, self.classes)}"
                )
            return self.classes.index(label)
        if not 0 <= label < len(self.classes):
            raise PathError(f"no class {label} in this survey: its classes are 0 to {len(self.classes) - 1}.")
        return int(label)

    def path(self, label: int | str | None = None, budget: Budget | None = None) -> Path:
        """The units that a class opens most often, as a path of the whole batch.

        Args:
            label: a class by number or name; None for all images.
            budget: how much may be open; without one, every unit that at least half of the images open. How units are
                ranked is told in `torchpaths.survey.choose`.

        Raises:
            PathError: for an unknown class, or one without images.
            BudgetError: for a budget that no path meets, or one in milliseconds.
        """
        if label is None:
            return choose(self.layout, self.rates, budget)
        number = self.label(label)
        if self.images[number] == 0:
            raise PathError(
                f"class {self.classes[number]!r} has no images in this survey, so nothing says "
                "what it opens; choose another class or survey more images."
            )
        return choose(self.layout, self.openness[number], budget)

    def unpack(self, packed: bytes) -> Path:
        """A packed path (`PathCount.packed`) as a path of the whole batch."""
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=len(self.layout.units)).astype(bool)
        return as_path(self.layout, bits)

    def save(self, where: pathlib.Path | str) -> pathlib.Path:
        """Write ``survey.json`` (or the ``.json`` named), arrays beside it; see `torchpaths.survey.files`."""
        from torchpaths.surveys.files import save  # files builds Surveys, so it cannot be imported above

        return save(self, pathlib.Path(where))

    @classmethod
    def load(cls, where: pathlib.Path | str, layout: Layout | None = None) -> Survey:
        """Read what `save` wrote; with ``layout``, also check that it is a survey of that network.

        Raises:
            DataError: for a missing, damaged or cut-short file, another schema, or another network's survey.
        """
        from torchpaths.surveys.files import load

        return load(pathlib.Path(where), layout)


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
