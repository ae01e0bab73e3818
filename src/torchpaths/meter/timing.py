"""Times of several networks compared fairly: ``interleave`` runs them in turns, `median_interval` says how sure it is.

A machine's speed drifts: clocks step down as it warms, other programs come and go. Networks that are timed one after
the other therefore differ even when they are the same. Here they alternate, in a random order within each round, and
only times of the same round are compared: whatever slows a round down slows all of them (a paired design).

The interval of a median comes from order statistics, which assumes nothing about how times are distributed: as many of
``n`` values lie below the true median as a fair coin shows heads in ``n`` throws, so the k-th smallest and the k-th
largest value enclose it with a probability that the binomial distribution gives exactly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom

from torchpaths.errors import MeasureError

Timer: TypeAlias = Callable[[Callable[[], object]], float]
"""Runs something once and says how many seconds it took."""

WARM_UP = 3
"""Untimed calls of each run before the first round: the first ones allocate memory, choose kernels and compile."""

LEAST = 15
"""Rounds at least, whatever they take: of 15 values the 4th smallest and the 4th largest enclose the median."""

MOST = 5_000
"""Rounds at most: by then the interval of any network has long been narrower than what repeating it would change."""


def nothing() -> None:
    """What a run needs before it is timed, where it needs nothing."""


@dataclass(frozen=True)
class Run:
    """Something to be timed.

    Attributes:
        call: what is timed.
        prepare: what must come before each call and is not timed.
    """

    call: Callable[[], object]
    prepare: Callable[[], object] = nothing


@dataclass(frozen=True)
class Median:
    """A median with its 95 % interval."""

    value: float
    low: float
    high: float

    def __truediv__(self, number: float) -> Median:
        return Median(self.value / number, self.low / number, self.high / number)


def stopwatch(device: torch.device) -> Timer:
    """A clock on the wall: from the moment a call is made until its result is there, also on an accelerator."""

    def seconds(call: Callable[[], object]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def synchronised(call: Callable[[], object]) -> float:
        torch.accelerator.synchronize(device)
        start = time.perf_counter()
        call()
        torch.accelerator.synchronize(device)
        return time.perf_counter() - start

    return seconds if device.type == "cpu" else synchronised


def interleave(
    networks: Sequence[Sequence[Run]], *, seconds: float, least: int = LEAST, seed: int = 0, timer: Timer
) -> NDArray[np.float64]:
    """Times of networks that take turns.

    A round runs every network on every batch once: batch after batch in random order, and on each batch the networks in
    random order. Rounds go on until ``seconds`` of timed work are spent, `LEAST` rounds in any case.

    Args:
        networks: ``networks[n][b]`` is network n on batch b; all have the same number of batches.
        seconds: timed work to spend; the warm-up and what ``prepare`` takes are not counted.
        least: rounds at least.
        seed: of the order.
        timer: see `Timer`.

    Returns:
        float64 ``[round, network]``: seconds of one call, the mean over the batches.

    Raises:
        MeasureError: if ``seconds`` is no positive number, or ``least`` too few for an interval.
    """
    if not 0 < seconds < float("inf"):
        raise MeasureError(f"seconds={seconds!r}: the time to spend on measuring is a finite number above 0.")
    if least < 6:
        raise MeasureError(f"{least} rounds: a 95 % interval of a median takes at least 6.")
    for network in networks:
        for run in network:
            for _ in range(WARM_UP):
                run.prepare()
                run.call()
    draw = np.random.default_rng(seed)
    rounds: list[NDArray[np.float64]] = []
    spent = 0.0
    while len(rounds) < least or (spent < seconds and len(rounds) < MOST):
        times = np.zeros(len(networks))
        for batch in draw.permutation(len(networks[0])):
            for network in draw.permutation(len(networks)):
                run = networks[network][batch]
                run.prepare()
                times[network] += timer(run.call)
        spent += float(times.sum())
        rounds.append(times / len(networks[0]))
    return np.stack(rounds)


def median_interval(values: NDArray[np.float64], level: float = 0.95) -> Median:
    """The median of independent values and its distribution-free interval (from order statistics, see above).

    Args:
        values: ``[n]``.
        level: probability with which the interval holds the true median, at least.

    Raises:
        MeasureError: for so few values that no two of them enclose the median with that probability (5 at 95 %).
    """
    count = len(values)
    # The k-th smallest value lies above the true median when fewer than k values lie below it; ppf gives the largest k
    # for which that happens at most (1 - level) / 2 of the time.
    k = int(binom.ppf((1 - level) / 2, count, 0.5)) if count else 0
    if k == 0:
        raise MeasureError(f"{count} values are too few for a {level:.0%} interval of their median; measure longer.")
    ordered = np.sort(values)
    return Median(float(np.median(ordered)), float(ordered[k - 1]), float(ordered[count - k]))
