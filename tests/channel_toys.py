"""Two small methods that close channels inside a block: ``ToyFilters``, decided for each image by what the layer sees,
and ``ToyBranches``, set from outside.

They show what a method is made of: a place (the library's `Layer`, how a module runs with units closed), a decider
(`FilterGate`) and the method that finds the modules and says what their parts cost. In ``conv1 -> norm -> relu ->
conv2`` a closed unit takes with it rows of the first convolution and of the norm and columns of the second. Each of the
three layers gets a junction of its own; the block's forward runs as it is, inside whatever closes the block as a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm.models.resnet
import torch
import torchvision.models.resnet
from torch import Tensor, nn

from torchpaths import deciders
from torchpaths.costs import evaluating
from torchpaths.deciders import Gate, Switch
from torchpaths.deciders.gradients import straight_through
from torchpaths.errors import RouteError
from torchpaths.layout import Cost, Unit
from torchpaths.methods.base import Losses, Mean, Method, running
from torchpaths.models import BasicBlock
from torchpaths.places.channels.layer import Layer, Role
from torchpaths.places.channels.obeying import layer_covers
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.routed import Routed
from torchpaths.trace import Decider, Decision, Inputs, Site, Trace

BLOCKS = (
    torchvision.models.resnet.BasicBlock,
    torchvision.models.resnet.Bottleneck,
    timm.models.resnet.BasicBlock,
    timm.models.resnet.Bottleneck,
    BasicBlock,
)
"""Blocks that begin with ``conv1 -> bn1 -> relu -> conv2`` and use what lies between nowhere else."""

EDGE = 0.1
"""How far above the threshold the best filter is lifted where all scores lie below."""


class FilterGate(Decider):
    """A linear layer that scores all filters of a convolution from its pooled input. The best one always opens: a
    convolution without rows is none."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, filters)

    def forward(self, features: Tensor) -> Decision:
        """Features ``[batch, channels]`` -> a decision of all filters, hard, with the gradient of a sigmoid."""
        score = self.linear(features.to(self.linear.weight.dtype)).float()
        score = score + (self.threshold + EDGE - score.amax(1, keepdim=True)).clamp(min=0)
        z, opened = straight_through(score - self.threshold)
        return Decision(opened, z, score)


Decide = Callable[[nn.Conv2d], tuple[int, Decider | None]]
"""The first convolution of a block -> how many units it has, and who decides."""


def plan_layers(model: nn.Module, example: Inputs, kind: str, decide: Decide) -> list[Plan]:
    """Three plans for each block: its site, named like the first convolution, and what of the model obeys it."""
    found = {}
    for name, block in model.named_modules():
        if isinstance(block, BLOCKS) and block.conv2.groups == 1 and block.bn1.track_running_stats:
            units, decider = decide(block.conv1)
            first = f"{name}.conv1"
            made = tuple(Unit(first, i, Cost(0, 0), kind) for i in range(units))
            found[name] = Site(first, made, (first,) * units, decider)
    if not found:
        raise RouteError(f"no block of {type(model).__name__} begins with two plain convolutions and a norm between.")
    layers = [
        (f"{name}.{layer}", site, role)
        for name, site in found.items()
        for layer, role in (
            ("conv1", Role(rows=site, makes=True)),
            ("bn1", Role(rows=site)),
            ("conv2", Role(columns=site)),
        )
    ]
    pixels = _pixels(model, example, [layer for layer, _, _ in layers])
    return [
        Plan(
            layer,
            (site,),
            partial(Layer, role=role),
            tuple(layer_covers(model, layer, site, int(role.columns is not None), pixels[layer])),
        )
        for layer, site, role in layers
    ]


def _pixels(model: nn.Module, example: Inputs, names: list[str]) -> dict[str, int]:
    """In how many places of an image each layer computes."""
    found: dict[str, int] = {}

    def note(module: nn.Module, inputs: Any, y: Tensor, name: str) -> None:
        found[name] = y[0, 0].numel()

    handles = [model.get_submodule(n).register_forward_hook(partial(note, name=n)) for n in names]
    try:
        with torch.no_grad(), evaluating(model):
            model(example[:1])
    finally:
        for handle in handles:
            handle.remove()
    return found


@dataclass(frozen=True)
class ToyFilters(Method):
    """Each filter of a block's first convolution opens or closes for each image.

    Attributes:
        rate: the share of filters that should be open, of each block.
    """

    rate: float = 0.5

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """See `Method.find`."""
        return plan_layers(
            model, example, "filters", lambda c: (c.out_channels, FilterGate(c.in_channels, c.out_channels))
        )

    def terms(self, net: Routed, trace: Trace, y: Any, mean: Mean, heads: nn.Module | None) -> Losses:
        """``sum over blocks (share of open filters - rate)^2``, over the images that came to the block."""
        shares = []
        for name, site in net.sites.items():
            if site.kind == "filters" and name in trace:
                share, came = trace[name].z.mean(1), running(net, trace, name)
                shares.append(share.mean() if came is None else (share * came).sum() / came.sum().clamp(min=1))
        return {"filters": (mean("filters", torch.stack(shares)) - self.rate).square().sum()} if shares else {}


@dataclass(frozen=True)
class ToyBranches(Method):
    """The channels between the first two convolutions of a block, in groups that are set from outside.

    Attributes:
        groups: of each block.
    """

    groups: int = 4

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """See `Method.find`."""
        return plan_layers(model, example, "branches", lambda _: (self.groups, Switch(self.groups)))


def stir(net: Routed) -> None:
    """Gates that look at the image: their initial ones open everything."""
    torch.manual_seed(2)
    for decider in net.deciders.modules():
        if isinstance(decider, Gate):
            decider.fc2.weight.data.normal_(0, 2.0)
            decider.fc2.bias.data.zero_()
        if isinstance(decider, FilterGate):
            decider.linear.weight.data.normal_(0, 2.0)
            decider.linear.bias.data.zero_()
        if isinstance(decider, deciders.FilterGate):
            decider.fc2.weight.data.normal_(0, 2.0)
            decider.fc2.bias.data.zero_()
