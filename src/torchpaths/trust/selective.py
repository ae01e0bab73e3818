"""Spending more where trust is small: an image is answered at a small budget, and again at a large one where the first
answer is suspicious, because its path is rare or its confidence small.

An image that is asked again costs both: nothing that was computed for the first answer is used for the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchpaths.errors import DataError
from torchpaths.trust.answers import Answers, Floats

STEPS = 21
"""Shares of images asked again, from none to all."""


@dataclass(frozen=True, eq=False)
class Escalation:
    """Accuracy against MACs, as more images are asked again.

    Attributes:
        shares: of images asked again, ``[step]``, 0 to 1.
        macs: mean of an image, ``[step]``.
        accuracy: 0 to 1, ``[step]``.
        chance: the same where the images asked again are drawn by chance, its expectation.
    """

    shares: Floats
    macs: Floats
    accuracy: Floats
    chance: Floats

    @property
    def gain(self) -> float:
        """Accuracy above chance, the mean over all shares."""
        return float((self.accuracy - self.chance).mean())

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "gain": self.gain,
            "shares": self.shares.round(4).tolist(),
            "macs": self.macs.round().tolist(),
            "accuracy": self.accuracy.tolist(),
        }


def escalations(cheap: Answers, dear: Answers, scores: Mapping[str, Floats]) -> dict[str, Escalation]:
    """For each score of suspicion the curve of asking the most suspicious images again.

    Args:
        cheap: the images at the small budget.
        dear: the same images at the large one.
        scores: name -> suspicion of the first answers, ``[image]``.

    Raises:
        DataError: for answers of other images, or scores that are not numbers.
    """
    if not np.array_equal(cheap.labels, dear.labels):
        raise DataError("answers to different images; ask the same ones, in the same order, at both budgets.")
    count = len(cheap.labels)
    shares = np.linspace(0, 1, STEPS)
    found = {}
    for name, score in scores.items():
        if score.shape != (count,) or np.isnan(score).any():
            raise DataError(f"{name}: scores of shape {score.shape} for {count} images, or not numbers.")
        order = np.argsort(-score, kind="stable")
        right = np.concatenate([[0], np.cumsum(dear.right[order].astype(float) - cheap.right[order])])
        more = np.concatenate([[0], np.cumsum(dear.macs[order])])
        asked = np.round(shares * count).astype(np.int64)
        accuracy = cheap.right.mean() + right[asked] / count
        macs = cheap.macs.mean() + more[asked] / count
        chance = cheap.right.mean() + (dear.right.mean() - cheap.right.mean()) * asked / count
        found[name] = Escalation(asked / count, macs, accuracy, chance)
    return found
