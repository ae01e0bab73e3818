"""What of a model's output is its answer: models of transformers return a dictionary of several values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_ANSWERS = ("logits", "image_embeds", "last_hidden_state")
"""What transformers calls them, the last layer's first."""

TWO_SCORES = (
    "where its score z says yes or no, route a network with two outputs around it, that gives [-z, z] / 2: "
    "torch.cat([-z, z], 1) / 2, whose cross-entropy is the binary one of z"
)
"""What makes a classifier of a network of one score, for errors: then ``softmax`` gives ``sigmoid(z)`` for class 1."""


def are_probabilities(outputs: Tensor) -> bool:
    """Whether what stands along axis 1 of ``[batch, class, ...]`` are probabilities, as a network that ends in a
    softmax gives them: of each image none below 0, and together 1."""
    if outputs.dim() < 2 or outputs.shape[1] < 2 or not outputs.numel():
        return False
    return bool((outputs >= 0).all()) and bool(((outputs.sum(1) - 1).abs() < 1e-3).all())


def as_scores(outputs: Tensor) -> Tensor:
    """Scores of classes, whose softmax are their probabilities: of probabilities the logarithm."""
    return outputs.clamp(min=1e-30).log() if are_probabilities(outputs) else outputs


PROBABILITIES = (
    "the network gives probabilities (it ends in a softmax), and the cross-entropy takes scores: their softmax once "
    "more is nearly even, so gradients are weak; leave the network's last softmax out."
)
"""A warning, for whatever asks for the cross-entropy."""


def answer(y: Any) -> Any:
    """The tensor that is a model's answer.

    Args:
        y: what the model returned: a tensor; a dictionary, such as a ``ModelOutput`` of transformers, of which the
            answer is ``logits``, ``image_embeds`` or ``last_hidden_state``; or another thing, which is left as it is.
    """
    if isinstance(y, Mapping):
        return next((y[name] for name in _ANSWERS if isinstance(y.get(name), Tensor)), y)
    return y
