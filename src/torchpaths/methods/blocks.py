"""What all methods that close whole residual branches share: one site, one unit and one junction for each residual
sum."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from torchpaths.errors import RouteError
from torchpaths.find import ByHand, Place, find_residuals
from torchpaths.junction import Decider, Inputs, Junction, Site
from torchpaths.methods.base import Plan
from torchpaths.path import Unit
from torchpaths.residual import ResidualJunction

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
        listed = [f"  {name}: {reason}" for name, reason in list(search.refused.items())[:5]]
        raise RouteError(
            "\n".join(
                [
                    f"no residual block found in {type(model).__name__}; its modules were tried:"
                    if listed
                    else f"no residual block found in {type(model).__name__}.",
                    *listed,
                    "Give a block by hand: route(model, method, residuals={'name': Residual(branch, shortcut, post)}).",
                ]
            )
        )
    names = [site for place in search.places for site in place.sites]
    widths = [width for place in search.places for width in place.channels]
    deciders = iter(decide(names, widths))
    return [
        _plan(place, deciders_of) for place in search.places for deciders_of in [[next(deciders) for _ in place.sites]]
    ]


def _plan(place: Place, deciders: list[Decider | None]) -> Plan:
    sites = tuple(
        Site(name, (Unit(name, 0, cost),), (place.module,), decider)
        for name, cost, decider in zip(place.sites, place.costs, deciders, strict=True)
    )
    return Plan(place.module, sites, partial(_build, place=place, sites=sites))


def _build(block: nn.Module, place: Place, sites: tuple[Site, ...]) -> Junction:
    return ResidualJunction(block, place.parts, tuple((site, 0) for site in sites))
