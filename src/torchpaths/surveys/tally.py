"""``Tally``: what a survey counts while images go by, and what it comes to.

Everything is a sum of whole numbers, so a survey depends neither on how images were cut into batches nor on how they
were shared among processes: what two of them counted, added up, is what one would have.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchpaths.layout import Layout
from torchpaths.surveys.counts import ENERGY_STEPS, Counts, Energy, Floats, Samples, Sums, Together, moments
from torchpaths.surveys.kept import Kept
from torchpaths.surveys.taken import TOP_PATHS, Ints, TakenSoFar

TOP = 5
"""Among so many highest scores the right class is looked for, where there are more classes."""

MOST_TOGETHER = 512
"""Units up to which it is counted how often each two are open together; of more, so many evenly spread ones."""


@dataclasses.dataclass(frozen=True, eq=False)
class Seen:
    """A batch as a survey counts it.

    Attributes:
        opened: bool ``[batch, unit]``, in layout order.
        ran: bool ``[batch, site]``, which images came to a site.
        labels: int64 ``[batch]``.
        predictions: int64 ``[batch]``.
        best: int64 ``[batch, 5]``, the classes of the highest scores; None where there are not more classes.
        energies: site -> float64 ``[batch, unit]``, of coded sites.
        numbers: int64 ``[batch]``, which images of the data set they are.
    """

    opened: NDArray[np.bool_]
    ran: NDArray[np.bool_]
    labels: Ints
    predictions: Ints
    best: Ints | None
    energies: Mapping[str, Floats]
    numbers: Ints


class Tally:
    """Sums over the images seen so far.

    Args:
        layout: of the network.
        classes: names.
        keep: of how many images path and prediction are kept, see `Kept`; None: of all.
    """

    def __init__(self, layout: Layout, classes: tuple[str, ...], keep: int | None) -> None:
        units, count = len(layout.units), len(classes)
        self.layout, self.classes = layout, classes
        self.images = np.zeros(count, np.int64)
        self.opened = np.zeros((count, units), np.int64)
        self.ran = np.zeros((count, len(layout.sites)), np.int64)
        self.histogram = np.zeros((count, units + 1), np.int64)
        self.correct = np.zeros(count, np.int64)
        self.top5 = np.zeros(count, np.int64) if count > TOP else None
        self.confused: Counter[int] = Counter()  # class x classes + prediction; of all there could be, few are
        # Python's integers, exact at any size: squares of MACs pass 2^63 after a few images of a large network.
        self.macs = [0] * count
        self.squares = [0] * count
        self.taken = TakenSoFar(units)
        self.looked = np.unique(np.linspace(0, units - 1, min(units, MOST_TOGETHER)).round().astype(np.int64))
        self.together = np.zeros((len(self.looked), len(self.looked)), np.int64)
        self.energy: Ints | None = None
        self.energetic: set[str] = set()
        self.decided: set[str] = set()
        self.kept = Kept(units, keep)
        starts = np.cumsum([0, *map(len, layout.sites.values())]).tolist()
        self._spans = {site: slice(*ends) for site, *ends in zip(layout.sites, starts[:-1], starts[1:], strict=True)}

    def add(self, seen: Seen) -> None:
        """Count a batch."""
        opened, labels, predictions = seen.opened, seen.labels, seen.predictions
        there, rows, starts = _by_class(labels)
        self.images[there] += np.diff([*starts, len(labels)])
        self.opened[there] += np.add.reduceat(opened[rows], starts, 0, np.int64)
        self.ran[there] += np.add.reduceat(seen.ran[rows], starts, 0, np.int64)
        np.add.at(self.histogram, (labels, opened.sum(1)), 1)
        np.add.at(self.correct, labels, predictions == labels)
        if self.top5 is not None and seen.best is not None:
            np.add.at(self.top5, labels, (seen.best == labels[:, None]).any(1))
        self.confused.update((labels * len(self.classes) + predictions).tolist())
        macs: Ints = self.layout.costs(opened)[:, 0]
        for label, cost in zip(labels.tolist(), macs.tolist(), strict=True):
            self.macs[label] += cost
            self.squares[label] += cost * cost
        some = opened[:, self.looked].astype(np.float32)  # sums of ones, exact up to 2^24 images of a batch
        self.together += (some.T @ some).astype(np.int64)
        packed = np.packbits(opened, axis=1)
        self.taken.add(packed, labels.tolist(), predictions.tolist())
        for site, energies in seen.energies.items():
            self.energetic.add(site)
            if self.energy is None:
                self.energy = np.zeros_like(self.opened)
            steps = np.rint(energies[rows] * ENERGY_STEPS).astype(np.int64)
            self.energy[there, self._spans[site]] += np.add.reduceat(steps, starts, 0)
        self.kept.add(Samples(packed, labels, predictions, macs, seen.numbers))

    def join(self, other: Counts) -> None:
        """What was counted elsewhere, for the same layout and classes, by this version."""
        assert other.sums is not None
        assert other.taken is not None
        assert other.ran is not None
        assert other.confused is not None
        assert other.together is not None
        self.images += other.images
        self.opened += other.opened
        self.ran += other.ran
        self.histogram += other.histogram
        self.correct += other.correct
        self.top5 = None if self.top5 is None or other.top5 is None else self.top5 + other.top5
        for label, prediction, count in other.confused.tolist():
            self.confused[label * len(self.classes) + prediction] += count
        self.macs = [a + b for a, b in zip(self.macs, other.sums.macs, strict=True)]
        self.squares = [a + b for a, b in zip(self.squares, other.sums.squares, strict=True)]
        self.taken.join(other.taken)
        self.together += other.together.counts
        if other.energy is not None:
            self.energetic |= set(other.energy.sites)
            self.energy = other.energy.sums + (0 if self.energy is None else self.energy)
        self.decided |= set(other.decided)
        if other.samples is not None:
            self.kept.add(other.samples)

    def fields(self) -> dict[str, Any]:
        """The fields of `Counts` that these sums come to."""
        sums = Sums(tuple(self.macs), tuple(self.squares))
        means, deviations = moments(sums, self.images)
        taken = self.taken.table()
        order = {site: i for i, site in enumerate(self.layout.sites)}
        confused = [[*divmod(key, len(self.classes)), n] for key, n in sorted(self.confused.items())]
        energetic = tuple(sorted(self.energetic, key=order.__getitem__))
        return {
            "layout": self.layout,
            "classes": self.classes,
            "images": self.images,
            "correct": self.correct,
            "opened": self.opened,
            "histogram": self.histogram,
            "macs_by_class": means,
            "macs_std_by_class": deviations,
            "distinct_paths": taken.distinct,
            "top_paths": taken.top(TOP_PATHS, self.images),
            "decided": tuple(sorted(self.decided, key=order.__getitem__)),
            "samples": self.kept.samples(),
            "keep": self.kept.most,
            "sums": sums,
            "taken": taken,
            "confused": np.array(confused, np.int64).reshape(-1, 3),
            "ran": self.ran,
            "top5": self.top5,
            "together": Together(self.looked, self.together),
            "energy": None if self.energy is None else Energy(energetic, self.energy),
        }


def _by_class(labels: Ints) -> tuple[Ints, Ints, Ints]:
    """The classes of a batch, its rows in their order, and where in those each class begins."""
    rows = np.argsort(labels, kind="stable")
    there, starts = np.unique(labels[rows], return_index=True)
    return there, rows, starts
