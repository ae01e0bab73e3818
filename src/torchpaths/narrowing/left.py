"""``Left``: what is left of a layer's filters; data, to and from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchpaths.errors import DataError
from torchpaths.path import Bools
from torchpaths.schema import Side, convert, reading


@dataclass(frozen=True)
class Left:
    """What is left of a site of filters.

    Attributes:
        of: how many filters there were.
        units: those that are left, ascending, at least one.
        gated: those of them about which is decided for each image; the others are always open.

    Raises:
        DataError: for numbers that are none of ``of`` filters, twice the same or out of order, and for none left.
    """

    of: Side
    units: tuple[int, ...]
    gated: tuple[int, ...]

    def __post_init__(self) -> None:
        whole = all(type(n) is int for n in (self.of, *self.units, *self.gated))
        if not whole or not self.units or list(self.units) != sorted(set(self.units) & set(range(self.of))):
            raise DataError(f"units {self.units!r} of {self.of!r}: give numbers below that, ascending, one at least.")
        if list(self.gated) != sorted(set(self.gated) & set(self.units)):
            raise DataError(f"gated {self.gated!r}: give some of the units {self.units!r}, ascending.")

    @property
    def kept(self) -> Bools:
        """Which filters are left, one bool for each there was."""
        found = set(self.units)
        return tuple(i in found for i in range(self.of))

    def then(self, more: Left) -> Left:
        """What is left of the first filters if of those left here ``more`` is.

        Raises:
            DataError: if that is of another number of filters.
        """
        if more.of != len(self.units):
            raise DataError(f"{len(self.units)} filters are left, not {more.of}; both belong to different networks.")
        gated = [self.units[i] for i in more.gated]
        return Left(self.of, tuple(self.units[i] for i in more.units), tuple(i for i in gated if i in self.gated))


def combined(first: Mapping[str, Left], more: Mapping[str, Left]) -> dict[str, Left]:
    """What is left of each site after two narrowings, one after the other. Errors as `Left.then`."""
    return {**first, **{site: first[site].then(left) if site in first else left for site, left in more.items()}}


def to_json(left: Mapping[str, Left]) -> dict[str, Any]:
    """As JSON data."""
    return {name: {"of": site.of, "units": list(site.units), "gated": list(site.gated)} for name, site in left.items()}


def from_json(data: Any) -> dict[str, Left]:
    """The inverse of `to_json`.

    Raises:
        DataError: if something is missing or malformed, naming the site.
    """
    found = {}
    for name, site in convert(data, dict[str, Any], "sites").items():
        with reading(f"site {name!r}", DataError, "narrow the run again"):
            found[name] = convert(site, Left)
    return found
