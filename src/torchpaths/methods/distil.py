"""How far a student's distribution is from a teacher's: the divergences of AdaptiveDepth (Eq. 2 and 8).

The paper says "for every spatial dimension" and nothing of how features become distributions; the authors' code takes
the softmax over channels of globally averaged features. Both readings are here, by name.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor

Features: TypeAlias = Literal["none", "pooled", "spatial"]
"""What of a stage's features is compared: nothing; their average over all positions, as a distribution over channels
(the authors' code); or each channel, as a distribution over positions (the paper's wording)."""


def pooled(features: Tensor, axis: int) -> Tensor:
    """The average over positions: ``[batch, 1, channels]``, in float32.

    Args:
        features: ``[batch, ...]``.
        axis: which axis holds channels.
    """
    over = [dim for dim in range(1, features.dim()) if dim != axis % features.dim()]
    # A sum, unlike a mean, has a gradient that is one value per channel, expanded: nothing of the features' size.
    summed = features.sum(over, dtype=torch.float32) if over else features.float()
    return (summed * (summed.numel() / features.numel())).unsqueeze(1)


def spatial(features: Tensor, axis: int) -> Tensor:
    """Each channel's values at all positions: ``[batch, channels, positions]``, in float32. Arguments as `pooled`."""
    return features.movedim(axis, 1).unsqueeze(-1).flatten(2).float()


def divergence(teacher: Tensor, student: Tensor, temperature: float = 1.0, top: int | None = None) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(student / T))``, a mean over samples.

    Args:
        teacher: scores, ``[batch, ..., classes]``; distributions are over the last axis, those between are averaged.
        student: the same.
        temperature: T; with T^2 the gradient's size hardly depends on it (Hinton et al., 2015).
        top: only the teacher's so many largest classes count (the authors' code: 500); None for all.
    """
    if top is not None and top < teacher.shape[-1]:
        teacher, chosen = teacher.topk(top, dim=-1)
        student = student.gather(-1, chosen)
    p = torch.log_softmax(teacher.float() / temperature, -1)
    q = torch.log_softmax(student.float() / temperature, -1)
    return temperature**2 * (p.exp() * (p - q)).sum(-1).mean()
