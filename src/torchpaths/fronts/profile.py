"""Times of points: all of them and the plain network take turns, see `torchpaths.meter.timing`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor

from torchpaths.extraction import plain
from torchpaths.fronts.measured import Profile
from torchpaths.fronts.points import Point, Time
from torchpaths.meter.batches import in_batches
from torchpaths.meter.compare import Subject, compare
from torchpaths.meter.timing import Timer
from torchpaths.routed import Routed
from torchpaths.skips.network import skipping


def time_points(
    net: Routed,
    points: Sequence[Point],
    images: Tensor,
    *,
    batch: int,
    threads: int | None,
    seconds: float,
    seed: int,
    timer: Timer | None,
) -> Profile:
    """Times of points, each as `torchpaths.skipping` runs it: only opened work is done.

    Args:
        net: the network, on the device to be profiled.
        points: what to time.
        images: ``[image, ...]``, made into batches as `in_batches` tells.
        batch: images in a batch.
        threads: torch's threads on the CPU; None for as many as are set.
        seconds: timed work for each point.
        seed: of the order of runs.
        timer: takes the times; by default the clock on the wall.

    Raises:
        MeasureError: for no images, a batch of less than one, and as `torchpaths.measure`.
    """
    device = next(net.parameters(), images).device
    fast = skipping(net)
    rows_of = compare(
        [Subject(str(i), fast, p.path, routed=True, prepare=partial(p.apply, fast)) for i, p in enumerate(points)],
        plain(net),
        in_batches(images.to(device), batch),
        threads=threads,
        seconds=seconds,
        seed=seed,
        timer=timer,
    )
    times = tuple(Time(row.ms, row.time_ratio, row.macs_ratio) for row in rows_of)
    first = rows_of[0]
    return Profile(first.setting, first.plain_ms, first.pairs, times, first.spread, first.waited)
