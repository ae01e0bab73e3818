"""The branches of a network, found: groups of channels between a convolution that makes them and a 1x1 convolution that
adds them up, with a grouped convolution on the way (Coded ResNeXt, Fig. 1).

In a ResNeXt block the branches are the groups of the 3x3 convolution. In an inverted bottleneck (section 4.3.1) that
convolution is depthwise, and branches are as many equal groups of channels as one likes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from torchpaths.errors import RouteError
from torchpaths.junction import Place
from torchpaths.layout import Cost, Unit
from torchpaths.places.channels.energy import Energies, Explicit
from torchpaths.places.channels.layer import Layer
from torchpaths.places.channels.obeying import check_weights, layer_covers, roles
from torchpaths.places.channels.seen import Seen
from torchpaths.places.channels.spans import Span
from torchpaths.places.channels.weights import is_torchs
from torchpaths.places.covers import Cover
from torchpaths.places.plan import Plan
from torchpaths.trace import Decider, Inputs, Site

KIND = "branches"


@dataclass(frozen=True)
class Branched:
    """The branches of one block. Modules by their dotted names in the model.

    Attributes:
        name: of their site: the module that holds them, ``.branches``.
        grouped: the grouped convolution.
        span: their channels; layers by their names in the model.
        units: how many there are.
        stage: in which stage of the network, from 0: where resolution changes a new one begins.
    """

    name: str
    grouped: str
    span: Span
    units: int
    stage: int


@dataclass(frozen=True)
class Search:
    """What was found in a model.

    Attributes:
        blocks: with branches, in order of execution.
        outputs: how many classes the model tells apart; None where it gives no scores ``[batch, class]``.
        pixels: in how many places of an image each layer computes.
    """

    blocks: tuple[Branched, ...]
    outputs: int | None
    pixels: dict[str, int]


def find_branches(model: nn.Module, example: Inputs, branches: int | None = None) -> Search:
    """All blocks with branches.

    Args:
        model: the untouched model.
        example: a batch for it.
        branches: into how many each block's channels are grouped; None: as many as its convolution has groups.

    Raises:
        RouteError: if there are none, with the reasons why grouped convolutions were refused. Where only some were, a
            warning says which.
    """
    grouped = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    seen = Seen(model, example, grouped)
    stages = _Stages(seen)
    found: list[Branched] = []
    refused: dict[str, str] = {}
    for name, conv in _grouped(seen):
        try:
            region, span = seen.span(name)
            _check_consumer(model, span)
            units = _units(model, conv, span, branches)
            check_weights(model, span)
            [consumer] = span.consumers
            if not is_torchs(model.get_submodule(consumer)):
                raise RouteError(
                    f"{consumer!r} is a {type(model.get_submodule(consumer)).__name__}, which computes in its own way"
                )
        except RouteError as error:
            refused[name] = str(error)
            continue
        taken = any(span.producer == other.span.producer for other in found)
        site = f"{region}.{KIND}" if region else KIND
        if taken or any(site == other.name for other in found):
            refused[name] = "its block has branches at another grouped convolution already"
            continue
        found.append(Branched(site, name, span, units, stages.of(span)))
    if not found:
        raise RouteError(_without(type(model).__name__, refused))
    _warn_of(refused)
    return Search(tuple(found), seen.outputs, seen.pixels)


def _without(name: str, refused: dict[str, str]) -> str:
    """What to say of a model in which no branches were found."""
    if not refused:
        return (
            f"{name} has no grouped convolution, so its blocks have no branches; take a ResNeXt, such as "
            "timm/resnext50_32x4d, or an inverted bottleneck with branches=16."
        )
    listed = [f"  {n}: {why}." for n, why in list(refused.items())[:5]]
    return "\n".join([f"no block of {name} has branches; its grouped convolutions were tried:", *listed])


def _warn_of(refused: dict[str, str]) -> None:
    """Say which grouped convolutions stay as they are, but for those that begin a block, or share one."""
    usual = ("outside of the block", "another grouped convolution already")
    odd = {name: why for name, why in refused.items() if not any(part in why for part in usual)}
    if odd:
        listed = "; ".join(f"{name}: {why}" for name, why in list(odd.items())[:3])
        warnings.warn(f"{len(odd)} grouped convolutions have no branches and stay as they are: {listed}.", stacklevel=5)


def _grouped(seen: Seen) -> Iterator[tuple[str, nn.Conv2d]]:
    """The grouped convolutions that ran, in that order."""
    for name in seen.pixels:
        layer = seen.model.get_submodule(name)
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            yield name, layer


class _Stages:
    """The stage of each block, the blocks being asked for in order of execution."""

    def __init__(self, seen: Seen) -> None:
        self.seen = seen
        self.now = -1
        self.last: int | None = None

    def of(self, span: Span) -> int:
        layers = [self.seen.model.get_submodule(n) for n in (span.producer, *span.between)]
        strided = any(isinstance(m, nn.Conv2d) and max(m.stride) > 1 for m in layers)
        pixels = self.seen.pixels[span.consumers[0]]
        if strided or pixels != self.last:
            self.now += 1
        self.last = pixels
        return self.now


def _check_consumer(model: nn.Module, span: Span) -> None:
    """Raise `RouteError` unless one convolution, of kernel 1 and stride 1, adds the branches up."""
    if len(span.consumers) != 1:
        raise RouteError(f"its channels are mixed by {len(span.consumers)} layers: {', '.join(span.consumers)}")
    layer = model.get_submodule(span.consumers[0])
    plain = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.stride == (1, 1)
    if not isinstance(layer, nn.Conv2d) or not plain or layer.padding not in ("same", "valid", (0, 0)):
        raise RouteError(f"its channels are mixed by {span.consumers[0]!r}, which is no 1x1 convolution of stride 1")


def _units(model: nn.Module, conv: nn.Conv2d, span: Span, branches: int | None) -> int:
    """How many branches a block has.

    Raises:
        RouteError: if its channels are no such number of equal groups.
    """
    units = conv.groups if branches is None else branches
    if branches is None and conv.groups == conv.in_channels:
        raise RouteError(
            f"it is depthwise, so its {conv.groups} channels may be grouped into any number of branches; say how many, "
            "branches=16"
        )
    between = [model.get_submodule(name) for name in span.between]
    for other in [layer for layer in between if isinstance(layer, nn.Conv2d)]:
        if other.groups % units or other.out_channels % units or other.out_channels != span.width:
            raise RouteError(f"its {other.groups} groups are not {units} equal branches")
    return units


def plan_branches(
    model: nn.Module, search: Search, deciders: Sequence[tuple[Branched, Decider | None]], normalised: bool = True
) -> list[Plan]:
    """Places for the layers of blocks with branches.

    Args:
        model: the untouched model.
        search: what was found in it.
        deciders: those of the blocks that are to have places, and who decides there.
        normalised: measure the branches' energies and divide by their mean; else the branches are added as they are,
            and with all of them open the network is the original bit for bit.
    """
    plans: list[Plan] = []
    for block, decider in deciders:
        units = tuple(Unit(block.name, i, Cost(0, 0), KIND) for i in range(block.units))
        site = Site(block.name, units, (block.grouped,) * block.units, decider)
        for layer, build, axis in _layers(block.span, site, normalised):
            covers = tuple(layer_covers(model, layer, site, axis, search.pixels.get(layer, 0)))
            reference = None
            if normalised and layer in block.span.consumers:
                covers += (_measuring(model, layer, site, search.pixels[layer]),)
                reference = partial(Explicit, branches=block.units)
            plans.append(Plan(layer, (site,), build, covers, reference=reference))
    return plans


def _layers(span: Span, site: Site, normalised: bool) -> Iterator[tuple[str, Callable[[nn.Module], Place], int]]:
    """Every layer that has to do with a site, its place, and along which axis of its weights the units lie."""
    for name, role in roles(span, site).items():
        mixing = normalised and name in span.consumers
        build = partial(Energies, site=site) if mixing else partial(Layer, role=role)
        yield name, build, int(role.columns is not None)


def _measuring(model: nn.Module, name: str, site: Site, places: int) -> Cover:
    """What the energies cost, d x d products for each branch and pixel."""
    conv: Any = model.get_submodule(name)
    each = conv.in_channels // len(site.units)
    cost = Cost(conv.in_channels * each * places, 0)
    return Cover(site.name, cost, frozenset({f"{name}.weight"}), axis=1, added=True)
