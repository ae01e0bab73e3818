"""Calibration: whether a confidence of 80 % means right in 80 of 100 cases, and whether early decoders help to make it
so (section 4.4, appendix C).

The paper says that early decoders "can be a source of extra features used to improve state-of-the-art confidence
calibration methods" and leaves the how to its appendix C, whose text was not at hand here: what follows is the plainest
form of that idea, not the authors'. The network's logits are divided by a temperature (Guo et al., "On Calibration of
Modern Neural Networks", 2017), one for all images or one for each, whose logarithm is linear in how many early decoders
agree with the prediction and in how clearly they decode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from torchpaths.decoding.readings import Readings
from torchpaths.trust.answers import Floats
from torchpaths.trust.calibration import Calibrated, halves
from torchpaths.trust.reliability import BINS
from torchpaths.trust.temperature import UNSCALED, fit

FEATURES = ("agreeing", "margin")
"""The columns of `features_of`."""


def features_of(readings: Readings) -> Floats:
    """What early decoders add, ``[image, 2]``: the share that agrees with the prediction, and their mean margin."""
    share = readings.agreeing / len(readings.sites)
    return np.stack([share, readings.margins.mean(1)], 1).astype(np.float64)


@dataclass(frozen=True)
class Calibration:
    """A network's calibration as it is, with one temperature, and with one that also sees the early decoders.

    Attributes:
        fitted_on: how many images.
        measured_on: how many others.
        ways: ``unscaled``, ``temperature`` and ``decoders``.
    """

    fitted_on: int
    measured_on: int
    ways: dict[str, Calibrated]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        ways = {name: way.to_json() for name, way in self.ways.items()}
        about = {"bins": BINS, "fitted_on": self.fitted_on, "measured_on": self.measured_on, "features": list(FEATURES)}
        return {**about, **ways}


def calibrate(readings: Readings, *, share: float = 0.5, seed: int = 0) -> Calibration:
    """Fit on some of the images, drawn by chance, and measure on the others.

    Args:
        readings: of images that the network was not trained on.
        share: of the images that it is fitted on, in (0, 1).
        seed: of the draw.

    Raises:
        DataError: for a share out of range, or too few images to divide.
    """
    fitted, measured = halves(len(readings.labels), seed, share)
    held, rest = readings.only(fitted), readings.only(measured)
    scalings = {
        "unscaled": UNSCALED,
        "temperature": fit(held.logits, held.labels),
        "decoders": fit(held.logits, held.labels, features_of(held)),
    }
    known = features_of(rest)
    ways = {name: Calibrated.on(scaling, rest.logits, rest.labels, known) for name, scaling in scalings.items()}
    return Calibration(len(fitted), len(measured), ways)
