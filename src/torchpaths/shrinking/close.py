"""``shrink``: which units to close for all images, within a budget, before anything is trained.

One after the other is closed, each time the one without which the network's own output changes least: the mean
Kullback-Leibler divergence from what the whole network says of a few hundred images. Accuracy on training images would
not tell cheap blocks from dear ones: a trained network is right about nearly all of them. What one block does another
may make up for, until it is gone too, so they are tried again after each step: the one that was cheapest first, until
one is found that is still cheaper than all others were (lazy greedy; Minoux, "Accelerated greedy algorithms", 1978),
which is the cheapest, unless closing one made another cheaper. Where the last one was larger than it had to be, those
of the others that have room within the budget are opened again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.budget import Budget
from torchpaths.errors import BudgetError, CallError, DataError
from torchpaths.fronts.evaluate import undisturbed
from torchpaths.inputs import device_of, images_of
from torchpaths.methods.fixed import Fixed
from torchpaths.methods.task import scores
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.shrinking.apart import Apart, Outputs, apart, meant
from torchpaths.surveys.choose import as_path, most_macs

Milliseconds = Callable[[Path], float]
"""What a network takes along a path."""


@dataclass(frozen=True)
class Step:
    """One unit closed.

    Attributes:
        unit: its name.
        divergence: of the network's output from the whole network's, with this unit and those before closed; a mean
            over images, for classes in nats, see `torchpaths.shrinking.apart`.
        macs: MACs of the network now, deciders aside.
        ms: milliseconds it takes now; None where none were asked for.
    """

    unit: str
    divergence: float
    macs: int
    ms: float | None = None


@dataclass(frozen=True)
class Shrunk:
    """What was closed.

    Attributes:
        path: of the network that is left.
        steps: units in the order in which they were closed; without those that were opened again.
    """

    path: Path
    steps: tuple[Step, ...]

    @property
    def method(self) -> Fixed:
        """The path as a method, to train along it: for networks in which blocks were closed."""
        return Fixed(closed=tuple(step.unit for step in self.steps))


def shrink(
    net: Routed,
    images: Iterable[Any],
    budget: Budget,
    *,
    outputs: Outputs | None = None,
    ms: Milliseconds | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Shrunk:
    """Choose units to close for all images, within a budget.

    Args:
        net: a routed network; it stays as it is.
        images: batches of images, or of (images, labels), of which labels are not read: those that it is trained on. A
            few hundred tell blocks apart; they stay in memory. Mappings, as for models of transformers, too.
        budget: of MACs, of open units, or of milliseconds.
        outputs: what they mean, ``"classes"``, ``"labels"`` (several of which may be true) or ``"values"``
            (regression); None: classes, and a value where there is one output.
        ms: what the network takes along a path, for a budget of milliseconds.
        progress: told of each step.

    Raises:
        BudgetError: for a budget that not even the network with every unit closed meets, or one of milliseconds
            without ``ms``.
        DataError: for no images, or some for which the network's output is not finite.
        CallError: for a network whose output is not one tensor with a row for each image.
    """
    if not isinstance(net, Routed):
        raise CallError(f"{type(net).__name__} is not routed; give shrink(route(model, example=x), ...).")
    if not isinstance(budget, Budget):
        raise BudgetError(f"a budget of {budget!r}; say of what: Budget(macs=0.7), Budget(open=0.7) or Budget(ms=20).")
    layout = net.layout.undecided()
    opened = np.ones(len(layout.units), bool)
    fits = _fits(net, budget, ms)
    x = _batches(net, images)
    steps: list[Step] = []
    with undisturbed(net):
        whole = [_scores(net, batch, as_path(net.layout, opened)) for batch in x]
        if not all(bool(y.isfinite().all()) for y in whole):
            raise DataError(f"{net.layout.network} gives what is no number for some of these images; leave them out.")
        kind = meant(whole[0]) if outputs is None else outputs
        taken = fits(opened)
        known: dict[int, Apart] = dict.fromkeys(range(len(opened)), (-math.inf, -math.inf))
        closed: list[int] = []
        while not taken.fits:
            candidates = [i for i in known if opened[i]]
            tried: set[int] = set()
            while (unit := min(candidates, key=known.__getitem__)) not in tried:
                known[unit] = _apart(net, x, whole, _without(net, [*closed, unit]), kind)
                tried.add(unit)
            closed.append(unit)
            opened = _without(net, closed)
            taken = fits(opened)
            steps.append(Step(layout.units[unit].name, known[unit][0], layout.cost(opened).macs, taken.ms))
            if progress is not None:
                progress(steps[-1])
        kept = _with_room(net, closed, fits, lambda units: _apart(net, x, whole, _without(net, units), kind))
        if kept != closed:
            opened = _without(net, kept)
            steps = []
            for n, unit in enumerate(kept, 1):
                left = _without(net, kept[:n])
                far, _ = _apart(net, x, whole, left, kind)
                steps.append(Step(layout.units[unit].name, far, layout.cost(left).macs, fits(left).ms))
    return Shrunk(as_path(net.layout, opened), tuple(steps))


@dataclass(frozen=True)
class _Taken:
    """Whether a network is within its budget, and its milliseconds."""

    fits: bool
    ms: float | None = None


def _fits(net: Routed, budget: Budget, ms: Milliseconds | None) -> Callable[[NDArray[np.bool_]], _Taken]:
    """Asked for open units ``[unit]``; the budget was found to be one that can be met."""
    layout = net.layout.undecided()
    nothing = np.zeros(len(layout.units), bool)
    if budget.ms is not None:
        if ms is None:
            raise BudgetError(f"{budget}: say what a path takes, shrink(..., ms=function), or give Budget(macs=0.7).")
        limit, time = budget.ms, ms
        least = time(as_path(net.layout, nothing))
        if least > limit:
            raise BudgetError(
                f"Budget(ms={limit:g}): with every unit closed {layout.network} takes {least:.3g} ms here; give more, "
                "or take a smaller model."
            )

        def by_time(opened: NDArray[np.bool_]) -> _Taken:
            found = time(as_path(net.layout, opened))
            return _Taken(found <= limit, found)

        return by_time
    if budget.macs is not None:
        room = most_macs(layout, budget)
        return lambda opened: _Taken(layout.cost(opened).macs <= room)
    assert budget.open is not None
    share = budget.open
    return lambda opened: _Taken(max(layout.shares(opened.astype(float)).values(), default=0.0) <= share)


def _batches(net: Routed, images: Iterable[Any]) -> list[Any]:
    device = device_of(net)
    found = [images_of(batch, device) for batch in images]
    if not found or not all(isinstance(x, (Tensor, Mapping)) and len(x) for x in found):
        raise DataError("images are batches of images, [tensor [batch, ...], ...]; at least one, and none empty.")
    return found


def _without(net: Routed, closed: Sequence[int]) -> NDArray[np.bool_]:
    """Open units without these, and without those that run inside of them."""
    left = np.ones(len(net.layout.units), bool)
    left[list(closed)] = False
    return net.layout.running(left)


def _with_room(
    net: Routed,
    closed: list[int],
    fits: Callable[[NDArray[np.bool_]], _Taken],
    far: Callable[[Sequence[int]], Apart],
) -> list[int]:
    """What stays closed: the last unit may have been a large one, so that smaller ones closed before it have room
    again. Each time the one is opened with which the network's output is nearest to the whole network's."""
    layout = net.layout.undecided()
    too_much = layout.cost(_without(net, closed[:-1])).macs
    while True:
        fewer = [[u for u in closed if u != unit] for unit in closed[:-1]]
        fewer = [units for units in fewer if layout.cost(_without(net, units)).macs < too_much]
        fewer = [units for units in fewer if fits(_without(net, units)).fits]
        if not fewer:
            return closed
        closed = min(fewer, key=far)


def _scores(net: Routed, x: Any, path: Path) -> Tensor:
    """Scores ``[batch, outputs, ...]`` along a path."""
    y = scores(net(x, path)[0])
    if not isinstance(y, Tensor) or y.dim() < 2 or not len(y) or (isinstance(x, Tensor) and len(y) != len(x)):
        raise CallError(
            f"the output of {net.layout.network} is no tensor with scores for each image, by which to choose units; "
            "choose them yourself, Fixed(closed=[...])."
        )
    return y


def _apart(net: Routed, x: Sequence[Any], whole: Sequence[Tensor], opened: NDArray[np.bool_], kind: Outputs) -> Apart:
    """How far the network's output is from the whole network's, means over images."""
    path = as_path(net.layout, opened)
    told = [(*apart(y, _scores(net, batch, path), kind), len(y)) for batch, y in zip(x, whole, strict=True)]
    count = sum(images for *_, images in told)
    return sum(far * images for far, _, images in told) / count, sum(by * images for _, by, images in told) / count
