"""Whether attacked and strange images can be told by their paths: a table of attacks by scores of suspicion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchpaths.trust.answers import Answers, Floats
from torchpaths.trust.roc import Interval, Separation, separation, threshold, wilson


@dataclass(frozen=True)
class Row:
    """One attack, or one set of strange images.

    Attributes:
        name: which.
        images: how many were tried.
        fooled: of them, how many the network errs about now; all of strange ones.
        scores: score of suspicion -> how well it tells those from clean images; none where nobody was fooled.
        unnoticed: score -> share of the images tried that the network errs about and the score lets pass, where it lets
            95 % of the clean ones pass; with its 95 % interval.
    """

    name: str
    images: int
    fooled: int
    scores: dict[str, Separation]
    unnoticed: dict[str, tuple[float, Interval]]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        scores = {
            name: {
                **found.to_json(),
                "unnoticed": self.unnoticed[name][0],
                "unnoticed_interval": list(self.unnoticed[name][1]),
            }
            for name, found in self.scores.items()
        }
        return {"name": self.name, "images": self.images, "fooled": self.fooled, "scores": scores}


def told_apart(
    name: str, clean: Mapping[str, Floats], strange: Mapping[str, Floats], seen: Answers, foreign: bool = False
) -> Row:
    """How well scores tell attacked images that the network errs about from clean images.

    Args:
        name: of the attack.
        clean: score -> suspicion of clean images, ``[image]``.
        strange: score -> suspicion of attacked or foreign ones.
        seen: the latter's answers.
        foreign: they are of no class, so that any answer is an error.
    """
    wrong = np.ones(len(seen.labels), bool) if foreign else ~seen.right
    if not wrong.any():
        return Row(name, len(wrong), 0, {}, {})
    scores = {score: separation(clean[score], values[wrong]) for score, values in strange.items()}
    passed = {s: int((values[wrong] <= threshold(clean[s])).sum()) for s, values in strange.items()}
    unnoticed = {s: (count / len(wrong), wilson(count, len(wrong))) for s, count in passed.items()}
    return Row(name, len(wrong), int(wrong.sum()), scores, unnoticed)


def strongest(rows: Mapping[str, Row]) -> dict[str, str]:
    """For each score the attack of which most images pass unnoticed; of equals, that of the least AUROC.

    Args:
        rows: attack -> row.
    """
    names = sorted({score for row in rows.values() for score in row.scores})
    return {
        score: max(
            (attack for attack, row in rows.items() if score in row.scores),
            key=lambda attack: (rows[attack].unnoticed[score][0], -rows[attack].scores[score].auroc),
        )
        for score in names
    }
