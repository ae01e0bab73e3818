"""What of a model's output is its answer: models of transformers return a dictionary of several values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

_ANSWERS = ("logits", "image_embeds", "last_hidden_state")
"""What transformers calls them, the last layer's first."""


def answer(y: Any) -> Any:
    """The tensor that is a model's answer.

    Args:
        y: what the model returned: a tensor; a dictionary, such as a ``ModelOutput`` of transformers, of which the
            answer is ``logits``, ``image_embeds`` or ``last_hidden_state``; or another thing, which is left as it is.
    """
    if isinstance(y, Mapping):
        return next((y[name] for name in _ANSWERS if isinstance(y.get(name), Tensor)), y)
    return y
