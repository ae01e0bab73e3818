"""What gathering costs on this device: from how many open images on a block had better run for all.

Gathering copies the open images and adds the results back; running for all computes closed images in vain. Which is
cheaper depends on block, batch, type, threads and machine, so both are timed when a block first meets a batch of that
kind: running for all once, gathering with half of the images and with all but one. The time of gathering is taken to
grow linearly between. Blocks of equal code and shapes share their price.

What is only tried is no work of the network's: whoever counts MACs or looks at operators (a dispatch mode) while it
happens does not see it, nor is it timed with a counter at work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from functools import partial

import torch
from torch.utils._python_dispatch import _disable_current_modes

from torchpaths.skips.rates import Rates

TRIES = 3
"""Timed runs of each kind, of which the fastest counts: whatever else the machine does only adds time."""


class Prices:
    """What was measured, by kind of work.

    Attributes:
        limits: the most open images with which gathering pays, by block and batch; of questions, 1 for yes.
        rates: of a layer for a single image, see `torchpaths.skips.rates.Rates`.
        exact: whether a layer leaves out all that a single image closes, whatever that costs.
    """

    exact = False

    def __init__(self) -> None:
        self.limits: dict[Hashable, int] = {}
        self.rates: dict[Hashable, Rates] = {}

    def rate(self, kind: Hashable, measure: Callable[[], Rates]) -> Rates:
        """Those of a kind of layer; measured once for each kind."""
        if kind not in self.rates:
            with _disable_current_modes():
                self.rates[kind] = measure()
        return self.rates[kind]

    def limit(
        self, kind: Hashable, batch: int, for_all: Callable[[], object], gathering: Callable[[int], object]
    ) -> int:
        """The most open images with which gathering pays; measured once for each kind.

        Args:
            kind: equal for equal work.
            batch: images of the batch, at least 2.
            for_all: runs the block for all of them.
            gathering: runs it for the first so many.
        """
        if kind not in self.limits:
            with _disable_current_modes():
                self.limits[kind] = self._limit(batch, for_all, gathering)
        return self.limits[kind]

    def pays(
        self, kind: Hashable, run: Callable[[], object], instead: Callable[[], object], same: Callable[[], bool]
    ) -> bool:
        """Whether something gives the same as what could be done instead, and is faster; tried once for each kind."""
        if kind not in self.limits:
            with _disable_current_modes():
                self.limits[kind] = int(same() and fastest(run) < fastest(instead))
        return self.limits[kind] > 0

    def holds(self, kind: Hashable, check: Callable[[], bool]) -> bool:
        """Whether something was found to be so; looked for once for each kind."""
        if kind not in self.limits:
            self.limits[kind] = int(check())
        return self.limits[kind] > 0

    def _limit(self, batch: int, for_all: Callable[[], object], gathering: Callable[[int], object]) -> int:
        few, many = batch // 2, batch - 1
        whole, half = fastest(for_all), fastest(partial(gathering, few))
        if many == few:
            return many if half <= whole else 0
        slope = (fastest(partial(gathering, many)) - half) / (many - few)
        if slope <= 0:  # too small a difference to measure
            return many if half <= whole else 0
        return max(0, min(many, int(few + (whole - half) / slope)))


def fastest(run: Callable[[], object]) -> float:
    """What something takes, in seconds."""
    run()
    taken = []
    for _ in range(TRIES):
        _wait()
        start = time.perf_counter()
        run()
        _wait()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
