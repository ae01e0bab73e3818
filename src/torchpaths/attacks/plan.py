"""``Plan``: what is tried on a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from torchpaths.attacks.adaptive import LEAST_STEPS, Where, check_weight
from torchpaths.attacks.gates import Way, check_way
from torchpaths.attacks.jpeg import QUALITY, check_quality
from torchpaths.attacks.linf import check_counts
from torchpaths.attacks.pixels import as_levels, check_strength
from torchpaths.errors import DataError
from torchpaths.whole import is_whole, whole


@dataclass(frozen=True)
class Plan:
    """What is tried.

    Attributes:
        strengths: of the curves, FGSM, scale 0 to 1.
        detected: of the FGSM attacks that are to be detected.
        strength: of PGD and of the attacker who matches paths.
        steps: of PGD.
        mimics: images for the attacker who matches paths, the first ones; 0 for none.
        mimic_steps: of that attacker, at least 100.
        weights: that attacker's lambdas.
        aims: which clean paths that attacker aims at.
        quality: of JPEG.
        gradient: the way past gates; the other one is tried too, by FGSM.
        seed: of all draws.
        batch: images at once.

    Raises:
        DataError: for values out of range.
    """

    strengths: tuple[float, ...] = tuple(n / 255 for n in (0, 1, 2, 4, 8, 12))
    detected: tuple[float, ...] = (2 / 255, 4 / 255, 8 / 255)
    strength: float = 8 / 255
    steps: int = 20
    mimics: int = 200
    mimic_steps: int = LEAST_STEPS
    weights: tuple[float, ...] = (0.1, 1.0, 10.0)
    aims: tuple[Where, ...] = get_args(Where)
    quality: int = QUALITY
    gradient: Way = "through"
    seed: int = 0
    batch: int = 100

    def __post_init__(self) -> None:
        for strength in (*self.strengths, *self.detected, self.strength):
            check_strength(strength)
        if not (self.strengths and self.detected and self.weights and self.aims):
            raise DataError("no strengths, weights or aims to try; give at least one of each.")
        check_counts(self.steps)
        check_way(self.gradient)
        for weight in self.weights:
            check_weight(weight)
        check_quality(self.quality)
        whole(self.seed, "seed", DataError)
        if not is_whole(self.mimic_steps, LEAST_STEPS):
            raise DataError(
                f"{self.mimic_steps} steps for the attacker who matches paths: fewer than {LEAST_STEPS} say nothing."
            )
        if not (is_whole(self.mimics) and is_whole(self.batch, 1)):
            raise DataError(f"mimics={self.mimics}, batch={self.batch}: whole numbers of at least 0 and 1 images.")

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        strengths = {name: [as_levels(s) for s in getattr(self, name)] for name in ("strengths", "detected")}
        rest = ("steps", "mimics", "mimic_steps", "quality", "gradient", "seed")
        return {
            **strengths,
            "aims": list(self.aims),
            "strength": as_levels(self.strength),
            "weights": list(self.weights),
            **{name: getattr(self, name) for name in rest},
        }
