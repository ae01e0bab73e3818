"""How a hard decision gets a gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def straight_through(noisy: Tensor) -> tuple[Tensor, Tensor]:
    """``1[noisy > 0]`` as numbers with the gradient of ``sigmoid(noisy)`` (ConvNet-AIG, Eq. 7 and 8), and as bools."""
    hard: tuple[Tensor, Tensor] = _StraightThrough.apply(noisy)
    return hard


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, noisy: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(noisy)
        opened = noisy > 0
        ctx.mark_non_differentiable(opened)
        return opened.to(noisy.dtype), opened

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        soft = torch.sigmoid(ctx.saved_tensors[0])
        return gradient * (soft * (1 - soft))
