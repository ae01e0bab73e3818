"""``Measured``: points of a network that were measured, their times, and which of them are worth having."""

from __future__ import annotations

from dataclasses import dataclass

from torchpaths.fronts.points import Point, Time, undominated
from torchpaths.layout import Layout
from torchpaths.meter.doubts import busy
from torchpaths.meter.setting import Setting


@dataclass(frozen=True)
class Profile:
    """Times of all points on one device, in one setting, beside the plain network's of the same rounds.

    Attributes:
        setting: where and how; ``setting.batch`` images at a time.
        plain_ms: median time of a batch in the plain network, in milliseconds.
        pairs: rounds.
        times: one for each of the front's candidates, in order.
        spread: see `torchpaths.meter.Measurement`, as ``waited``; None in files of older versions.
        waited: likewise.
    """

    setting: Setting
    plain_ms: float
    pairs: int
    times: tuple[Time, ...]
    spread: float | None = None
    waited: float | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against all its times, see `torchpaths.meter.doubts`."""
        return busy(self.spread, self.waited)


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of a network, see `torchpaths.fronts.result.Front`.

    Attributes:
        layout: units and costs of the network.
        candidates: every point that no other of its kind beats, without times, by MACs. Those worth having: `points`.
        profiles: their times, one profile for each setting.
        accuracy: of the plain network (everything open), over the same images.
        images: how many images accuracies are over.
        cloud: ``(MACs, accuracy)`` of everything tried, over the images of the search.
        searched: how many images those were.
        name: the network's name for titles, at first its class's.
        dataset: name of the data set.
        split: which part of it.
    """

    layout: Layout
    candidates: tuple[Point, ...]
    profiles: tuple[Profile, ...]
    accuracy: float
    images: int
    cloud: tuple[tuple[float, float], ...] = ()
    searched: int = 0
    name: str = ""
    dataset: str = ""
    split: str = ""

    @property
    def points(self) -> tuple[Point, ...]:
        """The menu: points that no other beats in accuracy, MACs and ms (of the first profile) at once, by MACs."""
        return self.menu(self.profiles[0] if self.profiles else None)

    def menu(self, profile: Profile | None, *, fixed: bool = False) -> tuple[Point, ...]:
        """The points that no other beats, with the times of a profile.

        Args:
            profile: one of the front's; None compares in accuracy and MACs alone.
            fixed: only among points that are one path for all images, which `torchpaths.extract` can cut out.
        """
        times = (None,) * len(self.candidates) if profile is None else profile.times
        timed = (point.timed(time) for point, time in zip(self.candidates, times, strict=True))
        return tuple(undominated(point for point in timed if point.fixed or not fixed))
