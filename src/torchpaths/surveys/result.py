"""``Survey``: statistics of traces over a data set (ConvNet-AIG, section 4.2: execution rates, layers executed)."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchpaths.budget import Budget
from torchpaths.errors import BudgetError, DataError, PathError, near
from torchpaths.layout import Layout
from torchpaths.path import Path
from torchpaths.surveys import files
from torchpaths.surveys.choose import as_path, choose
from torchpaths.surveys.counts import Counts, Floats
from torchpaths.surveys.merging import merge
from torchpaths.surveys.taken import Ints


@dataclass(frozen=True, eq=False)
class Survey(Counts):
    """Statistics of the traces of one network over one data set; made by `torchpaths.survey`, read by figures and page.

    `dataclasses.replace` fills in what the pass cannot know: ``name``, ``method``, ``dataset`` and ``split``. Its
    fields are those of `torchpaths.surveys.counts.Counts`.
    """

    def __repr__(self) -> str:
        """In a line; everything is in its fields."""
        mean, _ = self.executed
        of = f"{mean:.1f} of {len(self.layout.units)} units open, {self.macs / self.layout.plain.macs:.1%} of the MACs"
        images, what = int(self.images.sum()), self.title or self.layout.network
        return f"Survey({what}: {images:,} images of {len(self.classes)} classes, {self.accuracy:.2%} right, {of})"

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
            if self.classes.count(label) > 1:
                numbers = [str(i) for i, name in enumerate(self.classes) if name == label]
                raise PathError(f"several classes are called {label!r}; give the number, {' or '.join(numbers)}.")
            return self.classes.index(label)
        if not 0 <= label < len(self.classes):
            raise PathError(f"no class {label} in this survey: its classes are 0 to {len(self.classes) - 1}.")
        return int(label)

    def path(self, label: int | str | Sequence[int | str] | None = None, budget: Budget | None = None) -> Path:
        """The units that a class opens most often, as a path of the whole batch.

        Args:
            label: a class by number or name, or several, each image of which counts alike; None for all images.
            budget: how much may be open; without one, every unit that at least half of the images open. How units are
                ranked is told in `torchpaths.surveys.choose`.

        Raises:
            PathError: for an unknown class, or one without images.
            BudgetError: for a budget that no path meets, or one in milliseconds; and where nothing is decided and all
                units are as open, so that any choice would be blind.
        """
        if not self.decided and len(np.unique(self.rates)) == 1:
            raise BudgetError(
                f"every image opens the same units of {self.layout.network}, so a survey cannot say which of them to "
                "keep. Give a path of your own, or, if its classes have codewords, the classes: "
                "method.path(net, classes=[...]), torchpaths cut RUN --classes CLASS."
            )
        if label is None:
            return choose(self.layout, self.rates, budget)
        named: Sequence[int | str] = [label] if isinstance(label, int | str) else label
        numbers = sorted({self.label(each) for each in named})
        if not numbers:
            raise PathError("no class was named; name at least one, or leave label out for all images.")
        for number in numbers:
            if self.images[number] == 0:
                raise PathError(
                    f"class {self.classes[number]!r} has no images in this survey, so nothing says "
                    "what it opens; choose another class or survey more images."
                )
        return choose(self.layout, self.opened[numbers].sum(0) / self.images[numbers].sum(), budget)

    def unpack(self, packed: bytes) -> Path:
        """A packed path (`PathCount.packed`) as a path of the whole batch."""
        bits = np.unpackbits(np.frombuffer(packed, np.uint8), count=len(self.layout.units)).astype(bool)
        return as_path(self.layout, bits)

    def rarity(self, opened: NDArray[np.bool_], labels: Ints) -> Floats:
        """The share of a class's images that took a path, this very one: what is small is rare.

        Args:
            opened: paths, bool ``[n, unit]`` in layout order.
            labels: the class that each is compared with, int64 ``[n]``.

        Returns:
            float64 ``[n]``: 0 where none of them took it; NaN for a class without images, and, where there were more
            paths than are kept, for one that was not kept.

        Raises:
            DataError: for a survey of an older version, which did not keep its paths.
            PathError: for paths of another number of units, or a class that the survey does not have.
        """
        if self.taken is None:
            raise DataError("this survey was made by an older version, which kept no paths; survey the network again.")
        if opened.ndim != 2 or opened.shape[1] != len(self.layout.units) or labels.shape != (len(opened),):
            raise PathError(
                f"paths of shape {opened.shape} and classes of shape {labels.shape}; this survey needs "
                f"[n, {len(self.layout.units)}] and [n]."
            )
        for label in np.unique(labels).tolist():
            self.label(label)
        return self.taken.share(np.packbits(opened, axis=1), labels, self.images)

    def merge(self, *others: Survey) -> Survey:
        """The survey of all images that several counted, each its own: bit for bit what one of them would have.

        Names are taken from this one. What was measured beside the counts belongs to the images of one survey: only
        what all of them have alike is kept.

        Args:
            others: of the same network and classes, with as many images kept.

        Raises:
            DataError: for another network or other classes, a survey of an older version, one given twice, or images
                that were counted twice, which is noticed where both kept their paths: with ``keep_paths=False`` a
                survey does not hold its images' numbers, and nothing is checked; with a sample, what is in it.
        """
        return merge(self, others)

    def to_json(self) -> dict[str, Any]:
        """Its columns as JSON data, as in ``survey.json``; arrays are named there and are in its fields."""
        return files.document(self)

    def save(self, where: pathlib.Path | str) -> pathlib.Path:
        """Write ``survey.json`` (or the ``.json`` named), arrays beside it; see `torchpaths.surveys.files`."""
        return files.save(self, pathlib.Path(where))

    @classmethod
    def load(cls, where: pathlib.Path | str, layout: Layout | None = None) -> Survey:
        """Read what `save` wrote; with ``layout``, also check that it is a survey of that network.

        Raises:
            DataError: for a missing, damaged or cut-short file, another schema, or another network's survey.
        """
        return files.load(pathlib.Path(where), cls, layout)
