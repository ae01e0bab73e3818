"""What each unit takes by itself, in milliseconds: the network with everything open beside the same with one unit shut.

Only where units are few, and where each costs what it costs whatever the others do: a filter's time depends on how many
others are open, and what stands inside a unit that is shut would be counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from torchpaths.extraction import plain
from torchpaths.layout import Layout
from torchpaths.meter.compare import Subject, compare
from torchpaths.meter.timing import Timer
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.skips.network import skipping

MOST = 64
"""Units up to which each is timed."""

SECONDS = 0.2
"""Timed work for each unit."""


def timed_apart(layout: Layout) -> bool:
    """Whether the units of a network have times of their own, and are few enough to be timed."""
    every = np.ones(len(layout.units), bool)
    apart = int((layout.costs(every) - layout.costs(~every))[0]) == int(layout.gains(every)[:, 0].sum())
    return 0 < len(layout.units) <= MOST and apart and not any(layout.around)


def unit_times(
    net: Routed, batches: Sequence[Tensor], *, seconds: float = SECONDS, seed: int = 0, timer: Timer | None = None
) -> tuple[tuple[float, ...], float]:
    """What each unit takes, and what is left without any: together the network with everything open.

    All take turns in every round, and only times of one round are compared (`torchpaths.meter.timing`).

    Args:
        net: a routed network whose units are `timed_apart`, on the device to be timed.
        batches: of one size, each ``[batch, ...]``.
        seconds: timed work for each unit.
        seed: of the order of runs.
        timer: takes the times; by default the clock on the wall.

    Returns:
        Milliseconds of a batch, for each unit in layout order, 0 for one that is too short to be seen; and the rest.

    Raises:
        MeasureError: as `torchpaths.measure`.
    """
    fast, full = skipping(net), Path.full(net)
    subjects = [Subject("everything open", fast, full, routed=True)]
    for unit in net.layout.units:
        bits = [index != unit.index for index in range(unit.siblings)]
        subjects.append(Subject(unit.name, fast, full & Path({unit.site: bits}), routed=True))
    open_, *shut = compare(subjects, plain(net), batches, seconds=seconds, seed=seed, timer=timer)
    whole = open_.time_ratio.value * open_.plain_ms
    units = tuple(max(0.0, whole - row.time_ratio.value * row.plain_ms) for row in shut)
    return units, max(0.0, whole - sum(units))
