"""How far what a network says is from what it said before, by what its outputs mean."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from torch import Tensor
from torch.nn.functional import logsigmoid

from torchpaths.methods.distil import divergence
from torchpaths.outputs import as_scores

Outputs: TypeAlias = Literal["classes", "labels", "values"]
"""``classes``: scores of classes that exclude one another, or their probabilities; ``labels``: a score for each label,
which may all be true at once; ``values``: numbers, as in regression."""

Apart: TypeAlias = tuple[float, float]
"""The distance, and for those that are equally far the squared change beside the size of what was said."""


def meant(scores: Tensor) -> Outputs:
    """What outputs ``[batch, outputs, ...]`` mean where nothing was said: of two or more, classes."""
    return "classes" if scores.shape[1] > 1 else "values"


def apart(before: Tensor, now: Tensor, outputs: Outputs) -> Apart:
    """How far apart two outputs are, means over images.

    Args:
        before: ``[batch, outputs, ...]``.
        now: of the same shape.
        outputs: what they mean. ``classes``: the Kullback-Leibler divergence of the classes' probabilities, in nats;
            ``labels``: the sum of the labels' divergences; ``values``: the squared change beside the values' variance.

    Returns:
        Infinity for what is not finite.
    """
    before, now = before.double(), now.double()
    changed = float((now - before).square().sum() / before.square().sum().clamp(min=1e-300))
    if outputs == "classes":
        found = divergence(as_scores(before).movedim(1, -1), as_scores(now).movedim(1, -1))
    elif outputs == "labels":
        p = before.sigmoid()
        told = p * (logsigmoid(before) - logsigmoid(now)) + (1 - p) * (logsigmoid(-before) - logsigmoid(-now))
        found = told.sum() / len(before)
    else:
        found = (now - before).square().mean() / before.var(unbiased=False).clamp(min=1e-300)
    far = float(found)
    return (far, changed) if math.isfinite(far) and math.isfinite(changed) else (math.inf, math.inf)
