"""What an attack does to paths: how often units open before and after (ConvNet-AIG, figure 7 right), and layer by layer
when an attacked image leaves the path of its own class and joins that of the class it is taken for (network decoupling,
section 4.4 and figures 4, 10 and 11).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchpaths.errors import DataError
from torchpaths.filtering.paths import ClassPaths
from torchpaths.trust.answers import Answers, Bools, Floats, Ints
from torchpaths.trust.detectors import Known
from torchpaths.whole import whole

MOST_GROUPS = 4
"""Groups of attacked images beside one of clean ones, in a figure."""


@dataclass(frozen=True, eq=False)
class Rates:
    """How often units open, of images before and after an attack.

    Attributes:
        sites: in order of execution.
        before: mean share of a site's units that an image opens, ``[site]``.
        after: likewise.
        images: how many.
    """

    sites: tuple[str, ...]
    before: Floats
    after: Floats
    images: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        columns = {name: getattr(self, name).round(4).tolist() for name in ("before", "after")}
        return {"images": self.images, "sites": list(self.sites), **columns}


def rates(clean: Answers, attacked: Answers, label: int | None = None) -> Rates:
    """Rates of the sites that images decide about.

    Args:
        clean: images before.
        attacked: the same after.
        label: of this class only; None for all.

    Raises:
        DataError: for a class of no images, or a network whose images decide about nothing.
    """
    rows = np.ones(len(clean.labels), bool) if label is None else clean.labels == label
    if not rows.any():
        raise DataError(f"class {label} has no images here, so there are no rates of it; take more images.")
    sites = _sites(clean, clean.hard)
    if not sites:
        raise DataError("images decide about no unit of this network, so no rate can change.")
    before, after = (
        np.array([seen.marks[rows][:, at].mean() for at in sites.values()], np.float64) for seen in (clean, attacked)
    )
    return Rates(tuple(sites), before, after, int(rows.sum()))


@dataclass(frozen=True, eq=False)
class Crossing:
    """Between the path of an image's own class and that of the class it is taken for after an attack: the chance that
    it is of the latter by what its path shows, 0 to 1, means over images, ``[site]``. For ``clean`` images before,
    for ``attacked`` ones, and for clean images of the ``other`` class; by each site alone, and by all sites so far.

    Attributes:
        sites: in order of execution.
        alone: kind -> by each site alone.
        so_far: kind -> by all sites so far.
        images: how many were right before and are taken for another class after.
    """

    sites: tuple[str, ...]
    alone: dict[str, Floats]
    so_far: dict[str, Floats]
    images: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        parts = {
            name: {kind: values.round(4).tolist() for kind, values in getattr(self, name).items()}
            for name in ("alone", "so_far")
        }
        return {"images": self.images, "sites": list(self.sites), **parts}


def crossing(known: Known, clean: Answers, attacked: Answers, seed: int = 0) -> Crossing:
    """See `Crossing`.

    Args:
        known: the training images.
        clean: images before.
        attacked: the same after.
        seed: of the draw of training images that stand for the other class.

    Raises:
        DataError: for a network whose paths do not depend on images, or an attack that changed no prediction to a class
            for which training images were taken.
    """
    known.check(clean)
    known.check(attacked)
    sites = _sites(clean, np.ones(len(clean.sites), bool))
    rows = np.flatnonzero(clean.right & ~attacked.right & (known.images[attacked.predicted] > 0))
    if not sites or not len(rows):
        raise DataError("the attack moved no image from a class to another along a path, so there is no crossing.")
    own, other = clean.labels[rows], attacked.predicted[rows]
    draw = np.random.default_rng(whole(seed, "seed", DataError))
    others = np.array([draw.choice(np.flatnonzero(known.train.predicted == label)) for label in other])
    kinds = {"clean": clean.marks[rows], "attacked": attacked.marks[rows], "other": known.train.marks[others]}
    alone, so_far = {}, {}
    for kind, marks in kinds.items():
        towards = known.surprise(marks, own) - known.surprise(marks, other)
        by_site = np.stack([towards[:, at].sum(1) for at in sites.values()], 1)
        alone[kind] = _chance(by_site).mean(0)
        so_far[kind] = _chance(by_site.cumsum(1)).mean(0)
    return Crossing(tuple(sites), alone, so_far, len(rows))


def groups(clean: Answers, attacked: Answers, classes: tuple[str, ...]) -> dict[str, tuple[ClassPaths, list[str]]]:
    """Paths of groups of images, for `torchpaths.filtering.draw_paths.draw_class_paths`, with their names:

    - ``pair``: a class, its images that are taken for another after the attack, and that other (figure 4);
    - ``from``: one class, and its images by what they are taken for (figure 10);
    - ``to``: one class, and the images that are taken for it by what they are (figure 11).

    Classes are those that most images go between. Nothing where no image changes its class or has a say in its path.
    """
    moved = clean.right & ~attacked.right
    pairs = Counter(zip(clean.labels[moved].tolist(), attacked.predicted[moved].tolist(), strict=True))
    if not pairs or not clean.sites:
        return {}
    own, other = max(pairs, key=lambda pair: (pairs[pair], (-pair[0], -pair[1])))
    start = _most(Counter(clean.labels[moved].tolist()))
    end = _most(Counter(attacked.predicted[moved].tolist()))

    def clean_of(label: int) -> tuple[str, Bools]:
        return classes[label], clean.bits[clean.right & (clean.labels == label)]

    def taken(a: int, b: int) -> tuple[str, Bools]:
        rows = moved & (clean.labels == a) & (attacked.predicted == b)
        return f"{classes[a]} → {classes[b]}", attacked.bits[rows]

    gone = sorted((p for p in pairs if p[0] == start), key=lambda p: -pairs[p])[:MOST_GROUPS]
    come = sorted((p for p in pairs if p[1] == end), key=lambda p: -pairs[p])[:MOST_GROUPS]
    found = {
        "pair": [clean_of(own), taken(own, other), clean_of(other)],
        "from": [clean_of(start), *(taken(*pair) for pair in gone)],
        "to": [clean_of(end), *(taken(*pair) for pair in come)],
    }
    every = _sites(clean, np.ones(len(clean.sites), bool))
    made = {}
    for name, parts in found.items():
        bits = [part for _, part in parts]
        opened = {site: np.stack([part[:, at].sum(0) for part in bits]).astype(np.int64) for site, at in every.items()}
        came = {site: np.array([len(part) for part in bits], np.int64) for site in every}
        made[name] = ClassPaths(opened, came), [called for called, _ in parts]
    return made


def _most(counts: Counter[int]) -> int:
    return max(counts, key=lambda label: (counts[label], -label))


def _sites(seen: Answers, wanted: Bools) -> dict[str, Ints]:
    """Site -> its columns among the marks, of those wanted, in order."""
    found: dict[str, list[int]] = {}
    for i, site in enumerate(seen.sites):
        if wanted[i]:
            found.setdefault(site, []).append(i)
    return {site: np.array(columns) for site, columns in found.items()}


def _chance(odds: Floats) -> Floats:
    """Logistic function, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(odds / 2)))
