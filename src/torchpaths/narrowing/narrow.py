"""``narrow``: filters that no image opens are removed for good, those that every image opens lose their gates, and what
is left is still a network that decides (network decoupling, section 4.1, "silent" filters)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from torchpaths.deciders.filters import FilterGate
from torchpaths.differences import difference
from torchpaths.errors import RouteError, near
from torchpaths.extraction import noise, run
from torchpaths.filtering.sites import filter_sites
from torchpaths.filtering.states import FilterStates
from torchpaths.junction import junctions
from torchpaths.methods.base import Method
from torchpaths.narrowing.left import Left
from torchpaths.narrowing.rebuild import rebuild
from torchpaths.path import Path
from torchpaths.places.channels.layer import Layer
from torchpaths.places.residual.find import ByHand
from torchpaths.routed import Routed
from torchpaths.trace import Inputs, Site


def narrow(
    net: Routed,
    states: FilterStates,
    method: Method | Sequence[Method] | None,
    *,
    example: Inputs | None = None,
    residuals: ByHand | None = None,
) -> Routed:
    """A smaller network that decides as ``net`` does, for all images for which no silent filter would have opened.

    Silent filters are gone with their weights, and with what gates knew of them; active ones are always open, in
    training too (``z`` = 1, a score of infinity), and have no score to compute; dynamic ones keep their gates. A layer
    without dynamic filters, or with a single filter left, has no decider any more. A layer to which no image came stays
    as it is, and of the groups of a grouped convolution two stay, silent or not. Whatever else decides in the network
    goes on as it was.

    What comes out is routed like any other: it trains (with heads of the loss made anew by its `Objective`), skips, is
    surveyed, cut and narrowed again. It shares nothing with ``net``. Layers whose channels go into a sum give fewer of
    them, put in their places among zeros (`torchpaths.models.spread`).

    Args:
        net: a network with sites of filters, in any mode; it is not changed.
        states: how often its filters were open, counted over the training images: `filter_states(net, loader)`.
        method: with which ``net`` was routed, or several.
        example: as for `route`; None for two images of noise of ``net.example_shape``.
        residuals: with which ``net`` was routed.

    Raises:
        RouteError: for a network without filters; states of another network, or without any filter of a layer to which
            images came; a method that is not the network's; a decider that cannot be narrowed, such as one of your own,
            or one of another method that looks at channels which filters are removed from; or if the result does not
            give what ``net`` gives without its silent filters.
    """
    left = left_of(net, states)
    made = rebuild(net, left, method, example=example, residuals=residuals)
    x = noise(net) if example is None else example
    if isinstance(x, torch.Tensor):
        closed = {name: left[name].kept if name in left else (True,) * len(s.units) for name, s in net.sites.items()}
        off = difference(run(made, x, path=Path.full(made)), run(net, x, path=Path(closed)))
        if off > 1:
            raise RouteError(
                f"the narrowed {net.layout.network} differs {off:.3g} times as much as allowed from the whole one with "
                "its silent filters closed, so it is not returned. Something in it depends on more than its input, or "
                "its weights have diverged."
            )
    return made


def left_of(net: Routed, states: FilterStates) -> dict[str, Left]:
    """What is to be left of each site of filters, in order of execution.

    Args:
        net: the network.
        states: how often its filters were open.

    Raises:
        RouteError: as `narrow`.
    """
    sites = filter_sites(net)
    for name, opened in states.opened.items():
        if name not in sites:
            raise RouteError(f"the states name {name!r}, no site of filters here. {near(name, sites)}")
        if len(opened) != sites[name]:
            raise RouteError(
                f"the states count {len(opened)} filters at {name!r}, which has {sites[name]}; they are of another "
                "network, count them anew: filter_states(net, loader)."
            )
    grouped = _grouped(net)
    return {name: _left(net.sites[name], states, 2 if name in grouped else 1) for name in sites}


def _grouped(net: Routed) -> set[str]:
    """Sites of whose units each is a group of a convolution: a single one would make it an ordinary convolution, whose
    filters are a site of their own."""
    found = set()
    for _, junction in junctions(net.model):
        place = junction._place
        if isinstance(place, Layer) and place.role.rows is not None and isinstance(place.block, nn.Conv2d):
            site = place.role.rows
            if place.block.groups > 1 and place.block.groups == len(site.units):
                found.add(site.name)
    return found


def _left(site: Site, states: FilterStates, least: int) -> Left:
    """What is to be left of one site; of silent filters as many as it takes to have ``least``."""
    count = len(site.units)
    scored = site.decider.scored if isinstance(site.decider, FilterGate) else None
    decided = () if site.decider is None else tuple(range(count)) if scored is None else tuple(scored.tolist())
    if not states.came.get(site.name, 0):
        return Left(count, tuple(range(count)), decided)
    silent = states.silent[site.name].nonzero().flatten().tolist()
    units = [i for i in range(count) if i not in silent]
    if not units:
        raise RouteError(
            f"no filter of {site.name!r} was open for any of the {states.came[site.name]} images that came, and a "
            "layer needs one; these are no states that its gate can give."
        )
    units = sorted([*units, *silent[: max(0, least - len(units))]])
    gated = tuple(i for i in units if i in decided and not bool(states.active[site.name][i]))
    return Left(count, tuple(units), gated if len(units) > 1 else ())
