"""Two small methods that close channels inside a block: ``ToyFilters``, decided for each image by what the layer sees,
and ``ToyBranches``, set from outside.

They show what a method is made of: a place (`Layer`, how a module runs with units closed), a decider (`FilterGate`) and
the method that finds the modules and says what their parts cost. In ``conv1 -> norm -> relu -> conv2`` a closed unit
takes with it rows of the first convolution and of the norm and columns of the second. Each of the three layers gets a
junction of its own; the block's forward runs as it is, inside whatever closes the block as a whole.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm.models.resnet
import torch
import torchvision.models.resnet
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.costs import evaluating
from torchpaths.deciders import Switch
from torchpaths.deciders.gradients import straight_through
from torchpaths.errors import CallError, RouteError
from torchpaths.junction import Junction, Place
from torchpaths.layout import Cost, Unit
from torchpaths.methods.base import Losses, Mean, Method, running
from torchpaths.models import BasicBlock
from torchpaths.path import Bools
from torchpaths.places.covers import Cover
from torchpaths.places.gradients import pool
from torchpaths.places.plan import Plan
from torchpaths.places.residual.along import trace
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


class Layer(Place):
    """A convolution or its norm, of which a site's units close rows (outputs) or columns (inputs).

    A decision for the whole batch leaves closed channels out, so the tensors between the layers are narrow; one for
    each image multiplies what the last layer reads.
    """

    def __init__(self, block: nn.Module, site: Site, axis: int) -> None:
        """
        Args:
            block: ``nn.Conv2d`` or ``nn.BatchNorm2d``.
            site: its units are equal groups of consecutive channels.
            axis: of the weights: 0 for rows, 1 for columns.
        """
        if isinstance(block, Junction):
            raise RouteError(
                f"site {site.name!r}: the channels of {site.modules[0]!r} are closed by another method already; "
                "take one of the methods."
            )
        super().__init__(block, (site,))
        self.axis = axis

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See `Place.run`.

        Raises:
            CallError: for a norm in training behind a convolution in evaluation, from which channels are missing.
        """
        x, decision = self.decide(self.sites[0], x, partial(pool, axes=(2, 3)))  # the first layer, which runs first
        if decision is None or (decision.whole is not None and all(decision.whole)):
            return self._whole(x)
        kept, layer = decision.whole, self.block
        if isinstance(layer, nn.Conv2d) and self.axis == 0:
            if kept is None or self.training:  # in training the norm behind it takes statistics of all channels
                return self._whole(x)
        elif x.shape[1] == width(layer, self.axis):
            return self._whole(x * spread(decision.z, x)) if self.axis == 1 else self._whole(x)
        elif self.training and self.axis == 0:
            raise CallError(
                f"site {self.sites[0].name!r}: its norm trains and its convolution does not, so channels are missing "
                "from the norm's statistics; set both to one mode, or give each image a path of its own."
            )
        assert kept is not None
        return computed(layer, x, numbers(kept, layer, self.axis), self.axis)

    def _whole(self, x: Tensor) -> Tensor:
        y: Tensor = self.block.forward(x)  # not its call: the junction fires its hooks
        return y

    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        """The layer with fewer rows or columns, which are copies. See `Place.cut`."""
        kept, layer = opened[self.sites[0].name], self.block
        if all(kept):
            return layer
        if any(kept):
            return smaller(layer, numbers(kept, layer, self.axis), self.axis)
        if isinstance(layer, nn.BatchNorm2d):
            return nn.Identity().train(layer.training)
        return trace(layer, partial(_traced, axis=self.axis))


def _traced(layer: nn.Module, arguments: Mapping[str, Any], axis: int) -> Any:
    return nothing(layer, next(iter(arguments.values())), axis)


def width(layer: nn.Module, axis: int) -> int:
    """How many rows or columns a layer has."""
    return int(layer.weight.shape[axis]) if isinstance(layer, nn.Conv2d) else int(layer.num_features)  # type: ignore[arg-type]


def numbers(kept: Bools, layer: nn.Module, axis: int) -> list[int]:
    """The rows or columns of the units that are kept."""
    each = width(layer, axis) // len(kept)
    return [unit * each + i for unit, is_open in enumerate(kept) if is_open for i in range(each)]


