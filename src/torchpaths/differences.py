"""How far outputs of two networks are apart, in units of what rounding may do: ``difference``."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TOLERANCE = 1e-4
"""Largest difference of an output, relative to its largest value, with which a cut network counts as the same; for
half precision twice the distance between neighbouring numbers."""


def difference(got: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, in units of what is allowed; infinite where shapes differ or a value is not finite."""
    if [y.shape for y in got] != [y.shape for y in expected]:
        return math.inf
    worst = 0.0
    for a, b in zip(got, expected, strict=True):
        if b.is_floating_point() and b.numel():
            allowed = max(TOLERANCE, 2 * torch.finfo(b.dtype).eps) * b.double().abs().max().clamp(min=1e-30)
            off = float((a.double() - b.double()).abs().max() / allowed)
            worst = max(worst, math.inf if math.isnan(off) else off)
        elif not torch.equal(a, b):
            return math.inf
    return worst
