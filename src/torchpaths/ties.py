"""``Tie``: weights that several units share. They are there as long as any unit that holds them is open, so what they
cost is no sum over units and no product of them, as everything else in a `torchpaths.layout.Layout` is.

A layer of which filters are closed has a part of the weights for itself, which costs what other filters do. That it
shares all of them where it is whole is then a tie of fewer weights than none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchpaths.errors import PathError
from torchpaths.schema import Count, Whole, convert


@dataclass(frozen=True, slots=True)
class Tie:
    """Shared weights.

    Attributes:
        params: how many; below 0 those that need not be there, as others are.
        holders: numbers of units; they are there while all units of one of these are open.
    """

    params: Whole
    holders: tuple[tuple[Count, ...], ...]

    def there(self, opened: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether they are, bool ``[..., unit]`` -> ``[...]``."""
        return np.asarray(np.stack([opened[..., list(units)].all(-1) for units in self.holders]).any(0))

    def gains(self, opened: NDArray[np.bool_]) -> NDArray[np.int64]:
        """What each unit adds if it is open, the others as they are: bool ``[unit]`` -> int64 ``[unit]``."""
        found = np.zeros(len(opened), np.int64)
        for unit in sorted({unit for units in self.holders for unit in units}):
            both = np.stack([opened, opened])
            both[:, unit] = False, True
            without, there = self.there(both).tolist()
            found[unit] = self.params * (there - without)
        return found

    def check(self, units: int) -> None:
        """Raise `PathError` unless all it names are among so many units."""
        known = all(held and max(held) < units for held in self.holders)
        if not self.holders or not known:
            raise PathError(f"{self.params} weights shared by units {self.holders}, not among these {units} units.")


def read(row: list[Any]) -> Tie:
    """A tie from JSON data, the number of weights and its holders. Raises `MalformedError` for other data."""
    return Tie(convert(row[:1], tuple[Whole])[0], convert(row[1:], tuple[tuple[Count, ...], ...]))


def tie(params: int, holders: Iterable[Iterable[int]]) -> Tie:
    """A tie in its plainest form: what is open wherever another of its holders is, is no holder of its own."""
    found = {frozenset(units) for units in holders}
    least = [units for units in found if not any(other < units for other in found)]
    return Tie(params, tuple(sorted(tuple(sorted(units)) for units in least)))


def merged(ties: Sequence[Tie]) -> tuple[Tie, ...]:
    """One for all weights that are shared by the same units."""
    sums: dict[tuple[tuple[int, ...], ...], int] = {}
    for one in ties:
        sums[one.holders] = sums.get(one.holders, 0) + one.params
    return tuple(Tie(params, holders) for holders, params in sorted(sums.items()) if params)
