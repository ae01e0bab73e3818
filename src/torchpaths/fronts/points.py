"""What can be chosen and what it is worth: ``Choice``, ``Point``, and the rule of which points are worth having."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torchpaths.layout import Layout
from torchpaths.meter.doubts import doubts
from torchpaths.meter.timing import Median
from torchpaths.path import Path
from torchpaths.routed import Routed

Kind: TypeAlias = Literal["full", "every", "greedy", "rate", "threshold"]
"""Where a choice comes from: everything open; one of all sub-networks; units closed one at a time by what they cost in
accuracy; units opened in order of how often gates open them; gates at a threshold."""


@dataclass(frozen=True)
class Choice:
    """A way to run a network.

    Attributes:
        kind: where it comes from.
        path: units chosen from outside, for the whole batch; None where nothing is. Sites it leaves out decide.
        threshold: score above which deciders open a unit (the log-odds of being open); None where none decides.
    """

    kind: Kind
    path: Path | None = None
    threshold: float | None = None

    @property
    def fixed(self) -> bool:
        """Whether it is one path for all images, which `torchpaths.extract` can cut out."""
        return self.path is not None and self.threshold is None

    @property
    def chosen(self) -> int:
        """How many units its path opens."""
        return 0 if self.path is None else sum(sum(opened) for opened in self.path.values())

    def apply(self, net: Routed) -> Path | None:
        """Set a network up for this choice, and return the path to call it with: ``net(x, choice.apply(net))``.

        Sets `Decider.threshold` of every decider, which stays so until another choice is applied. 0 is what they were
        trained with.
        """
        for site in net.sites.values():
            if site.decider is not None:
                site.decider.threshold = 0.0 if self.threshold is None else self.threshold
        return self.path


@dataclass(frozen=True)
class Time:
    """How long a point takes, in one profile.

    Attributes:
        ms: median time of a batch, in milliseconds.
        ratio: time / the plain network's of the same rounds, with its 95 % interval.
        macs_ratio: MACs / the plain network's, counted on the very batches that were timed.
    """

    ms: float
    ratio: Median
    macs_ratio: float

    @property
    def gap(self) -> Median:
        """Time ratio / MACs ratio, see `torchpaths.measure`."""
        return self.ratio / self.macs_ratio

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against it, see `torchpaths.meter.doubts`."""
        return doubts(self.ratio, self.macs_ratio)


@dataclass(frozen=True)
class Point(Choice):
    """A choice and what it is worth.

    Attributes:
        accuracy: share of the images classified rightly (top-1), in 0 to 1.
        macs: mean MACs of one image: of a fixed path counted on a run, in which no decider is asked; else what the open
            units and all deciders cost by the `Layout`.
        open: mean share of units open, in 0 to 1, which `Budget(open=...)` limits: in a network with units of several
            kinds (`Unit.kind`) the share of that kind of which most are open. Units inside closed ones are not open.
        time: how long it takes; None where nothing was timed.
    """

    accuracy: float = 0.0
    macs: float = 0.0
    open: float = 0.0
    time: Time | None = None

    @property
    def ms(self) -> float | None:
        """Median time of a batch in milliseconds; None where nothing was timed."""
        return None if self.time is None else self.time.ms

    def timed(self, time: Time | None) -> Point:
        """The same point with another time, or none."""
        return dataclasses.replace(self, time=time)


def undominated(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats: is at least as good in accuracy, MACs and ms, and better in one.

    Of equals the first stays. Points without times are compared in accuracy and MACs. In order of MACs.
    """
    kept: list[Point] = []
    for point in by_cost(points):  # what beats a point has no more MACs, so it comes earlier
        if not any(_covers(other, point) for other in kept):
            kept.append(point)
    return kept


def by_cost(points: Iterable[Point]) -> list[Point]:
    """In order of MACs; of equals the more accurate first, then the faster."""
    return sorted(points, key=lambda p: (p.macs, -p.accuracy, p.ms or 0.0))


def _covers(a: Point, b: Point) -> bool:
    """Whether ``a`` is at least as good as ``b`` in everything."""
    return a.accuracy >= b.accuracy and a.macs <= b.macs and (a.ms or 0.0) <= (b.ms or 0.0)


def undominated_by_kind(points: Sequence[Point]) -> list[Point]:
    """Those of each kind that no other of the kind beats.

    Time is not one function of MACs for all kinds (a path for the whole batch is faster than gates that open as much),
    so what one kind beats in MACs may be the fastest in milliseconds.
    """
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(point.kind, []).append(point)
    return list(itertools.chain.from_iterable(undominated(group) for group in groups.values()))


def describe(point: Point, layout: Layout) -> str:
    """A point in words: ``"the path with 3 of 9 units open"``, ``"gates at threshold 1.2"``."""
    if point.threshold is None:
        return f"the path with {point.chosen} of {len(layout.units)} units open"
    gates = "gates as trained" if point.threshold == 0 else f"gates at threshold {point.threshold:.3g}"
    return gates if point.path is None else f"{gates}, {point.chosen} other units open"


def names_of(points: Sequence[Choice], units: int) -> list[str]:
    """What points are called in menus: ``"path, 3 of 9 open"``, ``"gates at 1.2"``; those that would be called alike
    are numbered, ``"path, 3 of 9 open (2)"``.

    Args:
        points: all of a front.
        units: how many the network has.
    """
    names = [_name(point, units) for point in points]
    several = {name for name, count in Counter(names).items() if count > 1}
    seen: Counter[str] = Counter()
    made = []
    for name in names:
        seen[name] += 1
        made.append(f"{name} ({seen[name]})" if name in several else name)
    return made


def _name(point: Choice, units: int) -> str:
    if point.fixed:
        return f"path, {point.chosen} of {units} open"
    gates = "gates as trained" if point.threshold == 0 else f"gates at {point.threshold:.3g}"
    return gates if point.path is None else f"{gates}, path"
