"""From execution rates to a path: which units to keep open for a class, within a budget.

Without a budget a unit is open when at least half of the images open it: the path that differs least, in units, from
what the images choose themselves.

With a budget the gain of opening a unit is the work that the images do in it on average, rate x MACs. Under a budget of
MACs the gain per MAC is then the rate itself, so the greedy rule for the knapsack problem is simply *the most open
first*, ties to the cheaper unit, then to the earlier one; a unit that no longer fits is passed over and later, cheaper
ones may still fill what is left. Under a budget of open units each unit counts the same, among those of its kind, and
the order is the same.
A unit that no image opens gains nothing and stays shut, however large the budget.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from torchpaths.errors import BudgetError
from torchpaths.layout import Budget, Layout
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
    if budget is None:
        return as_path(layout, rates >= 0.5)
    if budget.ms is not None:
        raise BudgetError(
            f"Budget(ms={budget.ms:g}): execution rates say nothing about time, which takes a profile measured on the "
            "device; choose by Budget(macs=...) or Budget(open=...) instead."
        )
    macs = np.array([u.cost.macs for u in layout.units])
    order = np.lexsort((macs, -rates))
    order = order[rates[order] > 0]
    if budget.macs is not None:
        return as_path(layout, _within(layout, order, _macs(layout, budget)))
    assert budget.open is not None
    opened = np.zeros(len(layout.units), dtype=bool)
    for numbers in layout.kinds.values():
        room = int(np.floor(budget.open * len(numbers) + 1e-9))  # 0.3 * 10 is a hair below 3
        opened[order[np.isin(order, numbers)][:room]] = True
    return as_path(layout, opened)


def _within(layout: Layout, order: NDArray[np.int64], macs: int) -> NDArray[np.bool_]:
    """The units opened in that order, each if it still fits, bool ``[unit]``.

    What a unit adds grows with what is open around it: one that does not fit now never will. So as many as fit are
    opened at once, those that no longer fit are passed over, and so on.
    """
    opened = np.zeros(len(layout.units), dtype=bool)

    def fits(count: int) -> bool:
        tried = opened.copy()
        tried[order[:count]] = True
        return layout.cost(tried).macs <= macs

    while len(order):
        few, many = 0, len(order) + 1
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (middle, many) if fits(middle) else (few, middle)
        opened[order[:few]] = True
        left = macs - layout.cost(opened).macs
        order = order[few:]
        order = order[layout.gains(opened)[order, 0] <= left]
    return opened


def _macs(layout: Layout, budget: Budget) -> int:
    """The budget as a number of MACs: up to 1 a share of the plain network's, above 1 MACs."""
    assert budget.macs is not None
    macs = budget.macs * layout.plain.macs if budget.macs <= 1 else budget.macs
    cheapest = layout.fixed.macs
    if macs < cheapest:
        raise BudgetError(
            f"Budget(macs={budget.macs:g}) is {macs:,.0f} MACs, but what always runs in "
            f"{layout.network} takes {cheapest:,}: the cheapest path, with every unit shut, is Budget(macs={cheapest}) "
            f"or macs={np.ceil(cheapest / layout.plain.macs * 1e4) / 1e4:.4f} of the plain network."
        )
    return int(macs)
