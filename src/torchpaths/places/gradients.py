"""Two small operations with gradients of their own. Same values and gradients as the plain formulas, less time.

A gate adds little arithmetic to a block but several passes over its feature map in the backward pass: the gradient of
the pooled features is spread out and added, the gradient of ``z`` multiplies two maps. What gates cost a training step
as it is now is measured by ``benchmarks/training.py`` and kept in ``records/training_throughput``. Under a transform of
``torch.func`` (per-sample gradients, Jacobians) the plain formulas stand in: there tensors do not tell how they
lie in memory.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from torchpaths.trace import transformed


def _pixels(x: Tensor) -> Tensor | None:
    """bfloat16 maps in channels_last as ``[batch, pixels, channels]``, where matrix products reduce several times
    faster than sums do (and accumulate in float32 as sums do); None for any other tensor."""
    if x.dtype != torch.bfloat16 or x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        return None
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def pool(x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """``x`` handed through, and its mean over ``axes`` in float32: global average pooling (ConvNet-AIG, Eq. 4).

    Because ``x`` goes through, the gradient of the mean is added to its gradient once, in one pass.
    """
    if transformed():
        return x, x.mean(axes).float()
    if torch.is_grad_enabled() and x.requires_grad:
        both: tuple[Tensor, Tensor] = _Pool.apply(x, axes)
        return both
    return x, _mean(x, axes)


def mix(shortcut: Tensor, branch: Tensor, z: Tensor) -> Tensor:
    """``shortcut + z * branch`` (ConvNet-AIG, Eq. 3), in one pass over memory.

    Args:
        shortcut: ``[batch, ...]``.
        branch: of the same shape and type.
        z: ``[batch, 1, ...]`` of the same type.
    """
    if torch.is_grad_enabled() and z.requires_grad and not transformed():
        mixed: Tensor = _Mix.apply(shortcut, branch, z)
        return mixed
    return torch.addcmul(shortcut, branch, z)


def _mean(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    if x.shape[0] == 1 and axes == (2, 3) and x.dtype == torch.float32 and not torch.compiler.is_compiling():
        return _mean_of_one(x)
    pixels = _pixels(x) if axes == (2, 3) else None
    if pixels is None:
        return x.mean(axes).float()
    ones = x.new_ones(1, 1, 1).expand(len(x), 1, pixels.shape[1])
    return torch.bmm(ones, pixels).squeeze(1).float() / pixels.shape[1]


def _mean_of_one(x: Tensor) -> Tensor:
    """The mean over the pixels of a single float32 image, as a product with a vector: half the time of ``mean``."""
    _, channels, height, width = x.shape
    count = height * width
    if x.is_contiguous():
        rows = x.view(channels, count)
    elif x.is_contiguous(memory_format=torch.channels_last):
        rows = x.permute(0, 2, 3, 1).view(count, channels).t()
    else:
        return x.mean((2, 3))
    return torch.mv(rows, _average(count, x.device)).view(1, channels)


@functools.lru_cache(maxsize=64)
def _average(count: int, device: torch.device) -> Tensor:
    return torch.full((count,), 1 / count, device=device)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        ctx.axes, ctx.shape, ctx.dtype = axes, x.shape, x.dtype
        ctx.set_materialize_grads(False)
        return x.view_as(x), _mean(x, axes)

    @staticmethod
    def backward(ctx: Any, through: Tensor | None, pooled: Tensor | None) -> tuple[Tensor | None, None]:
        if pooled is None:
            return through, None
        spread = (pooled / _count(ctx.shape, ctx.axes)).to(ctx.dtype)
        if through is not None and ctx.axes == (2, 3) and through.is_contiguous(memory_format=torch.channels_last):
            # Add to whole rows of pixels: with few channels, adding to each pixel by itself is several times slower.
            batch, channels, height, width = through.shape
            rows = through.permute(0, 2, 3, 1).view(batch, height, width * channels)
            total = rows + spread.repeat(1, width).unsqueeze(1)
            return total.view(batch, height, width, channels).permute(0, 3, 1, 2), None
        for axis in ctx.axes:
            spread = spread.unsqueeze(axis)
        return spread.expand(ctx.shape) if through is None else through + spread, None


def _count(shape: torch.Size, axes: tuple[int, ...]) -> int:
    """How many values a mean over ``axes`` averages."""
    count = 1
    for axis in axes:
        count *= shape[axis]
    return count


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shortcut: Tensor, branch: Tensor, z: Tensor) -> Tensor:
        ctx.save_for_backward(branch, z)
        return torch.addcmul(shortcut, branch, z)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        branch, z = ctx.saved_tensors
        a, b = _pixels(gradient), _pixels(branch)
        if a is None or b is None:
            product = (gradient * branch).sum(tuple(range(1, branch.dim())), keepdim=True)
        else:
            product = torch.bmm(a.flatten(1).unsqueeze(1), b.flatten(1).unsqueeze(2)).view_as(z)
        return gradient, gradient * z, product
