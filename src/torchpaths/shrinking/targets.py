"""``block_targets``: a target rate for each block from what its removal costs, so that the mean stays within a budget.

One target for all blocks closes some that must not close and keeps some that nobody misses. Blocks are taken in the
order in which `shrink` closes them: the first, until about half of the work to be saved is, are closed for good (target
0, no gate); the next share one target, by which the rest is saved on average; all others stay open (target 1).
ConvNet-AIG's own targets by block (its ImageNet schedules) were chosen by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torchpaths.budget import Budget
from torchpaths.errors import BudgetError, RouteError
from torchpaths.routed import Routed
from torchpaths.shrinking.apart import Outputs
from torchpaths.shrinking.close import Step, shrink
from torchpaths.surveys.choose import most_macs

RATE = 0.5
"""What the gates' common target is about: where looking at the image has most to say."""


def block_targets(
    net: Routed,
    images: Iterable[Any],
    budget: Budget,
    *,
    outputs: Outputs | None = None,
    progress: Callable[[Step], None] | None = None,
) -> tuple[float, ...]:
    """Target rates of blocks, for ``GatedBlocks(targets=..., start="target")``.

    Args:
        net: the network with a unit for each block and nobody who decides, ``route(model, example=x)``.
        images: as in `shrink`.
        budget: of MACs, a mean over images, gates aside.
        outputs: as in `shrink`.
        progress: told of each step.

    Returns:
        A rate in [0, 1] for each site, in order of execution.

    Raises:
        RouteError: for a network of other units than blocks.
        BudgetError: for a budget of another kind, of the whole network or more, or one that gates cannot meet.
        DataError, CallError: as `shrink`.
    """
    other = next((unit.kind for unit in net.layout.units if unit.kind != "block"), None)
    if other is not None:
        raise RouteError(f"targets are for residual blocks, and this network has {other}; route(model, example=x).")
    if budget.macs is None:
        raise BudgetError(f"{budget}: targets follow from MACs, Budget(macs=0.75).")
    whole = net.layout.plain.macs
    save = whole - most_macs(net.layout.undecided(), budget)
    if save <= 0:
        raise BudgetError(f"{budget} is no less than the whole network's {whole:,} MACs; every target would be 1.")
    deepest = whole - round(save / 2 + save / 2 / (1 - RATE))
    try:
        steps = shrink(net, images, Budget(macs=max(deepest, 2)), outputs=outputs, progress=progress).steps
    except BudgetError as error:
        raise BudgetError(
            f"{budget}: gates of target {RATE:g} would have to leave out more than all blocks together have; give more "
            "MACs, or close blocks for good, shrink(net, images, budget)."
        ) from error
    site_of = {units[0].name: site for site, units in net.layout.sites.items()}
    middle = whole - save / 2
    before = [whole, *(step.macs for step in steps)]
    count = sum(was - middle >= middle - step.macs for was, step in zip(before, steps, strict=False))
    closed = {site_of[step.unit] for step in steps[:count]}
    gated = {site_of[step.unit] for step in steps[count:]}
    rate = 1 - (save - (whole - before[count])) / (before[count] - steps[-1].macs)
    return tuple(0.0 if site in closed else rate if site in gated else 1.0 for site in net.layout.sites)
