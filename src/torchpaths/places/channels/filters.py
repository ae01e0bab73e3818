"""The filters of a network, found: the outputs of its layers, each a unit by itself (network decoupling, section 3.1).

A filter's channel goes from the layer that makes it to the layers that mix it, or as far as a sum or a concatenation.
Where a grouped convolution stands on that way its groups cannot be taken apart, so a unit is what goes into one group.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import nn

from torchpaths.errors import RouteError
from torchpaths.layout import Cost, Unit
from torchpaths.places.channels.layer import Layer, Role
from torchpaths.places.channels.nodes import is_mixing
from torchpaths.places.channels.obeying import WeightsError, check_weights, layer_covers, roles
from torchpaths.places.channels.region import HookedError
from torchpaths.places.channels.seen import Seen
from torchpaths.places.channels.spans import Span
from torchpaths.places.names import match
from torchpaths.places.plan import Plan
from torchpaths.trace import Decider, Inputs, Site

KIND = "filters"
PASSED = "pass on the filters of"
SHARED = "close together with those of"


@dataclass(frozen=True)
class Filters:
    """The filters of one layer. Modules by their dotted names in the model.

    Attributes:
        name: of the layer, and of their site.
        span: their channels.
        units: how many there are.
        inputs: channels of the layer's input, by which is decided.
    """

    name: str
    span: Span
    units: int
    inputs: int


@dataclass(frozen=True)
class Search:
    """What was found in a model.

    Attributes:
        layers: whose filters can be closed, in order of execution.
        pixels: in how many places of an image each layer computes.
    """

    layers: tuple[Filters, ...]
    pixels: dict[str, int]


def find_filters(model: nn.Module, example: Inputs, sites: Sequence[str] | None = None) -> Search:
    """The layers whose filters can be closed.

    Args:
        model: the untouched model.
        example: a batch for it.
        sites: names or regular expressions of layers; None: every convolution but the first, and linear layers of
            tokens whose outputs only go into other layers (the first of a transformer's MLP). Layers that see only the
            mean over all pixels are left out, as in squeeze-and-excitation.

    Raises:
        RouteError: for a pattern that matches nothing, or if there are none, with the reasons. Where only some were
            refused, a warning says which and why.
    """
    layers = [name for name, layer in model.named_modules() if isinstance(layer, (nn.Conv2d, nn.Linear))]
    seen = Seen(model, example, layers)
    ran = list(seen.pixels)
    known = [*ran, *seen.others]
    wanted = None if sites is None else {name for pattern in sites for name in match(pattern, known, "layer that ran")}
    first = next((n for n in ran if isinstance(model.get_submodule(n), nn.Conv2d)), "")
    found: list[Filters] = []
    claims: dict[tuple[str, int], str] = {}
    refused = {
        name: f"it is a {type(model.get_submodule(name)).__name__}; only filters of Conv2d and Linear can be closed"
        for name in seen.others
        if wanted is None or name in wanted
    }
    for name in ran:
        layer = model.get_submodule(name)
        linear = isinstance(layer, nn.Linear)
        chosen = name != first and not (linear and seen.pixels[name] == 1) if wanted is None else name in wanted
        if not chosen or (wanted is None and seen.squeezed(name)):
            continue
        try:
            filters = _filters(seen, name, ends=wanted is not None or not linear)
            _claim(claims, filters)
            found.append(filters)
        except RouteError as error:
            # Most linear layers make no units, which needs no word; that an MLP's cannot be closed does.
            if wanted is not None or not linear or isinstance(error, (WeightsError, HookedError)):
                refused[name] = str(error)
    if wanted is None:
        refused = {name: why for name, why in refused.items() if PASSED not in why and SHARED not in why}
    if not found:
        raise RouteError(_without(type(model).__name__, refused))
    if refused:
        listed = "; ".join(f"{name}: {why}" for name, why in list(refused.items())[:3])
        more = f"; and for such reasons {', '.join(list(refused)[3:])}" if len(refused) > 3 else ""
        warnings.warn(f"{len(refused)} layers keep all their filters: {listed}{more}.", stacklevel=4)
    return Search(tuple(found), seen.pixels)


def _claim(claims: dict[tuple[str, int], str], filters: Filters) -> None:
    """Note which rows (0) and columns (1) of which layers a site closes.

    Args:
        claims: those of the sites that were found, with their names.
        filters: of one more.

    Raises:
        RouteError: if another site closes some of them already.
    """
    span = filters.span
    own = [(name, 0) for name in (span.producer, *span.between, *span.aligned)]
    own += [(name, 1) for name in (*span.squeezes, *span.consumers)]
    other = next((claims[claim] for claim in own if claim in claims), None)
    if other is not None:
        raise RouteError(f"its filters {SHARED} {other!r}, with which they are multiplied")
    claims.update(dict.fromkeys(own, filters.name))


def _filters(seen: Seen, name: str, ends: bool) -> Filters:
    """The filters of a layer.

    Raises:
        RouteError: if they cannot be closed.
    """
    layer: Any = seen.model.get_submodule(name)
    if not is_mixing(layer):
        try:
            _, span = seen.span(name, ends)
        except RouteError:
            raise RouteError(f"its {layer.groups} groups pass on channels that others make") from None
        raise RouteError(f"its {layer.groups} groups {PASSED} {span.producer!r}; choose that layer")
    if seen.rows.get(name) != 1:
        raise RouteError(f"it computes {seen.rows.get(name)} rows for one image, and gates decide by image")
    _, span = seen.span(name, ends)
    check_weights(seen.model, span)
    between: list[Any] = [seen.model.get_submodule(n) for n in span.between]
    groups = [m.groups for m in between if isinstance(m, nn.Conv2d)]
    if any(m.out_channels != m.in_channels for m in between if isinstance(m, nn.Conv2d)):
        raise RouteError(f"a grouped convolution behind it, one of {', '.join(span.between)}, changes their number")
    units = math.gcd(span.width, *groups)
    return Filters(name, span, units, int(layer.weight.shape[1]))


def _without(name: str, refused: dict[str, str]) -> str:
    """What to say of a model in which nothing was found."""
    if not refused:
        return f"{name} has no convolution behind its first and no MLP, so there are no filters to close."
    listed = [f"  {n}: {why}." for n, why in list(refused.items())[:5]]
    more = [f"  and {len(refused) - 5} more."] if len(refused) > 5 else []
    return "\n".join([f"no layer of {name} has filters that can be closed; tried were:", *listed, *more])


def plan_filters(
    model: nn.Module, search: Search, deciders: Mapping[str, Decider | None], notes: bool = False
) -> list[Plan]:
    """Places for all layers that have to do with filters.

    Args:
        model: the untouched model.
        search: what was found in it.
        deciders: name of a site -> who decides there.
        notes: note the filters' features in training too, for losses on them.
    """
    found: dict[str, Role] = {}
    for filters in search.layers:
        units = tuple(Unit(filters.name, i, Cost(0, 0), KIND) for i in range(filters.units))
        site = Site(filters.name, units, (filters.name,) * filters.units, deciders[filters.name])
        for name, role in roles(filters.span, site, notes).items():
            found[name] = _both(found[name], role) if name in found else role
    plans = []
    for name, role in found.items():
        covers = [
            cover
            for site, axis in ((role.rows, 0), (role.columns, 1))
            if site is not None
            for cover in layer_covers(model, name, site, axis, search.pixels.get(name, 0))
        ]
        plans.append(Plan(name, role.sites, partial(Layer, role=role), tuple(covers)))
    return plans


def _both(first: Role, second: Role) -> Role:
    """What a layer has to do with two sites: with the channels of one it makes those of the other."""
    rows, columns = (first, second) if first.rows is not None else (second, first)
    return dataclasses.replace(
        rows,
        columns=columns.columns,
        by_open=columns.by_open,
        of_columns=columns.of_columns,
        notes=rows.notes or columns.notes,
    )
