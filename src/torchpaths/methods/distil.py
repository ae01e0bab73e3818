"""How far a student's distribution is from a teacher's: the divergences of AdaptiveDepth (Eq. 2 and 8).

The paper says "for every spatial dimension" and nothing of how features become distributions; the authors' code takes
the softmax over channels of globally averaged features. Both readings are here, by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

from torchpaths.errors import RunError
from torchpaths.methods.task import Kind, shown

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


def outputs_apart(
    teacher: Any, student: Any, kind: Kind | Mapping[str, Kind], temperature: float = 1.0, top: int | None = None
) -> Tensor:
    """How far a student's outputs are from a teacher's, a scalar: the sum over all tensors among them.

    Classes: `divergence` over axis 1, a mean over samples and positions. Labels: ``T^2 KL`` between the two
    probabilities ``sigmoid(scores / T)`` of each label, a mean over all of them. Values: the mean squared difference.

    Args:
        teacher: outputs of the teacher: a tensor, or tensors by name or in a row.
        student: the student's.
        kind: of all tensors, or by name; those that are not named are not compared.
        temperature: see `divergence`.
        top: see `divergence`.

    Raises:
        RunError: for outputs that hold no such tensors.
    """
    taught, learnt = _by_name(teacher), _by_name(student)
    if isinstance(kind, Mapping):
        kinds = dict(kind)
        absent = next((name for name in kinds if name not in taught or name not in learnt), None)
        if absent is not None:
            raise RunError(f"outputs={kinds!r} names {absent!r}, which is no tensor among {shown(teacher)}.")
    else:
        kinds = dict.fromkeys((name for name in taught if name in learnt), kind)
    if not kinds:
        raise RunError(f"the network gives {shown(teacher)}, which holds no tensors of numbers to compare.")
    return torch.stack([_apart(taught[n], learnt[n], k, temperature, top) for n, k in kinds.items()]).sum()


def _by_name(outputs: Any) -> dict[str, Tensor]:
    if isinstance(outputs, Tensor):
        return {"": outputs}
    if isinstance(outputs, Mapping):
        parts: dict[str, Any] = {str(name): value for name, value in outputs.items()}
    elif isinstance(outputs, Sequence):
        parts = {str(i): value for i, value in enumerate(outputs)}
    else:
        parts = {}
    return {n: value for n, value in parts.items() if isinstance(value, Tensor) and value.is_floating_point()}


def _apart(teacher: Tensor, student: Tensor, kind: Kind, temperature: float, top: int | None) -> Tensor:
    if kind == "classes":
        if teacher.dim() < 2 or teacher.shape[1] < 2:
            raise RunError(
                f"outputs of {list(teacher.shape)} are no scores [batch, class, ...] of at least two classes to "
                "compare; for values, AdaptiveDepth(outputs='values'), for labels each for itself, 'labels'."
            )
        return divergence(teacher.movedim(1, -1), student.movedim(1, -1), temperature, top)
    if kind == "values":
        return (teacher.float() - student.float()).square().mean()
    p, q = teacher.float() / temperature, student.float() / temperature
    opened, closed = functional.logsigmoid(p), functional.logsigmoid(-p)
    kl = opened.exp() * (opened - functional.logsigmoid(q)) + closed.exp() * (closed - functional.logsigmoid(-q))
    return temperature**2 * kl.mean()
