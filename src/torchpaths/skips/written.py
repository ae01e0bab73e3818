"""``Unwritten``: whether tensors are what they were when something was made of them.

Norms in training and fused optimizers write without torch's counting it, so values are compared too: all of vectors,
and some of a weight, of which a step of training leaves none as it was. Looked at before each call, so all at once.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

SAMPLED = 16
"""Values of a weight that are looked at to see whether it was written."""


class Unwritten:
    """Some tensors as they are now. It keeps them, so that no others can come to lie in their memory."""

    def __init__(self, tensors: Sequence[Tensor | None]) -> None:
        self._tensors = tuple(tensors)
        self._there = [t for t in tensors if t is not None]
        self._versions = self._now()
        samples: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for t in self._there:
            samples.setdefault((t.dtype, t.device), []).append(sample(t))
        self._samples = tuple(samples.values())
        self._values = tuple(torch.cat(of) for of in self._samples)

    def holds(self, tensors: Sequence[Tensor | None]) -> bool:
        """Whether these are the same ones, with the same values."""
        own = self._tensors
        if len(tensors) != len(own) or any(map(operator.is_not, tensors, own)) or self._now() != self._versions:
            return False
        return all(torch.equal(torch.cat(of), was) for of, was in zip(self._samples, self._values, strict=True))

    def _now(self) -> list[tuple[int, int]]:
        return [(t.data_ptr(), 0 if t.is_inference() else t._version) for t in self._there]


def sample(t: Tensor) -> Tensor:
    """A vector; of a weight a few values from all over it."""
    if type(t).dequantize is not Tensor.dequantize:
        t = t.dequantize()  # kept in eight bits by another library
    flat = t.detach().reshape(-1) if t.is_contiguous() else t.detach().as_strided((t.numel(),), (1,))
    return flat if t.dim() < 2 else flat[:: max(1, len(flat) // SAMPLED)]
