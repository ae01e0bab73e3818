"""Test images for a folder that has none of its own: some of each class, chosen by what they are called.

Whether an image is held out is a function of (seed, name) and of nothing else. So the split is the same on every
machine, and images that come later, or go, move no other from one side to the other: what a network was trained on does
not turn up among its test images.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from torchpaths.data import noise
from torchpaths.errors import DataError


@dataclass(frozen=True, slots=True)
class Holdout:
    """How many images are held out.

    Attributes:
        share: of the images of each class, on average; between 0 and 1.
        seed: another one gives another split.

    Raises:
        DataError: for a share out of range.
    """

    share: float
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise DataError(f"holdout={self.share!r}: give the share of images for testing, between 0 and 1, e.g. 0.2.")

    def chosen(self, names: Sequence[str], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which images are held out.

        Args:
            names: of the files, from the folder of classes on.
            labels: ``[n]``. A class of two images or more has at least one on either side; one alone is for training.

        Returns:
            bool ``[n]``.
        """
        digests = [hashlib.blake2b(os.fsencode(name), digest_size=8).digest() for name in names]
        draws = noise.uniform(
            self.seed, noise.HOLDOUT, np.array([int.from_bytes(d, "little") for d in digests], np.uint64)
        )
        held = draws < self.share
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            if len(members) == 1:
                held[members] = False
            elif not held[members].any():
                held[members[draws[members].argmin()]] = True
            elif held[members].all():
                held[members[draws[members].argmax()]] = False
        return np.asarray(held)
