"""Temperatures that logits are divided by so that confidence is honest (Guo et al., "On Calibration of Modern Neural
Networks", 2017): one for all images, or one for each, whose logarithm is linear in what else is known of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from torchpaths.errors import DataError, RunError
from torchpaths.trust.answers import Floats

LIMIT = 5.0
"""The temperature's logarithm stays between -5 and 5: where the network is right about all the images it is fitted on,
the best temperature is 0."""
PRIOR = 1.0
"""Standard deviation of a normal prior on the features' weights, worth one image of evidence: of few images, of which a
network gets hardly any wrong, any feature could explain all."""


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
