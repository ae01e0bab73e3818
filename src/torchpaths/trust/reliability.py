"""Reliability: whether a confidence of 80 % means right in 80 of 100 cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchpaths.errors import DataError
from torchpaths.trust.answers import Floats

BINS = 15
"""Of equal width, as in Guo et al., "On Calibration of Modern Neural Networks", 2017."""


@dataclass(frozen=True)
class Reliability:
    """Confidence and accuracy in bins of equal width, bin b over ``(b / bins, (b + 1) / bins]``.

    Attributes:
        images: ``[bin]``.
        confidence: mean over the bin's images, in 0 to 1; NaN for none.
        accuracy: as ``confidence``.
    """

    images: NDArray[np.int64]
    confidence: Floats
    accuracy: Floats

    @property
    def ece(self) -> float:
        """Expected calibration error, in 0 to 1: the mean distance of confidence and accuracy, bins weighted by their
        images."""
        filled = self.images > 0
        gaps = np.abs(self.confidence[filled] - self.accuracy[filled])
        return float((gaps * self.images[filled]).sum() / self.images.sum())


def reliability(confidence: NDArray[Any], right: NDArray[np.bool_], bins: int = BINS) -> Reliability:
    """Sort images into bins by confidence.

    Args:
        confidence: in 0 to 1, ``[image]``.
        right: ``[image]``.
        bins: how many.

    Raises:
        DataError: for no images, other shapes, or confidences out of range.
    """
    if bins < 1 or confidence.ndim != 1 or confidence.shape != right.shape or not len(confidence):
        raise DataError(
            f"confidences of shape {confidence.shape}, right {right.shape}, {bins} bins; give [image] twice, of at "
            "least one image, and at least one bin."
        )
    if not ((confidence >= 0) & (confidence <= 1)).all():
        raise DataError("confidences outside of 0 to 1; give probabilities, such as the largest of a softmax.")
    index = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    images = np.bincount(index, minlength=bins)
    sums = [np.bincount(index, values, bins) for values in (confidence, right)]
    means = [np.divide(s, images, out=np.full(bins, np.nan), where=images > 0) for s in sums]
    return Reliability(images, *means)
