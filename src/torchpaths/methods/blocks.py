"""What all methods that close whole residual branches share: one site, one unit and one junction for each residual
sum."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import partial

from torch import nn

from torchpaths.errors import RouteError
from torchpaths.junction import Place
from torchpaths.layout import Unit
from torchpaths.places.covers import Cover
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand, Found, Search, find_residuals
from torchpaths.places.residual.place import ResidualPlace
from torchpaths.trace import Decider, Inputs, Site

Decide = Callable[[list[str], list[int]], list[Decider | None]]
"""(names of all sites, widths of their pooled features) -> a decider for each, None for always open."""


def always_open(names: list[str], widths: list[int]) -> list[Decider | None]:
    """No decider anywhere: the plain network, whose units only paths close."""
    return [None] * len(names)


def plan_blocks(
    model: nn.Module, example: Inputs, residuals: ByHand | None, decide: Decide = always_open
) -> list[Plan]:
    """A plan for every residual block of a model.

    Args:
        model: the untouched model.
        example: a batch for it.
        residuals: blocks taken apart by hand.
        decide: gives each site its decider.

    Raises:
        RouteError: if there is no residual block, with the reasons why candidates were refused.
    """
    search = find_residuals(model, example, residuals)
    if not search.places:
        first = (*search.writing, *(name for name in search.refused if name not in search.writing))
        listed = [f"  {name}: {search.refused[name]}" for name in first[:5]]
        raise RouteError(
            "\n".join(
                [
                    f"no residual block found in {type(model).__name__}; its modules were tried:"
                    if listed
                    else f"no residual block found in {type(model).__name__}.",
                    *listed,
                    _way_out(search),
                ]
            )
        )
    names = [site for place in search.places for site in place.sites]
    widths = [width for place in search.places for width in place.channels]
    for name in search.writing:
        warnings.warn(f"block {name!r} is not routed and stays as it is: {search.refused[name]}.", stacklevel=4)
    try:
        made = iter(decide(names, widths))
    except RouteError as error:
        raise RouteError(f"{error}{_left(search)}") from error
    deciders = [[next(made) for _ in place.sites] for place in search.places]
    gated = [any(decider is not None and decider.constant is None for decider in own) for own in deciders]
    touching = [
        place.module for place, by_image in zip(search.places, gated, strict=True) if by_image and not place.apart
    ]
    if touching:
        raise RouteError(_touching(touching, every=all(not place.apart for place in search.places)))
    return [_plan(place, own) for place, own in zip(search.places, deciders, strict=True)]


def _way_out(search: Search) -> str:
    """What to do where no block was found."""
    filters = "take filters for blocks, GatedFilters(), or Filters() for nobody who decides."
    if any("runs several times" in why for why in search.refused.values()):
        return f"Route the part that runs several times, as said; or {filters}"
    return (
        "Give a block by hand: route(model, method, residuals={'name': Residual(branch, shortcut, post)}); or "
        + filters
    )


def _left(search: Search) -> str:
    """What to add where a block is asked for that may be one of those that were refused."""
    reasons = [f"\n  {name}: {search.refused[name]}" for name in search.writing]
    return "".join(["\nBlocks that were refused:", *reasons]) if reasons else ""


def _touching(blocks: list[str], every: bool) -> str:
    """The message for blocks that cannot be decided image by image."""
    others = rf"(?!({'|'.join(map(re.escape, blocks))})(\.|$)).*"
    way = (
        "Give the model norms with running statistics, or route it without gates, method=None, and choose paths for "
        "whole batches"
        if every
        else f"Leave them always open, sites=({others!r},), or give them norms with running statistics"
    )
    return (
        f"block {', '.join(map(repr, blocks))} cannot be decided image by image: the images of a batch touch each "
        "other in it, as in batch normalisation without running statistics, so one left out would change the others. "
        f"{way}."
    )


def _plan(found: Found, deciders: list[Decider | None]) -> Plan:
    sites = tuple(
        Site(name, (Unit(name, 0, cost),), (found.module,), decider, found.apart)
        for name, cost, decider in zip(found.sites, found.costs, deciders, strict=True)
    )
    covers = tuple(
        Cover(site.name, cost, items, unit=0, level=1)
        for site, cost, items in zip(sites, found.costs, found.items, strict=True)
    )
    return Plan(found.module, sites, partial(_build, found=found, sites=sites), covers, level=1)


def _build(block: nn.Module, found: Found, sites: tuple[Site, ...]) -> Place:
    return ResidualPlace(block, found.parts, tuple((site, 0) for site in sites))
