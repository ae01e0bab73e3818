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
    generate_vmap_rule = True

    @staticmethod
    def forward(noisy: Tensor) -> tuple[Tensor, Tensor]:
        opened = noisy > 0
        return opened.to(noisy.dtype), opened

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        soft = torch.sigmoid(ctx.saved_tensors[0])
        return gradient * (soft * (1 - soft))


def semhash(noisy: Tensor, hard: Tensor) -> Tensor:
    """Improved SemHash (network decoupling, eq. 3 and 4): ``1[noisy > 0]`` where it is hard, elsewhere the saturating
    sigmoid ``clamp(1.2 sigmoid(noisy) - 0.1, 0, 1)``; the gradient is the latter's in both cases.

    Args:
        noisy: ``[batch, unit]``.
        hard: bool, broadcasts to it.
    """
    mixed: Tensor = _SemHash.apply(noisy, hard)
    return mixed


class _SemHash(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(noisy: Tensor, hard: Tensor) -> Tensor:
        soft = 1.2 * torch.sigmoid(noisy) - 0.1
        return torch.where(hard, (noisy > 0).to(noisy.dtype), soft.clamp(0, 1))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        soft = torch.sigmoid(ctx.saved_tensors[0])
        inside = (1.2 * soft - 0.1 > 0) & (1.2 * soft - 0.1 < 1)
        return gradient * inside * (1.2 * soft * (1 - soft)), None
