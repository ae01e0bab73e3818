"""``Survey``: statistics of traces over a data set (ConvNet-AIG, section 4.2: execution rates, layers executed)."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import numpy as np

from torchpaths.budget import Budget
from torchpaths.errors import BudgetError, PathError, near
from torchpaths.layout import Layout
from torchpaths.path import Path
from torchpaths.surveys import files
from torchpaths.surveys.choose import as_path, choose
from torchpaths.surveys.counts import Counts


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

    def path(self, label: int | str | None = None, budget: Budget | None = None) -> Path:
        """The units that a class opens most often, as a path of the whole batch.

        Args:
            label: a class by number or name; None for all images.
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
        """Write ``survey.json`` (or the ``.json`` named), arrays beside it; see `torchpaths.surveys.files`."""
        return files.save(self, pathlib.Path(where))

    @classmethod
    def load(cls, where: pathlib.Path | str, layout: Layout | None = None) -> Survey:
        """Read what `save` wrote; with ``layout``, also check that it is a survey of that network.

        Raises:
            DataError: for a missing, damaged or cut-short file, another schema, or another network's survey.
        """
        return files.load(pathlib.Path(where), cls, layout)
