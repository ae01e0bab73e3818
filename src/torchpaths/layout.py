"""What can be opened and closed, and what it costs: ``Unit``, ``Cost`` and ``Layout``. Data, no networks.

A *unit* is the smallest part of a network that can be closed; a *site* is a named place that holds one or more units. A
`Layout` is all units of one network with their costs: the network as paths, surveys and budgets see it.

Costs are products. A residual branch costs what it costs if its unit is open; a convolution between two sites of
filters costs in proportion to the open units of the one times those of the other, and nothing if the block around it is
closed. So a layout is what always runs and a list of `Term`: a cost times the number of open units in each of its
spans.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from torchpaths.errors import PathError, clip
from torchpaths.schema import MalformedError, Strict, Whole, convert, reading
from torchpaths.ties import Tie, read


@dataclass(frozen=True, slots=True)
class Cost:
    """MACs (multiply-accumulates of convolutions, linear layers and attention products, one image) and parameters."""

    macs: Whole
    params: Whole

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
        cost: what closing it saves where everything else is open, deciders aside.
        kind: what it is part of: a block, a stage, filters, branches. All units of a site are of one kind.
        siblings: units of the site, itself included; a `Layout` fills it in.
    """

    site: str
    index: int
    cost: Cost
    kind: str = "block"
    siblings: int = 1

    @property
    def name(self) -> str:
        """The site's name, with ``/index`` in sites of several units."""
        return self.site if self.siblings == 1 else f"{self.site}/{self.index}"


Span: TypeAlias = tuple[int, int]
"""Consecutive units of a layout: the first, and the first behind them."""


@dataclass(frozen=True, slots=True)
class Term:
    """What a part of a network costs: ``cost`` times the number of open units in each of its spans.

    Attributes:
        cost: with one unit open in each.
        spans: runs of units; none for what always runs.
        decides: it is a decider, which runs only where it is asked: not at a site that a path has decided.
    """

    cost: Cost
    spans: tuple[Span, ...]
    decides: bool = False