def spread(z: Tensor, x: Tensor) -> Tensor:
    """``z`` ``[batch, unit]`` as a factor of ``x`` ``[batch, channels, ...]``."""
    return z.to(x.dtype).repeat_interleave(x.shape[1] // z.shape[1], 1).view(len(z), -1, 1, 1)


def computed(layer: nn.Module, x: Tensor, kept: list[int], axis: int) -> Tensor:
    """What a layer gives, in evaluation, with only some of its rows or columns."""
    if not kept:
        return x if isinstance(layer, nn.BatchNorm2d) else nothing(layer, x, axis)
    index = torch.tensor(kept, device=x.device)
    taken = {name: t.index_select(axis, index) for name, t in resized(layer, axis)}
    if isinstance(layer, nn.BatchNorm2d):
        mean, var = taken["running_mean"], taken["running_var"]
        return functional.batch_norm(x, mean, var, taken.get("weight"), taken.get("bias"), eps=layer.eps)
    assert isinstance(layer, nn.Conv2d)
    bias = taken.get("bias", layer.bias)
    return functional.conv2d(x, taken["weight"], bias, layer.stride, layer.padding, layer.dilation)


def nothing(layer: nn.Module, x: Any, axis: int) -> Any:
    """What a convolution of no rows gives, or of no columns: torch gives no output channels, or raises."""
    assert isinstance(layer, nn.Conv2d)
    padding = [int(p) for p in layer.padding]
    of = zip(layer.kernel_size, layer.stride, padding, layer.dilation, strict=True)
    sizes = [(x.shape[i + 2] + 2 * p - d * (k - 1) - 1) // s + 1 for i, (k, s, p, d) in enumerate(of)]
    y = x.new_zeros((x.shape[0], 0 if axis == 0 else layer.out_channels, *sizes))
    return y if axis == 0 or layer.bias is None else y + layer.bias.view(1, -1, 1, 1)


def resized(layer: nn.Module, axis: int) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers that have an entry for each row (0), or column (1)."""
    for name, t in (*layer._parameters.items(), *layer._buffers.items()):
        if t is not None and t.dim() > 0 and (axis == 0 or name == "weight"):
            yield name, t


def smaller(layer: nn.Module, kept: list[int], axis: int) -> nn.Module:
    """A layer of the same class with only some of the rows or columns, as a copy."""
    made = copy.copy(layer)
    made._parameters, made._buffers = dict(layer._parameters), dict(layer._buffers)
    for name, t in resized(layer, axis):
        part = t.detach().index_select(axis, torch.tensor(kept, device=t.device))
        if name in layer._parameters:
            made._parameters[name] = nn.Parameter(part, t.requires_grad)
        else:
            made._buffers[name] = part
    if isinstance(made, nn.Conv2d):
        made.out_channels, made.in_channels = made.weight.shape[:2]
    else:
        assert isinstance(made, nn.BatchNorm2d)
        made.num_features = len(kept)
    return made


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
    layers = [(f"{name}.{layer}", site, axis) for name, site in found.items()
              for layer, axis in (("conv1", 0), ("bn1", 0), ("conv2", 1))]  # fmt: skip
    pixels = _pixels(model, example, [layer for layer, _, _ in layers])
    return [
        Plan(layer, (site,), partial(Layer, site=site, axis=axis), tuple(_covers(model, layer, site, axis, pixels)))
        for layer, site, axis in layers
    ]


def _covers(model: nn.Module, name: str, site: Site, axis: int, pixels: Mapping[str, int]) -> Iterator[Cover]:
    """What of a layer runs in proportion to the open units: MACs go with the weights of a convolution."""
    layer = model.get_submodule(name)
    for key, parameter in layer.named_parameters():
        if axis == 0 or key == "weight":
            macs = parameter.numel() * pixels[name] if isinstance(layer, nn.Conv2d) and key == "weight" else 0
            yield Cover(site.name, Cost(macs, parameter.numel()), frozenset({f"{name}.{key}"}), axis=axis)


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
