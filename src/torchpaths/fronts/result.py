"""``Front``: the sub-networks and operating points worth having, with what each costs; and the best one in a budget."""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchpaths.budget import Budget
from torchpaths.errors import BudgetError, near
from torchpaths.fronts import files
from torchpaths.fronts.measured import Measured, Profile
from torchpaths.fronts.points import Point, describe, names_of
from torchpaths.fronts.profile import time_points
from torchpaths.layout import HasLayout
from torchpaths.meter.allocator import allocator
from torchpaths.meter.setting import devices_here
from torchpaths.meter.timing import Timer
from torchpaths.routed import Routed


@dataclass(frozen=True, eq=False)
class Front(Measured):
    """The menu of a network. Made by `torchpaths.front`.

    `dataclasses.replace` fills in what measuring cannot know: ``name``, ``dataset`` and ``split``. Its fields are those
    of `torchpaths.fronts.measured.Measured`.
    """

    def __repr__(self) -> str:
        """In a few lines: the points worth having."""
        plain = self.layout.plain.macs
        of = f" on {self.dataset}" if self.dataset else ""
        lines = [f"Front({self.name or self.layout.network}{of}: {self.images:,} images, {self.accuracy:.2%} all open)"]
        for point in self.points:
            ms = "" if point.ms is None else f", {point.ms:.3g} ms"
            told = f"{point.accuracy:.2%}, {point.macs / plain:.1%} of the MACs{ms}"
            lines.append(f"  {self.number(point)}: {self.title(point)}: {told}")
        return "\n".join(lines)

    def best(
        self, budget: Budget, *, batch: int | None = None, threads: int | None = None, fixed: bool = False
    ) -> Point:
        """The most accurate point within a budget; of equals the one with the fewest MACs.

        Args:
            budget: ``Budget(ms=20)``: milliseconds for a batch on this machine, as profiled; ``Budget(macs=0.7)``: mean
                MACs of an image, a share of the plain network's up to 1; ``Budget(open=0.5)``: mean share of units
                open, of each kind (`Point.open`).
            batch: images in a batch, for milliseconds; None takes the first profile of this machine.
            threads: torch's threads on the CPU, for milliseconds; None for as many as are set now.
            fixed: only a path for all images, which `torchpaths.extract` can cut out.

        Raises:
            BudgetError: if no point fits, naming the cheapest and what it costs; or, for milliseconds, if this device
                was not profiled with that batch and so many threads.
        """
        profile = self.profile_for(batch, threads) if budget.ms is not None or batch is not None else self._first()
        points = self.menu(profile, fixed=fixed)
        if not points:
            raise BudgetError(
                "this front holds no path for all images, only points at which gates decide; leave out fixed=True."
            )
        name, limit, cost = self._costs(budget, points)
        within = [point for point, paid in zip(points, cost, strict=True) if paid <= limit * (1 + 1e-9)]
        if not within:
            cheapest = min(range(len(points)), key=lambda i: cost[i])
            raise BudgetError(
                f"Budget({_field(budget)}={limit:g}): nothing fits. The cheapest is "
                f"{describe(points[cheapest], self.layout)}, which {name.format(cost[cheapest])}: "
                f"Budget({_field(budget)}={_round_up(cost[cheapest])})."
            )
        return max(within, key=lambda point: (point.accuracy, -point.macs))

    def number(self, point: Point) -> int:
        """The number of one of its points, from 1, in order of MACs.

        It is the same whichever profile a menu is made with, so a menu leaves numbers out.
        """
        return next(i for i, own in enumerate(self.candidates, 1) if own == point.timed(None))

    def title(self, point: Point) -> str:
        """What one of its points is called, and no other: ``"gates at 2.52"``, ``"path, 5 of 9 open"``."""
        return names_of(self.candidates, len(self.layout.units))[self.number(point) - 1]

    def point(self, which: int | str, *, profile: Profile | None = None) -> Point:
        """A point by its number or name in a menu.

        Args:
            which: 3 or "3"; or "gates at 2.52", "path, 5 of 9 open".
            profile: whose menu is meant; by default any of them, and the times are the first one's.

        Raises:
            BudgetError: for a point that there is not.
        """
        menus: list[Profile | None] = [profile] if profile is not None else [*self.profiles] or [None]
        worth_having = {point.timed(None) for each in menus for point in self.menu(each)}
        on_menu = [i for i, own in enumerate(self.candidates) if own in worth_having]
        titles = names_of(self.candidates, len(self.layout.units))
        names = {i + 1: titles[i] for i in on_menu}
        found = [n for n, name in names.items() if str(which).strip() in (str(n), name)]
        if not found:
            numbers = ", ".join(map(str, names))
            raise BudgetError(
                f"this front has no point {which!r}. {near(str(which), names.values())} Their numbers: {numbers}."
            )
        index, first = found[0] - 1, menus[0]
        return self.candidates[index].timed(None if first is None else first.times[index])

    def _first(self) -> Profile | None:
        return self.profiles[0] if self.profiles else None

    def _costs(self, budget: Budget, points: tuple[Point, ...]) -> tuple[str, float, list[float]]:
        """How to say a cost, the limit, and what each point costs."""
        if budget.ms is not None:
            return "takes {:.4g} ms", budget.ms, [float(point.ms or 0.0) for point in points]
        if budget.open is not None:
            return "opens {:.1%} of the units", budget.open, [point.open for point in points]
        assert budget.macs is not None
        if budget.macs <= 1:
            return (
                "takes {:.1%} of the plain network's MACs",
                budget.macs,
                [p.macs / self.layout.plain.macs for p in points],
            )
        return "takes {:,.0f} MACs", budget.macs, [point.macs for point in points]

    def profile_for(self, batch: int | None = None, threads: int | None = None) -> Profile:
        """The profile of a device of this machine, with that batch (None: any) and so many threads (None: as now); on a
        CPU one whose memory came from where it comes from now, see `torchpaths.meter.allocator`.

        Raises:
            BudgetError: if there is none.
        """
        wanted = torch.get_num_threads() if threads is None else threads
        here = devices_here()
        for profile in self.profiles:
            setting = profile.setting
            as_now = (setting.threads, setting.allocator) == (wanted, allocator())
            cpu = setting.device.startswith("cpu")
            if setting.device in here and (as_now or not cpu) and batch in (None, setting.batch):
                return profile
        size = "" if batch is None else f", batch {batch}"
        known = "; ".join(str(profile.setting) for profile in self.profiles) or "nothing"
        devices = " or ".join(sorted(here))
        raise BudgetError(
            f"no times were measured for {devices}, threads {wanted}, memory from {allocator()}{size}. "
            f"Profiled: {known}. "
            f"Measure them: front = front.profile(net, images, batch={batch or 1}, threads={wanted})."
        )

    def profile(
        self,
        net: Routed,
        images: Tensor,
        *,
        batch: int = 1,
        threads: int | None = None,
        seconds: float = 1.0,
        seed: int = 0,
        timer: Timer | None = None,
    ) -> Front:
        """The same front with times measured now, on the device the network is on; see `time_points`.

        A profile of the same setting is replaced.
        """
        made = time_points(
            net, self.candidates, images, batch=batch, threads=threads, seconds=seconds, seed=seed, timer=timer
        )
        others = tuple(p for p in self.profiles if p.setting != made.setting)
        return dataclasses.replace(self, profiles=(*others, made))

    def to_json(self) -> dict[str, Any]:
        """As JSON data, what `save` writes; see `torchpaths.fronts.files`."""
        return files.to_json(self)

    def save(self, where: pathlib.Path | str) -> pathlib.Path:
        """Write ``front.json`` into a folder (or the ``.json`` named) and return the file."""
        return files.save(self, pathlib.Path(where))

    @classmethod
    def load(cls, where: pathlib.Path | str, net: HasLayout) -> Front:
        """Read what `save` wrote, for the network it was made with, or a survey of that.

        Raises:
            DataError: for a missing, damaged or cut-short file, another schema, or another network's front.
        """
        return files.load(pathlib.Path(where), cls, net.layout)


def _field(budget: Budget) -> str:
    return next(f.name for f in dataclasses.fields(budget) if getattr(budget, f.name) is not None)


def _round_up(value: float) -> str:
    """A number no smaller than ``value``, in four digits as far as they are behind the point."""
    if value >= 1000:
        return str(int(-(-value // 1)))
    text = f"{value:.4g}"
    return text if float(text) >= value else f"{value * 1.0005:.4g}"
