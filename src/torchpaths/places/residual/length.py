"""Which operand of a sum is the branch: the longer way.

A shortcut hands its value on, or projects it: one linear layer with its norm, an affine map. It may hold more
parameters than the branch does (narrow grouped bottlenecks), so their number only breaks ties.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Way:
    """One operand of a sum, from the value before it.

    Attributes:
        parameters: what it holds.
        run: the value before the sum -> the operand.
    """

    parameters: Sequence[nn.Parameter]
    run: Callable[[Tensor], Tensor]

    @property
    def layers(self) -> int:
        """How many layers with weights it has: matrices and filters, not the vectors of norms and scales."""
        return sum(p.dim() > 1 and p.numel() > max(p.shape) for p in self.parameters)

    @property
    def size(self) -> int:
        """How many parameters."""
        return sum(p.numel() for p in self.parameters)


def longer(a: Way, b: Way, value: Tensor) -> Way:
    """The branch of two ways: one with activations before one without, then by layers, then by parameters.

    Args:
        a: one operand.
        b: the other.
        value: the value before the sum in the example, ``[batch, ...]``.
    """
    if min(a.layers, b.layers) > 1 or a.layers == b.layers:
        bent = [bool(way.parameters) and not _affine(way.run, value[:1]) for way in (a, b)]
        if bent[0] != bent[1]:
            return a if bent[0] else b
    return a if (a.layers, a.size) >= (b.layers, b.size) else b


@torch.no_grad()
def _affine(run: Callable[[Tensor], Tensor], value: Tensor) -> bool:
    """Whether ``run`` takes the middle of two values to the middle of what it makes of them."""
    draw = torch.Generator().manual_seed(0)
    scale = value.float().std(correction=0).nan_to_num().item() or 1.0
    noise = [scale * torch.randn(value.shape, generator=draw).to(value) for _ in range(2)]
    first, second, middle = (run(x.clone()).double() for x in (*noise, (noise[0] + noise[1]) / 2))
    return bool((middle - (first + second) / 2).abs().max() <= 1e-2 * max(first.abs().max(), second.abs().max()))