@dataclass(frozen=True)
class Layout:
    """The units of a routed network in order of execution, with their costs. The network as paths see it.

    Attributes:
        units: all units, in order of execution; those of one site are consecutive.
        fixed: what always runs, deciders included that nothing closes.
        plain: the original network, without deciders.
        network: name of the original network's class.
        terms: what runs in proportion to open units; by default each unit is a term by itself.
        deciding: the deciders' part of ``fixed``.
        inside: site name -> the units ``(site, index)`` that must be open for it to run; only sites that others hold.
        ties: weights that several units share.
        sites: site name -> its units, in order of execution.
        fingerprint: 16 hexadecimal digits of the units' names and costs: a path or survey of another network differs.
    """

    units: tuple[Unit, ...]
    fixed: Cost
    plain: Cost
    network: str = ""
    terms: tuple[Term, ...] = ()
    deciding: Cost = Cost(0, 0)
    inside: Mapping[str, tuple[tuple[str, int], ...]] = field(default_factory=dict, repr=False)
    ties: tuple[Tie, ...] = ()
    sites: dict[str, tuple[Unit, ...]] = field(init=False, repr=False, compare=False)
    fingerprint: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        counts = Counter(unit.site for unit in self.units)
        units = tuple(  # thousands where filters are units, most of them as they should be
            unit if unit.siblings == counts[unit.site] else dataclasses.replace(unit, siblings=counts[unit.site])
            for unit in self.units
        )
        object.__setattr__(self, "units", units)
        # Worked out once: a path is checked against these in every call, also in compiled ones.
        sites = {site: tuple(members) for site, members in itertools.groupby(units, key=lambda unit: unit.site)}
        object.__setattr__(self, "sites", sites)
        _check(units, sites, self.terms)
        for tie in self.ties:
            tie.check(len(units))
        products = [term for term in self.terms if not term.decides]
        if flat := not products or _sums(products, len(units)) == [unit.cost for unit in units]:
            deciders = (term for term in self.terms if term.decides)
            object.__setattr__(self, "terms", (*_own(units), *deciders))
        # Deciders are no part of it: a path of a gated network is one of its plain twin.
        described: list[Any] = [[u.site, u.index, u.cost.macs, u.cost.params] for u in units]
        if not flat:
            described += [[t.cost.macs, t.cost.params, t.spans] for t in products]
        text = json.dumps([self.network, self.plain.macs, described])
        object.__setattr__(self, "fingerprint", hashlib.sha256(text.encode()).hexdigest()[:16])

    @property
    def flat(self) -> bool:
        """Whether each unit costs what it costs whatever the others do."""
        return self.terms == _own(self.units)

    @cached_property
    def kinds(self) -> dict[str, list[int]]:
        """Kind -> the numbers of its units."""
        found: dict[str, list[int]] = {}
        for i, unit in enumerate(self.units):
            found.setdefault(unit.kind, []).append(i)
        return found

    def shares(self, rates: NDArray[Any]) -> dict[str, float]:
        """The mean share of units open, of each kind, from what is open or how often, ``[..., unit]``."""
        return {kind: float(rates[..., numbers].mean()) for kind, numbers in self.kinds.items()}

    @cached_property
    def around(self) -> tuple[tuple[int, ...], ...]:
        """For each unit the numbers of those that must be open for it to run, see ``inside``."""
        numbers = {(unit.site, unit.index): i for i, unit in enumerate(self.units)}
        return tuple(tuple(numbers[u] for u in self.inside.get(unit.site, ())) for unit in self.units)

    def running(self, opened: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The units that really run along paths, bool ``[..., unit]``: those open, and nothing around them closed."""
        found = opened.copy()
        for i, outer in enumerate(self.around):
            if outer:
                found[..., i] &= opened[..., outer].all(-1)
        return found

    def costs(self, opened: NDArray[np.bool_]) -> NDArray[np.int64]:
        """MACs and parameters of paths, bool ``[..., unit]`` -> int64 ``[..., 2]``, deciders included."""
        starts, stops, costs = self._factors
        sums = np.zeros((*opened.shape[:-1], opened.shape[-1] + 2), np.int32)
        np.cumsum(opened, -1, np.int32, out=sums[..., 1:-1])
        sums[..., -1] = sums[..., -2] + 1  # a unit behind the last that is always open
        counts = np.ones((*opened.shape[:-1], len(self.terms)), np.int64)
        for start, stop in zip(starts.T, stops.T, strict=True):
            counts *= sums[..., stop] - sums[..., start]
        found = np.asarray(np.array([self.fixed.macs, self.fixed.params]) + counts @ costs, np.int64)
        for tie in self.ties:
            found[..., 1] += tie.params * tie.there(opened)
        return found

    def cost(self, opened: NDArray[np.bool_]) -> Cost:
        """Of one path, bool ``[unit]``, deciders included."""
        macs, params = self.costs(opened).tolist()
        return Cost(macs, params)

    def gains(self, opened: NDArray[np.bool_]) -> NDArray[np.int64]:
        """What each unit adds if it is open, the others as they are: bool ``[unit]`` -> MACs and parameters, int64
        ``[unit, 2]``. A unit inside a closed one adds nothing."""
        starts, stops, costs = self._factors
        sums = np.concatenate([[0], np.cumsum(opened, dtype=np.int64), [opened.sum() + 1]])
        counts = sums[stops] - sums[starts]
        found = np.zeros((len(opened) + 2, 2), np.int64)
        for factor in range(counts.shape[1]):
            added = np.delete(counts, factor, 1).prod(1, keepdims=True) * costs
            np.add.at(found, starts[:, factor], added)
            np.add.at(found, stops[:, factor], -added)
        gained = np.asarray(found.cumsum(0)[: len(opened)], np.int64)
        for tie in self.ties:
            gained[:, 1] += tie.gains(opened)
        return gained

    @cached_property
    def _factors(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Starts and stops of spans ``[term, factor]``, filled up with a unit that is always open, and costs
        ``[term, 2]``."""
        count = len(self.units)
        spans = np.full((len(self.terms), max((len(t.spans) for t in self.terms), default=1), 2), (count, count + 1))
        for row, term in enumerate(self.terms):
            spans[row, : len(term.spans)] = term.spans or np.empty((0, 2))
        costs = np.array([[t.cost.macs, t.cost.params] for t in self.terms], np.int64).reshape(-1, 2)
        return spans[..., 0], spans[..., 1], costs

    def saved(self, site: str) -> Cost:
        """What closing all units of a site saves where everything else is open."""
        opened = np.array([[True] * len(self.units), [unit.site != site for unit in self.units]])
        macs, params = (-np.diff(self.costs(opened), axis=0))[0].tolist()
        return Cost(macs, params)

    def undecided(self) -> Layout:
        """The same network with no decider asked, as along a path that decides everything."""
        return dataclasses.replace(
            self,
            fixed=self.fixed - self.deciding,
            deciding=Cost(0, 0),
            terms=tuple(t for t in self.terms if not t.decides),
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON data, in columns; what a flat network of blocks does not need is left out."""
        data: dict[str, Any] = {
            "network": self.network,
            "fingerprint": self.fingerprint,
            "site": [u.site for u in self.units],
            "index": [u.index for u in self.units],
            "macs": [u.cost.macs for u in self.units],
            "params": [u.cost.params for u in self.units],
            "fixed": dataclasses.asdict(self.fixed),
            "plain": dataclasses.asdict(self.plain),
        }
        return {**data, **self.more_json()}

    def more_json(self) -> dict[str, Any]:
        """What sets this layout apart from a flat one of blocks, as JSON data: kinds, terms, the deciders' cost."""
        data: dict[str, Any] = {}
        if set(self.kinds) - {"block"}:
            data["kind"] = [u.kind for u in self.units]
        if not self.flat:  # or a decider depends on what is open
            data["terms"] = [[t.cost.macs, t.cost.params, int(t.decides), *map(list, t.spans)] for t in self.terms]
        if self.deciding != Cost(0, 0):
            data["deciding"] = dataclasses.asdict(self.deciding)
        if self.inside:
            data["inside"] = {site: [list(unit) for unit in around] for site, around in self.inside.items()}
        if self.ties:
            data["ties"] = [[tie.params, *map(list, tie.holders)] for tie in self.ties]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Layout:
        """The inverse of `to_json`, also of those that older versions wrote.

        Raises:
            PathError: if the fingerprint does not match the contents, or they are no layout.
        """
        with reading("no layout", PathError, "the file was edited or cut short, write it anew"):
            written: _Written = convert(data, _Written)
            layout = written.layout(cls)
            if layout.fingerprint != written.fingerprint:
                raise MalformedError(
                    f"fingerprint {written.fingerprint} stands in the file, its contents give {layout.fingerprint}"
                )
            return layout


class _Written(Strict, frozen=True):
    """A layout in columns, as `Layout.to_json` writes it."""

    network: str
    fingerprint: str
    site: list[str]
    index: list[Whole]
    macs: list[Whole]
    params: list[Whole]
    fixed: Cost
    plain: Cost
    deciding: Cost = Cost(0, 0)
    kind: list[str] | None = None
    terms: list[list[bool | int | list[int]]] = msgspec.field(default_factory=list)
    inside: dict[str, tuple[tuple[str, Whole], ...]] = msgspec.field(default_factory=dict)
    ties: list[list[int | list[int]]] = msgspec.field(default_factory=list)

    def layout(self, of: type[Layout]) -> Layout:
        kinds = ["block"] * len(self.site) if self.kind is None else self.kind
        columns = (self.site, self.index, self.macs, self.params, kinds)
        units = tuple(Unit(s, i, Cost(macs, params), k) for s, i, macs, params, k in zip(*columns, strict=True))
        terms = tuple(map(_term, self.terms))
        layout = of(
            units, self.fixed, self.plain, self.network, terms, self.deciding, self.inside, tuple(map(read, self.ties))
        )
        for site, members in layout.sites.items():
            if [unit.index for unit in members] != list(range(len(members))):
                raise MalformedError(f"units of site {clip(site, 80)!r} are not numbered from 0 on")
        layout.around  # noqa: B018, a KeyError for units that it does not have
        return layout


def _term(row: list[Any]) -> Term:
    macs, params, decides, *spans = row
    if isinstance(decides, list):
        raise MalformedError(f"terms: {row} is not MACs, parameters, whether it decides, and spans")
    return Term(Cost(convert(macs, Whole), convert(params, Whole)), convert(spans, tuple[Span, ...]), bool(decides))


def _check(units: Sequence[Unit], sites: Mapping[str, tuple[Unit, ...]], terms: Sequence[Term]) -> None:
    """Raise `PathError` unless units of a site lie side by side and spans of a term apart."""
    if sum(map(len, sites.values())) != len(units):
        raise PathError("a layout whose units of one site lie apart; give them side by side.")
    for term in terms:
        ends = [0, *(end for span in sorted(term.spans) for end in span), len(units)]
        if any(a > b for a, b in itertools.pairwise(ends)) or any(a == b for a, b in term.spans):
            raise PathError(
                f"a term of spans {term.spans}: they overlap, are empty, or not of these {len(units)} units."
            )


def _own(units: Sequence[Unit]) -> tuple[Term, ...]:
    return tuple(Term(unit.cost, ((i, i + 1),)) for i, unit in enumerate(units))


def _sums(terms: Iterable[Term], count: int) -> list[Cost] | None:
    """What each unit costs by itself; None if several cost something only together."""
    found = [Cost(0, 0)] * count
    for term in terms:
        if len(term.spans) != 1 or term.spans[0][1] - term.spans[0][0] != 1:
            return None
        found[term.spans[0][0]] += term.cost
    return found


class HasLayout(Protocol):
    """Anything routed: it has a `Layout`."""

    @property
    def layout(self) -> Layout: ...
