"""AUROC and FPR95: how well a score tells images that deserve trust from those that do not; and how sure both are.

Clean images are what is to be let pass. The AUROC is the chance that a strange image has the higher score of suspicion,
ties counting half; FPR95 the share of strange images that pass where 95 % of the clean ones do (Hendrycks and Gimpel,
"A baseline for detecting misclassified and out-of-distribution examples", 2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from torchpaths.errors import DataError

Interval: TypeAlias = tuple[float, float]

NORMAL = 1.959963984540054
"""A normal variable lies within so many standard deviations of its mean with 95 %."""


@dataclass(frozen=True)
class Separation:
    """How well a score of suspicion separates clean from strange images.

    Attributes:
        auroc: 0 to 1; 0.5 for chance.
        interval: its 95 % interval (DeLong et al., 1988).
        fpr95: share of strange images let pass, 0 to 1.
        fpr95_interval: its 95 % interval (Wilson), for the threshold as it is.
        clean: how many images.
        strange: likewise.
    """

    auroc: float
    interval: Interval
    fpr95: float
    fpr95_interval: Interval
    clean: int
    strange: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "auroc": self.auroc,
            "auroc_interval": list(self.interval),
            "fpr95": self.fpr95,
            "fpr95_interval": list(self.fpr95_interval),
            "strange": self.strange,
        }


def separation(clean: NDArray[Any], strange: NDArray[Any]) -> Separation:
    """See `Separation`.

    Args:
        clean: scores of suspicion ``[image]``; infinite ones are the most suspicious.
        strange: likewise.

    Raises:
        DataError: for no images on a side, or scores that are not numbers.
    """
    if clean.ndim != 1 or strange.ndim != 1 or not len(clean) or not len(strange):
        raise DataError(f"scores of shapes {clean.shape} and {strange.shape}; give [image] of one image or more twice.")
    if np.isnan(clean).any() or np.isnan(strange).any():
        raise DataError("scores of suspicion that are not numbers; nothing can be ranked by them.")
    n, m = len(clean), len(strange)
    ranks = rankdata(np.concatenate([clean, strange]))
    # How often each image is on the right side of those of the other kind (DeLong's placement values).
    below = (ranks[n:] - rankdata(strange)) / n
    above = 1 - (ranks[:n] - rankdata(clean)) / m
    auroc = float(below.mean())
    variance = (above.var(ddof=1) / n if n > 1 else 0.25) + (below.var(ddof=1) / m if m > 1 else 0.25)
    off = NORMAL * float(np.sqrt(variance))
    passed = int((strange <= threshold(clean)).sum())
    interval = (max(0.0, auroc - off), min(1.0, auroc + off))
    return Separation(auroc, interval, passed / m, wilson(passed, m), n, m)


def threshold(clean: NDArray[Any], share: float = 0.95) -> float:
    """The lowest score at or under which so many of the clean images lie."""
    return float(np.sort(clean)[int(np.ceil(share * len(clean))) - 1])


def wilson(hits: int, of: int) -> Interval:
    """The 95 % interval of a share (Wilson, 1927); (0, 1) of nothing."""
    if not of:
        return 0.0, 1.0
    share, square = hits / of, NORMAL**2
    middle = (share + square / (2 * of)) / (1 + square / of)
    off = NORMAL / (1 + square / of) * np.sqrt(share * (1 - share) / of + square / (4 * of * of))
    return max(0.0, float(middle - off)), min(1.0, float(middle + off))
