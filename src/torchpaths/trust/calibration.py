"""Calibration by budget and by path: is a small budget's confidence as honest as a large one's, and that of an image on
a rare path as that of one on a common path?

Temperatures are fitted on half of the images, drawn by chance, and all is measured on the other half. An ECE of few
images is above 0 even of an honest network, so each group says how many it has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchpaths.errors import DataError
from torchpaths.trust.answers import Answers, Floats, Ints
from torchpaths.trust.detectors import Known
from torchpaths.trust.reliability import Reliability, reliability
from torchpaths.trust.temperature import UNSCALED, Scaling, fit


@dataclass(frozen=True)
class Calibrated:
    """One way to calibrate, on images it was not fitted on.

    Attributes:
        scaling: the fitted temperatures.
        reliability: by confidence.
        nll: mean negative log-likelihood, in nats.
    """

    scaling: Scaling
    reliability: Reliability
    nll: float

    @classmethod
    def on(cls, scaling: Scaling, logits: Any, labels: Ints, features: Floats | None = None) -> Calibrated:
        """Measured on images: logits ``[image, class]``, labels ``[image]``, features ``[image, feature]``."""
        probabilities = scaling.probabilities(logits, features)
        of_label = probabilities[np.arange(len(labels)), labels]
        nll = float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).mean())
        return cls(scaling, reliability(probabilities.max(1), probabilities.argmax(1) == labels), nll)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        fitted = {"log_temperature": self.scaling.bias, "weights": self.scaling.weights.tolist()}
        return {"ece": self.reliability.ece, "nll": self.nll, **fitted}


@dataclass(frozen=True)
class Group:
    """Images that have something in common: a budget, or how common their paths are.

    Attributes:
        name: what that is.
        images: how many are measured.
        accuracy: 0 to 1.
        macs: mean of an image.
        ways: how confidence is made -> what it is worth.
    """

    name: str
    images: int
    accuracy: float
    macs: float
    ways: dict[str, Calibrated]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        told = {name: way.to_json() for name, way in self.ways.items()}
        return {"name": self.name, "images": self.images, "accuracy": self.accuracy, "macs": self.macs, **told}


def halves(images: int, seed: int, share: float = 0.5) -> tuple[Ints, Ints]:
    """Numbers of the images that are fitted on, drawn by chance, and of the others.

    Raises:
        DataError: for a share out of range, or too few images to divide.
    """
    cut = round(share * images)
    if not 0 < share < 1 or not 0 < cut < images:
        raise DataError(f"a share of {share:g} of {images} images is to be fitted on, others measured: give both some.")
    order = np.random.default_rng(seed).permutation(images)
    return order[:cut], order[cut:]


def by_budget(budgets: Mapping[str, Answers], seed: int = 0) -> list[Group]:
    """Each budget's confidence as it is (``unscaled``), with the first budget's temperature (``first``) and with its
    own (``own``).

    Args:
        budgets: name -> the same images at that budget.
        seed: of the draw of images.

    Raises:
        DataError: for none, or too few images.
    """
    if not budgets:
        raise DataError("no budget to calibrate; give answers along at least one path.")
    first = next(iter(budgets.values()))
    held, rest = halves(len(first.labels), seed)
    shared = fit(first.logits[held], first.labels[held])
    groups = []
    for name, seen in budgets.items():
        own = fit(seen.logits[held], seen.labels[held])
        ways = {"unscaled": UNSCALED, "first": shared, "own": own}
        groups.append(_group(name, seen, rest, ways, None))
    return groups


def by_path(known: Known, seen: Answers, groups: int = 4, seed: int = 0) -> list[Group]:
    """Equal groups of images from the commonest to the rarest paths, by their likelihood for the predicted class: with
    their confidence as it is (``unscaled``), with one temperature (``one``), and with one that depends on the
    likelihood (``path``).

    Args:
        known: the training images.
        seen: images the network was not trained on.
        groups: how many; fewer where paths are alike.
        seed: of the draw of images.

    Raises:
        DataError: for a network whose paths do not depend on images, or too few of them.
    """
    if not seen.sites:
        raise DataError("the paths of this network do not depend on the image, so there are no rare ones.")
    score = known.likelihood(seen)
    finite = np.isfinite(score)
    score = np.where(finite, score, score[finite].max(initial=0.0))
    held, rest = halves(len(seen.labels), seed)
    features = score[:, None]
    ways = {
        "unscaled": UNSCALED,
        "one": fit(seen.logits[held], seen.labels[held]),
        "path": fit(seen.logits[held], seen.labels[held], features[held]),
    }
    edges = np.unique(np.quantile(score[held], np.linspace(0, 1, groups + 1)[1:-1]))
    group = np.searchsorted(edges, score, side="left")
    found = []
    for number in range(len(edges) + 1):
        rows = rest[group[rest] == number]
        if len(rows):
            found.append(_group(_called(number, len(edges)), seen, rows, ways, features))
    return found


def _called(number: int, last: int) -> str:
    return {0: "common", last: "rare"}.get(number, f"{number + 1} of {last + 1}")


def _group(name: str, seen: Answers, rows: Ints, ways: Mapping[str, Scaling], features: Floats | None) -> Group:
    part = seen.only(rows)
    known = None if features is None else features[rows]
    made = {
        way: Calibrated.on(scaling, part.logits, part.labels, known if len(scaling.weights) else None)
        for way, scaling in ways.items()
    }
    return Group(name, len(rows), float(part.right.mean()), float(part.macs.mean()), made)
