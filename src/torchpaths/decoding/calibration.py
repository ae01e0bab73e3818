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
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from torchpaths.decoding.readings import Readings
from torchpaths.errors import DataError, RunError

Floats: TypeAlias = NDArray[np.float64]

BINS = 15
"""Of equal width, as in Guo et al."""
LIMIT = 5.0
"""The temperature's logarithm stays between -5 and 5: where the network is right about all the images it is fitted on,
the best temperature is 0."""
PRIOR = 1.0
"""Standard deviation of a normal prior on the features' weights, worth one image of evidence: of few images, of which a
network gets hardly any wrong, any feature could explain all."""


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


@dataclass(frozen=True)
class Scaling:
    """Temperatures: ``log T = bias + weights . (features - centre) / spread``.

    Attributes:
        bias: see above.
        weights: ``[feature]``; none where all images have one temperature.
        centre: mean of the features over the images it was fitted on.
        spread: their standard deviation.
    """

    bias: float
    weights: Floats
    centre: Floats
    spread: Floats

    def temperatures(self, features: Floats | None, images: int) -> Floats:
        """``[image]``, for features ``[image, feature]``."""
        made = np.full(images, self.bias)
        if len(self.weights):
            if features is None:
                raise DataError("this scaling was fitted with features; give those of these images too.")
            made = made + (features - self.centre) / self.spread @ self.weights
        return np.asarray(np.exp(np.clip(made, -LIMIT, LIMIT)))

    def probabilities(self, logits: NDArray[Any], features: Floats | None = None) -> Floats:
        """Softmax of the logits divided by the temperatures, ``[image, class]``; the largest stays the largest."""
        scaled = logits.astype(np.float64) / self.temperatures(features, len(logits))[:, None]
        powers = np.exp(scaled - scaled.max(1, keepdims=True))
        return np.asarray(powers / powers.sum(1, keepdims=True))


UNSCALED = Scaling(0.0, np.zeros(0), np.zeros(0), np.ones(0))
"""The network as it is: a temperature of 1."""


def fit(logits: NDArray[Any], labels: NDArray[np.int64], features: Floats | None = None) -> Scaling:
    """The temperatures of least mean negative log-likelihood, by LBFGS in float64.

    With features their weights have a prior (`PRIOR`), and the search begins at the best single temperature, so that on
    the images it is fitted on it is never worse than that.

    Args:
        logits: of held-out images, not those the network was trained on, ``[image, class]``.
        labels: ``[image]``.
        features: ``[image, feature]``; None for one temperature for all.

    Raises:
        DataError: for no images, or shapes that do not belong together.
        RunError: for values that are not finite.
    """
    wrong = logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels)
    if wrong or (features is not None and (features.ndim != 2 or len(features) != len(labels))):
        raise DataError(
            f"logits of shape {logits.shape}, labels {labels.shape}, features "
            f"{None if features is None else features.shape}; give a row for each image, of at least one image."
        )
    if not np.isfinite(logits).all() or (features is not None and not np.isfinite(features).all()):
        raise RunError(
            "logits or features that are not finite; the checkpoint is damaged, or the images are not normalised as in "
            "training."
        )
    if features is None:
        return _fitted(logits, labels, np.zeros((len(labels), 0)), 0.0)
    return _fitted(logits, labels, features, fit(logits, labels).bias)


def _fitted(logits: NDArray[Any], labels: NDArray[np.int64], features: Floats, start: float) -> Scaling:
    centre, spread = features.mean(0), features.std(0)
    spread = np.where(spread > 0, spread, 1.0)
    scores, wanted = torch.from_numpy(logits.astype(np.float64)), torch.from_numpy(labels)
    known = torch.from_numpy((features - centre) / spread)
    parameters = torch.zeros(1 + features.shape[1], dtype=torch.float64)
    parameters[0] = start
    parameters.requires_grad_()
    search = torch.optim.LBFGS([parameters], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def loss() -> float:
        search.zero_grad()
        logs = (parameters[0] + known @ parameters[1:]).clamp(-LIMIT, LIMIT)
        nll = functional.cross_entropy(scores / logs.exp().unsqueeze(1), wanted)
        total = nll + parameters[1:].square().sum() / (2 * PRIOR**2 * len(wanted))
        total.backward()  # type: ignore[no-untyped-call]
        return float(total.detach())

    search.step(loss)  # type: ignore[no-untyped-call]
    bias, *weights = parameters.detach().tolist()
    return Scaling(bias, np.array(weights), centre, spread)


FEATURES = ("agreeing", "margin")
"""The columns of `features_of`."""


def features_of(readings: Readings) -> Floats:
    """What early decoders add, ``[image, 2]``: the share that agrees with the prediction, and their mean margin."""
    share = readings.agreeing / len(readings.sites)
    return np.stack([share, readings.margins.mean(1)], 1).astype(np.float64)


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
        ways = {
            name: {
                "ece": way.reliability.ece,
                "nll": way.nll,
                "log_temperature": way.scaling.bias,
                "weights": way.scaling.weights.tolist(),
            }
            for name, way in self.ways.items()
        }
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
    count = len(readings.labels)
    cut = round(share * count)
    if not 0 < share < 1 or not 0 < cut < count:
        raise DataError(f"a share of {share:g} of {count} images is to be fitted on, others measured: give both some.")
    order = np.random.default_rng(seed).permutation(count)
    held, rest = readings.only(order[:cut]), readings.only(order[cut:])
    scalings = {
        "unscaled": UNSCALED,
        "temperature": fit(held.logits, held.labels),
        "decoders": fit(held.logits, held.labels, features_of(held)),
    }
    ways = {}
    for name, scaling in scalings.items():
        probabilities = scaling.probabilities(rest.logits, features_of(rest))
        of_label = probabilities[np.arange(len(rest.labels)), rest.labels]
        nll = float(-np.log(np.maximum(of_label, np.finfo(np.float64).tiny)).mean())
        ways[name] = Calibrated(scaling, reliability(probabilities.max(1), rest.right), nll)
    return Calibration(cut, count - cut, ways)
