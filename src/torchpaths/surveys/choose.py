"""From execution rates to a path: which units to keep open for a class, within a budget.

Without a budget a unit is open when at least half of the images open it: the path that differs least, in units, from
what the images choose themselves.

With a budget the gain of opening a unit is the work that the images do in it on average, rate x MACs. Under a budget of
MACs the gain per MAC is then the rate itself, so the greedy rule for the knapsack problem is simply *the most open
first*, ties to the cheaper unit, then to the earlier one; a unit that no longer fits is passed over and later, cheaper
ones may still fill what is left. What a unit costs is what it adds to those open already (`Layout.gains`), since costs
may be products. Under a budget of open units each unit counts the same and the order is the same; units of each kind
have a budget of their own.

A unit inside others runs only where they do: its rate counts as no larger than theirs, and it stays shut while one of
them is shut. A unit that no image opens gains nothing and stays shut, however large the budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from torchpaths.budget import Budget
from torchpaths.errors import BudgetError
from torchpaths.layout import Layout
from torchpaths.path import Path


def as_path(layout: Layout, opened: NDArray[np.bool_]) -> Path:
    """bool ``[unit]`` in layout order as a path of the whole batch."""
    bits = iter(opened.tolist())
    return Path({site: tuple(next(bits) for _ in units) for site, units in layout.sites.items()}, layout.fingerprint)


def choose(layout: Layout, rates: NDArray[np.float64], budget: Budget | None) -> Path:
    """The path for execution rates ``[unit]`` in 0 to 1, within a budget.

    Raises:
        BudgetError: for fewer MACs than what always runs, or a budget in milliseconds.
    """
    if budget is not None and budget.ms is not None:
        raise BudgetError(
            f"Budget(ms={budget.ms:g}): execution rates say nothing about time, which takes a profile measured on the "
            "device; choose by Budget(macs=...) or Budget(open=...) instead."
        )
    around = layout.around
    rates = np.array([min([rate, *rates[list(outer)]]) for rate, outer in zip(rates, around, strict=True)])
    if budget is None:
        return as_path(layout, rates >= 0.5)
    fits = _open_units(layout, budget.open) if budget.open is not None else _macs(layout, most_macs(layout, budget))
    opened = np.zeros(len(rates), bool)
    macs, depth = np.array([unit.cost.macs for unit in layout.units]), np.array([len(outer) for outer in around])
    for unit in np.lexsort((macs, depth, -rates)).tolist():
        opened[unit] = rates[unit] > 0 and opened[list(around[unit])].all() and fits(unit)
    return as_path(layout, opened)


def _open_units(layout: Layout, share: float) -> Callable[[int], bool]:
    """Asked for one unit after the other: whether it fits, and then it is taken to be open."""
    room = {kind: math.floor(share * len(units) + 1e-9) for kind, units in layout.kinds.items()}  # 0.3 * 10 < 3

    def fits(unit: int) -> bool:
        kind = layout.units[unit].kind
        if room[kind] == 0:
            return False
        room[kind] -= 1
        return True

    return fits


def _macs(layout: Layout, room: int) -> Callable[[int], bool]:
    """The same for a number of MACs: `Layout.gains` of one unit, for which only the terms it is part of are needed."""
    counts = [[0] * len(term.spans) for term in layout.terms]
    parts: list[list[tuple[int, int]]] = [[] for _ in layout.units]
    for number, term in enumerate(layout.terms):
        for factor, (start, stop) in enumerate(term.spans):
            for members in parts[start:stop]:
                members.append((number, factor))
    left = room - _cheapest(layout)

    def fits(unit: int) -> bool:
        nonlocal left
        gain = 0
        for number, factor in parts[unit]:
            others = (count for i, count in enumerate(counts[number]) if i != factor)
            gain += math.prod(others, start=layout.terms[number].cost.macs)
        if gain > left:
            return False
        left -= gain
        for number, factor in parts[unit]:
            counts[number][factor] += 1
        return True

    return fits


def most_macs(layout: Layout, budget: Budget) -> int:
    """The budget as a number of MACs: up to 1 a share of the plain network's, above 1 MACs.

    Raises:
        BudgetError: for fewer than what always runs.
    """
    assert budget.macs is not None
    macs = budget.macs * layout.plain.macs if budget.macs <= 1 else budget.macs
    cheapest = _cheapest(layout)
    if macs < cheapest:
        raise BudgetError(
            f"Budget(macs={budget.macs:g}) is {macs:,.0f} MACs, but what always runs in "
            f"{layout.network} takes {cheapest:,}: the cheapest path, with every unit shut, is Budget(macs={cheapest}) "
            f"or macs={np.ceil(cheapest / layout.plain.macs * 1e4) / 1e4:.4f} of the plain network."
        )
    return int(macs)


def _cheapest(layout: Layout) -> int:
    """MACs of what always runs."""
    return layout.cost(np.zeros(len(layout.units), bool)).macs
