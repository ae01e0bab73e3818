"""``Energies``: the 1x1 convolution behind the branches of a coded block (Coded ResNeXt, sections 3.1.1 and 3.1.3).

It normalises the branches by their mean energy (eq. 3), which is noted in the trace, and adds them. A branch that is
closed is removed before its energy is measured, and the mean is over all branches of the block still (paper, footnote
3); one that is dropped in training (``z`` of 0 while it is open) is dropped after the normalisation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.models.energy import EPS, EnergyConv2d, Seen, constant_gram, gram, normalise
from torchpaths.path import Bools
from torchpaths.places.channels.layer import Layer, Role, is_full
from torchpaths.places.channels.weights import numbers
from torchpaths.trace import Decision, Site

ENERGIES = "energies"
"""Under which a decision's response holds the normalised energies ``[batch, unit]``, of mean 1 (eq. 3)."""


class Energies(Layer):
    """See above. ``block`` is an ``nn.Conv2d`` of one group, kernel 1 and stride 1."""

    def __init__(self, block: nn.Module, site: Site) -> None:
        super().__init__(block, Role(columns=site))
        self.site = site

    def read(self, x: Tensor, decision: Decision | None, columns: Bools | None) -> Tensor:
        """The branches that are there, some removed or dropped, normalised. See `Layer.read`."""
        of = len(self.site.units)
        if columns is None:
            opened, z = (None, None) if decision is None or is_full(decision) else (decision.open, decision.z)
            x, energies = normalise(x, self._products(), self.block.out_channels, of, opened, z)  # type: ignore[arg-type]
            self.note(self.site, ENERGIES, lambda: energies)
        elif any(columns):
            index = torch.tensor([unit for unit, is_open in enumerate(columns) if is_open], device=x.device)
            products = self._products().index_select(0, index)
            x, energies = normalise(x, products, self.block.out_channels, of)  # type: ignore[arg-type]
            self.note(self.site, ENERGIES, lambda: energies.new_zeros(x.shape[0], of).index_copy(1, index, energies))
        else:
            kind = torch.promote_types(x.dtype, torch.float32)
            self.note(self.site, ENERGIES, lambda: torch.zeros(x.shape[0], of, dtype=kind, device=x.device))
        return x

    def _products(self) -> Tensor:
        """See `gram`; kept from call to call while no gradient is wanted of it."""
        weight: Tensor = self.block.weight  # type: ignore[assignment]
        units = len(self.site.units)
        if torch.compiler.is_compiling():
            return gram(weight, units)
        if torch.is_grad_enabled() and weight.requires_grad:
            self.kept = None  # what trains may write into weights without torch counting it
            return gram(weight, units)
        known: tuple[Seen, Tensor] | None = self.kept
        if known is None or not known[0].holds(weight):
            products, seen = constant_gram(weight, units), Seen.of(weight)
            self.kept = None if seen is None else (seen, products)
            return products
        return known[1]

    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        """A convolution that normalises the branches that are kept; without any, what its bias gives."""
        kept, conv = opened[self.site.name], self.block
        assert isinstance(conv, nn.Conv2d)
        if not any(kept):
            return super().cut(opened, rectified)
        made = EnergyConv2d.of_conv(conv, sum(kept), len(kept))
        if not all(kept):
            index = torch.tensor(numbers(kept, conv.in_channels), device=conv.weight.device)
            made.weight = nn.Parameter(conv.weight.detach().index_select(1, index), conv.weight.requires_grad)
        made.settle()
        return made


class Explicit(nn.Module):
    """The paper's own form: every branch's output computed, N times the work and memory of the sum. The reference that
    `Energies` is held against."""

    def __init__(self, conv: Any, branches: int) -> None:
        """
        Args:
            conv: see `Energies`.
            branches: N.
        """
        super().__init__()
        self.conv: nn.Conv2d = conv
        self.branches = branches

    def forward(self, x: Tensor, opened: Tensor | None = None, z: Tensor | None = None) -> Tensor:
        """See `both`."""
        return self.both(x, opened, z)[0]

    def both(self, x: Tensor, opened: Tensor | None, z: Tensor | None) -> tuple[Tensor, Tensor]:
        """The sum of the branches ``[B, C, H, W]`` and their normalised energies ``[B, N]``, eq. 2 and 3.

        Args:
            x: ``[B, N d, H, W]``.
            opened: ``[B, N]``, see `normalise`.
            z: ``[B, N]``, see there.
        """
        weight, count = self.conv.weight, self.branches
        each = weight.reshape(len(weight), count, -1, 1, 1).transpose(0, 1).flatten(0, 1)
        t = functional.conv2d(x, each, groups=count)
        t = t.view(len(x), count, len(weight), *t.shape[2:])
        if opened is None:
            opened = x.new_ones(len(x), count)
        t = t * opened.to(x.dtype)[..., None, None, None]
        energies = t.square().mean((2, 3, 4))
        root = torch.sqrt(energies.mean(1, keepdim=True) + EPS)
        y = (t * ((opened if z is None else z).to(x.dtype) / root)[..., None, None, None]).sum(1)
        bias = self.conv.bias
        return y if bias is None else y + bias.view(1, -1, 1, 1), energies / root.square()
