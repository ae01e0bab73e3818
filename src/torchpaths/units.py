"""What can be opened and closed, and what it costs: ``Unit``, ``Cost``, ``Budget`` and ``Layout``. Data, no networks.

A *unit* is the smallest part of a network that can be closed; a *site* is a named place that holds one or more units. A
`Layout` is all units of one network with their costs: the network as paths, surveys and budgets see it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from torchpaths.errors import BudgetError, PathError


@dataclass(frozen=True, slots=True)
class Cost:
    """MACs (multiply-accumulates of convolutions, linear layers and attention products, one image) and parameters."""

    macs: int
    params: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.macs + other.macs, self.params + other.params)

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.macs - other.macs, self.params - other.params)


@dataclass(frozen=True, slots=True)
class Unit:
    """The smallest part that can be closed, and what closing it saves.

    Attributes:
        site: name of its site.
        index: its place within the site, from 0.
        cost: what runs only when it is open.
        siblings: units of the site, itself included; a `Layout` fills it in.
    """

    site: str
    index: int
    cost: Cost
    siblings: int = 1

    @property
    def name(self) -> str:
        """The site's name, with ``/index`` in sites of several units."""
        return self.site if self.siblings == 1 else f"{self.site}/{self.index}"


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be open. Exactly one field is set; a budget is a training target and a rule of choice alike.

    Attributes:
        open: mean share of units open, in (0, 1].
        macs: a share of the plain network's MACs when at most 1, a number of MACs when above 1.
        ms: milliseconds per batch on a device that was profiled.

    Raises:
        BudgetError: if none or several are set, or one is out of range.
    """

    open: float | None = None
    macs: float | None = None
    ms: float | None = None

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if getattr(self, f.name) is not None}
        if len(given) != 1:
            raise BudgetError(
                f"a Budget takes exactly one of open, macs and ms, got {given or 'none'}; e.g. Budget(open=0.6)."
            )
        [(name, value)] = given.items()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value <= 0:
            raise BudgetError(f"Budget({name}={value!r}): a budget is a finite number above 0.")
        if name == "open" and value > 1:
            raise BudgetError(f"Budget(open={value!r}): a share of units lies in (0, 1]; for 60 % write open=0.6.")


@dataclass(frozen=True)
class Layout:
    """The units of a routed network in order of execution, with their costs. The network as paths see it.

    Attributes:
        units: all units, in order of execution; those of one site are consecutive.
        fixed: what always runs, deciders included.
        plain: the original network, without deciders.
        network: name of the original network's class.
        sites: site name -> its units, in order of execution.
        fingerprint: 16 hexadecimal digits of the units' names and costs: a path or survey of another network differs.
    """

    units: tuple[Unit, ...]
    fixed: Cost
    plain: Cost
    network: str = ""
    sites: dict[str, tuple[Unit, ...]] = field(init=False, repr=False, compare=False)
    fingerprint: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        counts = Counter(unit.site for unit in self.units)
        units = tuple(dataclasses.replace(unit, siblings=counts[unit.site]) for unit in self.units)
        object.__setattr__(self, "units", units)
        # Worked out once: a path is checked against both in every call, also in compiled ones.
        sites: dict[str, list[Unit]] = {}
        for unit in self.units:
            sites.setdefault(unit.site, []).append(unit)
        object.__setattr__(self, "sites", {name: tuple(units) for name, units in sites.items()})
        described = [[u.site, u.index, u.cost.macs, u.cost.params] for u in self.units]
        text = json.dumps([self.network, self.plain.macs, described])
        object.__setattr__(self, "fingerprint", hashlib.sha256(text.encode()).hexdigest()[:16])

    def to_json(self) -> dict[str, Any]:
        """As JSON data, in columns."""
        return {
            "network": self.network,
            "fingerprint": self.fingerprint,
            "site": [u.site for u in self.units],
            "index": [u.index for u in self.units],
            "macs": [u.cost.macs for u in self.units],
            "params": [u.cost.params for u in self.units],
            "fixed": dataclasses.asdict(self.fixed),
            "plain": dataclasses.asdict(self.plain),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Layout:
        """The inverse of `to_json`.

        Raises:
            PathError: if the fingerprint does not match the contents.
        """
        columns_of = ("site", "index", "macs", "params")
        missing = [key for key in ("network", "fingerprint", *columns_of, "fixed", "plain") if key not in data]
        if missing or len({len(data[column]) for column in columns_of}) != 1:
            what = f"{', '.join(missing)} missing" if missing else "columns of unequal length"
            raise PathError(f"no layout: {what}; the file was edited or cut short, write it anew.")
        columns = zip(data["site"], data["index"], data["macs"], data["params"], strict=True)
        units = tuple(Unit(site, index, Cost(macs, params)) for site, index, macs, params in columns)
        layout = cls(units, Cost(**data["fixed"]), Cost(**data["plain"]), data["network"])
        if layout.fingerprint != data["fingerprint"]:
            raise PathError(
                f"layout of {layout.network!r}: fingerprint {data['fingerprint']} stands in the file, its contents "
                f"give {layout.fingerprint}; the file was edited or cut short, write it anew."
            )
        return layout


class HasLayout(Protocol):
    """Anything routed: it has a `Layout`."""

    @property
    def layout(self) -> Layout: ...
