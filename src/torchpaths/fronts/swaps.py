"""Where the times of a front contradict each other: points that are faster than others in one setting and slower in
another, so that what is worth having there is not worth having here."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from numpy.typing import NDArray

from torchpaths.fronts.measured import Measured, Profile
from torchpaths.fronts.points import describe


def swaps(front: Measured) -> tuple[str, ...]:
    """A line for each two profiles in which points of their menus stand in another order, surer than chance: in both
    the intervals of their times, as ratios to the plain network's, lie apart."""
    found = []
    for one, other in itertools.combinations(front.profiles, 2):
        rows = _worth_having(front, one, other)
        turned = np.argwhere(_faster(one, rows) & _faster(other, rows).T)
        if len(turned):
            first, second = (describe(front.candidates[rows[i]], front.layout) for i in turned[0])
            here, there = _told(one, other)
            more = f"; {len(turned) - 1} more such pairs" if len(turned) > 1 else ""
            found.append(
                f"points swap order between profiles: {first} is faster than {second} with {here}, and slower with "
                f"{there}{more}. Choose by times of the setting in which it will run"
            )
    return tuple(found)


def _worth_having(front: Measured, *profiles: Profile) -> list[int]:
    """Numbers of the candidates on a menu of the profiles."""
    menus = {(p.path, p.threshold) for profile in profiles for p in front.menu(profile)}
    return [i for i, p in enumerate(front.candidates) if (p.path, p.threshold) in menus]


def _faster(profile: Profile, rows: list[int]) -> NDArray[np.bool_]:
    """Whether one point is surely faster than another, ``[row, row]``."""
    ratios = [profile.times[i].ratio for i in rows]
    low, high = np.array([r.low for r in ratios]), np.array([r.high for r in ratios])
    faster: NDArray[np.bool_] = high[:, None] < low[None, :]
    return faster


def _told(one: Profile, other: Profile) -> tuple[str, str]:
    """What two settings differ in."""
    names = [f.name for f in dataclasses.fields(one.setting)]
    differ = [n for n in names if getattr(one.setting, n) != getattr(other.setting, n)]
    here, there = (", ".join(f"{n.replace('_', ' ')} {getattr(p.setting, n)}" for n in differ) for p in (one, other))
    return here, there
