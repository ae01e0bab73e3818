"""How suspicious an image is by its path, and by its scores for comparison.

| score of suspicion | what it asks |
|---|---|
| ``rarity`` | how few training images took this very path |
| ``distance`` | how far the path is from the nearest ones of training images that were taken for the same class |
| ``likelihood`` | how unlikely the path is for that class, each unit by itself |
| ``softmax`` | how small the largest probability is (Hendrycks and Gimpel, 2017) |
| ``energy`` | how small the scores are altogether, ``-logsumexp`` (Liu et al., 2020) |
| ``depths`` | how differently the network answers along other paths that are set from outside |

The first three need training images, and no attacked ones. An image that is taken for a class for which no training
image was is as suspicious as can be. Marks that are the same for all training images of a class say much when an image
has another: their likelihood is bounded by a prior (hard marks) or by a least spread (energies).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp, rel_entr

from torchpaths.errors import DataError
from torchpaths.trust.answers import Answers, Floats, Ints

NEAREST = 5
"""Training paths whose distance is averaged."""
PRIOR = 1.0
"""Images that each class is taken to have had besides its own, which open a unit as often as all classes do: so that a
class of few images is no less sure of what is always open."""
LEAST = 0.02
"""Least standard deviation of an energy, of which the mean is 1."""
AT_ONCE = 2**24
"""Differences of marks held at once."""

BY_PATH = ("rarity", "distance", "likelihood")
BY_SCORE = ("softmax", "energy")


@dataclass(frozen=True, eq=False)
class Known:
    """What training images took, by the class they were taken for.

    Attributes:
        train: the training images.
        spread: by which differences of each mark are divided, ``[mark]``; 1 for hard ones.
        counts: path -> how many training images took it.
        means: of the marks, ``[class, mark]``; of hard ones with the prior.
        spreads: standard deviations of energies, ``[class, mark]``.
        images: how many training images were taken for each class, ``[class]``.
    """

    train: Answers
    spread: Floats
    counts: Counter[bytes]
    means: Floats
    spreads: Floats
    images: Floats

    @classmethod
    def of(cls, train: Answers) -> Known:
        """Learn what is common from training images."""
        marks, hard = train.marks.astype(np.float64), train.hard
        classes = train.logits.shape[1]
        images = np.bincount(train.predicted, minlength=classes).astype(np.float64)
        sums = np.stack([marks[train.predicted == c].sum(0) for c in range(classes)])
        whole = np.maximum(images, 1)[:, None]
        rates = (marks.sum(0) + 0.5) / (len(marks) + 1)
        means = np.where(hard, (sums + PRIOR * rates) / (images[:, None] + PRIOR), sums / whole)
        squares = np.stack([np.square(marks[train.predicted == c] - means[c]).sum(0) for c in range(classes)])
        spread = np.where(hard, 1.0, np.maximum(marks.std(0), LEAST))
        counts = Counter(row.tobytes() for row in np.packbits(train.bits, axis=1))
        return cls(train, spread, counts, means, np.maximum(np.sqrt(squares / whole), LEAST), images)

    @property
    def unseen(self) -> list[int]:
        """Classes for which no training image was taken."""
        return np.flatnonzero(self.images == 0).tolist()

    def check(self, seen: Answers) -> None:
        """Raise `DataError` unless these images were seen by the same network."""
        same = seen.sites == self.train.sites and seen.logits.shape[1] == self.train.logits.shape[1]
        if not same or not np.array_equal(seen.hard, self.train.hard):
            raise DataError(
                f"{len(seen.sites)} marks and {seen.logits.shape[1]} classes, the training images have "
                f"{len(self.train.sites)} and {self.train.logits.shape[1]}; give answers of one network along one path."
            )

    def rarity(self, seen: Answers) -> Floats:
        """Bits, ``[image]``: ``-log2`` of the share of training images that took the very path, itself counted in."""
        taken = np.array([self.counts[row.tobytes()] for row in np.packbits(seen.bits, axis=1)], np.float64)
        return np.asarray(np.log2(len(self.train.labels) + 1) - np.log2(taken + 1))

    def distance(self, seen: Answers) -> Floats:
        """``[image]``: the mean distance to the `NEAREST` training paths of the predicted class, as a share of the
        marks; a hard mark differs by 0 or 1, an energy by its standard deviations."""
        found = np.full(len(seen.labels), np.inf)
        for label in np.unique(seen.predicted):
            members = self.train.marks[self.train.predicted == label]
            rows = seen.predicted == label
            if len(members):
                count = min(NEAREST, len(members))
                apart = np.partition(self._apart(seen.marks[rows], members), count - 1, axis=1)
                found[rows] = apart[:, :count].mean(1)
        return found

    def likelihood(self, seen: Answers) -> Floats:
        """Nats, ``[image]``: ``-log p(marks | predicted class)``, each mark by itself: a coin for a hard one, a normal
        variable for an energy."""
        found = self.surprise(seen.marks, seen.predicted).sum(1)
        return np.asarray(np.where(self.images[seen.predicted] > 0, found, np.inf))

    def surprise(self, marks: NDArray[np.float32], classes: Ints) -> Floats:
        """Nats, ``[image, mark]``: ``-log p(mark | class)``, for images ``[image, mark]`` of classes ``[image]``."""
        hard, means, spreads = self.train.hard, self.means[classes], self.spreads[classes]
        chance = np.clip(np.where(hard, means, 0.5), 1e-12, 1 - 1e-12)
        coins = -(marks * np.log(chance) + (1 - marks) * np.log1p(-chance))
        normal = 0.5 * np.square((marks - means) / spreads) + np.log(spreads) + 0.5 * np.log(2 * np.pi)
        return np.asarray(np.where(hard, coins, normal))

    def nearest_path(self, seen: Answers, label: int) -> Floats:
        """The marks ``[image, mark]`` of the training image of a class that is nearest to each image.

        Raises:
            DataError: for a class for which no training image was taken.
        """
        rows = np.flatnonzero(self.train.predicted == label)
        if not len(rows):
            raise DataError(f"no training image was taken for class {label}, so it has no path; give more of them.")
        apart = self._apart(seen.marks, self.train.marks[rows])
        return np.asarray(self.train.marks[rows[apart.argmin(1)]], np.float64)

    def _apart(self, marks: NDArray[np.float32], members: NDArray[np.float32]) -> Floats:
        """``[image, member]``."""
        columns = max(1, marks.shape[1])
        step = max(1, AT_ONCE // (columns * max(1, len(members))))
        scaled, others = (values / self.spread for values in (marks, members))
        parts = [np.abs(scaled[i : i + step, None] - others[None]).sum(2) / columns for i in range(0, len(marks), step)]
        return np.concatenate(parts) if parts else np.zeros((0, len(members)))


def suspicion(known: Known, seen: Answers, others: Sequence[Answers] = ()) -> dict[str, Floats]:
    """Every score of suspicion that there is, name -> ``[image]``, the higher the stranger.

    Args:
        known: the training images.
        seen: images, along the same path.
        others: the same images along other paths of the network, for ``depths``.

    Raises:
        DataError: for images seen by another network.
    """
    known.check(seen)
    found: dict[str, Floats] = {}
    if seen.sites:
        found |= {name: getattr(known, name)(seen) for name in BY_PATH}
    if others:
        found["depths"] = depths(seen, others)
    return found | by_score(seen)


def by_score(seen: Answers) -> dict[str, Floats]:
    """The scores of suspicion that look at no path, name -> ``[image]``."""
    largest = 1 - seen.probabilities.max(1)
    return {"softmax": largest, "energy": -logsumexp(seen.logits.astype(np.float64), axis=1)}


def depths(seen: Answers, others: Sequence[Answers]) -> Floats:
    """Nats, ``[image]``: the mean Kullback-Leibler divergence of the answers along other paths from the answer."""
    own = seen.probabilities
    floor = np.finfo(np.float64).tiny
    return np.asarray(np.mean([rel_entr(own, np.maximum(o.probabilities, floor)).sum(1) for o in others], axis=0))
