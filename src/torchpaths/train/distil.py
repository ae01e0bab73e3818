"""``Distil``: a network that learns from another one as well as from labels (Hinton et al., 2015).

``(1 - w) CE(student, labels) + w T^2 KL(softmax(teacher / T) || softmax(student / T))``. None of the four papers has it
but AdaptiveDepth, whose teacher is its own super-net; it is what keeps the accuracy of a trained network of which parts
are closed. The teacher is no part of the objective: optimizer, DDP and checkpoints do not know it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchpaths.errors import RunError
from torchpaths.methods.distil import divergence
from torchpaths.methods.task import CrossEntropy, scores, shown

START = "start"

Teacher = Callable[[Tensor], Tensor]
"""Images ``[B, C, H, W]`` -> scores ``[B, C]``, without gradient."""


@dataclass(frozen=True)
class Distil:
    """Who teaches, and how much that counts.

    Attributes:
        teacher: ``"start"``, the network that training starts from, with everything open; or the folder of a run, which
            teaches as it decides itself.
        weight: of the teacher's part of the loss, in (0, 1]; the labels have the rest.
        temperature: T, above 0.
    """

    teacher: str = START
    weight: float = 0.7
    temperature: float = 3.0

    def __post_init__(self) -> None:
        if not self.teacher or not isinstance(self.teacher, str):
            raise RunError(f"teacher={self.teacher!r}: give 'start', or the folder of a run.")
        if not 0 < self.weight <= 1:
            raise RunError(f"weight={self.weight!r}: the teacher's share of the loss lies in (0, 1].")
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise RunError(f"temperature={self.temperature!r}: a number above 0.")

    def resolved(self) -> Distil:
        """With an absolute folder."""
        if self.teacher == START:
            return self
        return Distil(str(Path(self.teacher).resolve()), self.weight, self.temperature)


class Distilled(CrossEntropy):
    """The task's loss of a student: ``(outputs, (labels, the teacher's scores)) -> scalar``."""

    def __init__(self, distil: Distil, smoothing: float = 0.0) -> None:
        """
        Args:
            distil: how.
            smoothing: of the labels, in [0, 1).
        """
        super().__init__(smoothing)
        self.distil = distil

    def __call__(self, outputs: Any, target: Any) -> Tensor:
        """
        Raises:
            RunError: also where teacher and student do not tell the same classes apart.
        """
        labels, taught = target
        task, found = super().__call__(outputs, labels), scores(outputs)
        if taught.shape != found.shape:
            raise RunError(
                f"the teacher gives {shown(taught)}, this network {shown(found)}: it learns from one of other classes; "
                "take a teacher of the same."
            )
        taught, found = taught.movedim(1, -1), found.movedim(1, -1)
        weight = self.distil.weight
        return (1 - weight) * task + weight * divergence(taught, found, self.distil.temperature)


def labels_of(target: Any) -> Any:
    """The labels in what `Distilled` is given."""
    return target[0]


def teaches(net: Any, again: tuple[Tensor, Tensor] | None = None) -> Teacher:
    """A routed network as a teacher; it is set to evaluation. ``again``: factor and summand, ``[C, 1, 1]``, which make
    its input of the student's; None where they are the same."""
    net.eval().requires_grad_(False)

    def teach(x: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = scores(net(x if again is None else x * again[0] + again[1])[0])
        return found

    return teach
