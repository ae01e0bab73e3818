"""``Cover``: what of a network runs only where units are open; and all covers of a network made into one `Layout`.

A residual branch covers its weights by one unit, a stage those of its blocks, a site of filters the rows of one
convolution and the columns of the next. Covers lie inside one another or apart, whichever methods they come from: then
the cost of what lies in several of them is a product, and nothing is counted twice.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from torchpaths.errors import RouteError
from torchpaths.layout import Cost, Layout, Span, Term, Unit
from torchpaths.ties import Tie, merged, tie

NOTHING = Cost(0, 0)


@dataclass(frozen=True)
class Cover:
    """What runs in proportion to the open units of a site.

    Attributes:
        site: its name.
        cost: with all of them open.
        items: names of what it holds, so that covers can be seen to lie in one another: parameters by their dotted
            names in the model, and sums of blocks (`sum_item`), which may hold no parameter. Covers of the same items
            have the same cost.
        unit: one unit that covers all of it; None for equal shares of all units of the site.
        added: it is no part of the original network (a decider, a normalisation) and runs where ``items`` do.
        decides: it is a decider: it runs whatever the units of its own site.
        level: among covers of the same items those of a higher level are around the others, see `Plan`.
        axis: of the weights along which the units lie, where they share them: 0 for rows, 1 for columns. Sites share
            the same items along different axes only.
    """

    site: str
    cost: Cost
    items: frozenset[str]
    unit: int | None = None
    added: bool = False
    decides: bool = False
    level: int = 0
    axis: int = 0


def tied(model: nn.Module) -> set[int]:
    """The parameters, by id, that several modules share: they are there as long as one of those is, so covers of one
    unit leave them out and `make_layout` is told of them apart."""
    counts = Counter(id(p) for _, p in _own(model))
    return {key for key, count in counts.items() if count > 1}


def _own(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters of each module, one that has several names under the first."""
    for name, module in model.named_modules():
        yield from module.named_parameters(name, recurse=False, remove_duplicate=False)


def sum_item(block: str, number: int) -> str:
    """The item that stands for a sum of a block, named like no parameter."""
    return f"{block}:{number}"


def shared(model: nn.Module) -> list[tuple[int, tuple[str, ...]]]:
    """The parameters that several modules share: how many numbers, and all their names."""
    names: dict[int, list[str]] = {}
    sizes = {}
    for name, parameter in _own(model):
        names.setdefault(id(parameter), []).append(name)
        sizes[id(parameter)] = parameter.numel()
    return [(sizes[key], tuple(known)) for key, known in names.items() if len(known) > 1]


def make_layout(
    units: Sequence[Unit],
    covers: Iterable[Cover],
    plain: Cost,
    network: str,
    shares: Iterable[tuple[int, tuple[str, ...]]] = (),
) -> Layout:
    """The layout of a network; each unit's cost is what closing it saves where everything else is open, deciders aside:
    a network has the same units whoever decides.

    Args:
        units: in order of execution, those of a site side by side.
        covers: of all methods.
        plain: the original network.
        network: name of its class.
        shares: weights with several names, see `shared`, which the costs of covers of one unit leave out.

    Raises:
        RouteError: for covers that overlap without one lying in the other, or whose cost is not one of equal units.
    """
    covers = list(covers)
    bare = {unit.site for unit in units} - {cover.site for cover in covers if not cover.added}
    if bare:
        raise RouteError(f"site {min(bare)!r} covers nothing of the network; its plan needs a Cover that says what.")
    spans = _Spans(units)
    # What several covers share is none of theirs: without it they lie in one another or apart.
    shares = list(shares)
    names = {name for _, known in shares for name in known}
    parts = {name for c in covers if not c.added and c.unit is None for name in c.items & names}
    own = [(c, _bare(c, names, parts)) for c in covers if not c.added]
    terms, left = _nested([bare for _, bare in own], spans, plain)
    for cover in covers:
        if cover.added:
            outer = {spans.of(c) for c in covers if not c.added and c.site != cover.site and _around(c, cover)}
            terms.append(_term(cover, cover.cost, outer if cover.decides else {*outer, spans.of(cover)}))
    wrong = next((c for c in covers if c.cost.macs < 0 or c.cost.params < 0), None)
    if left.macs < 0 or wrong is not None:
        site, cost = ("", left) if wrong is None else (f" of site {wrong.site!r}", wrong.cost)
        raise RouteError(
            f"the covers{site} cannot be right: {cost.macs:,} MACs are left of {plain.macs:,}. A cover costs what its "
            "items cost in this network, once, for one image."
        )
    ties = []
    for numbers, known in shares:
        fixed, more, found = _shared(numbers, known, own, spans)
        left -= Cost(0, numbers - fixed)
        terms += more
        ties += found
    always = [term for term in terms if not term.spans]
    constant = sum((term.cost for term in always), left)
    deciding = sum((term.cost for term in always if term.decides), NOTHING)
    made = Layout(tuple(units), constant, plain, network, _merged(terms), deciding, _inside(covers), merged(ties))
    gains = made.undecided().gains(np.ones(len(units), bool)).tolist()
    saved = tuple(replace(unit, cost=Cost(*gain)) for unit, gain in zip(made.units, gains, strict=True))
    return replace(made, units=saved)


def _bare(cover: Cover, names: set[str], parts: set[str]) -> Cover:
    """A cover without the weights of several names, which it shares with others; those of which filters can be closed
    (``parts``) it holds for their MACs alone."""
    cost = Cost(cover.cost.macs, 0) if cover.items <= parts else cover.cost
    return replace(cover, cost=cost, items=cover.items - (names - parts) or cover.items)


def _shared(
    numbers: int, names: Iterable[str], covers: Sequence[tuple[Cover, Cover]], spans: _Spans
) -> tuple[int, list[Term], list[Tie]]:
    """What weights of several names cost: how many always run, and in which terms and ties the others do.

    They are there once, as long as one of the layers that hold them is. A layer of which filters are closed has weights
    of its own, a part of them: then they count beside the others' (a term), and where it is whole do not (a tie).

    Args:
        numbers: how many.
        names: theirs.
        covers: with these names and without.
        spans: of the sites.
    """
    terms, ties, holders, always = [], [], [], False
    for name in names:
        held = [(cover, bare) for cover, bare in covers if name in cover.items]
        if any(cover.unit is None for cover, _ in held):
            around = {spans.of(bare) for _, bare in held}
            terms.append(_term(held[0][0], Cost(0, numbers), around))
            whole = {unit for start, stop in around for unit in range(start, stop)}
            ties.append(tie(-numbers, [whole]))
            holders.append(whole)
            continue
        always = always or not held
        bares = [bare for _, bare in held]
        inner = [c for c in bares if not any(_around(c, other) for other in bares)]
        holders += [{spans.of(c)[0], *(spans.of(o)[0] for o in bares if _around(o, c))} for c in inner]
    if always:
        return numbers, terms, ties
    once = tie(numbers, holders)
    if len(once.holders) == 1 and not terms:
        # Held by one unit, or by several only together, they cost what everything else does.
        return 0, [Term(Cost(0, numbers), tuple((u, u + 1) for u in once.holders[0]))], ties
    return 0, terms, [*ties, once]


def _merged(terms: Iterable[Term]) -> tuple[Term, ...]:
    """One term for all that is open together, in order of units: the same whatever the order of methods and covers."""
    found: dict[tuple[tuple[Span, ...], bool], Cost] = {}
    for term in terms:
        if term.spans and term.cost != NOTHING:
            found[term.spans, term.decides] = found.get((term.spans, term.decides), NOTHING) + term.cost
    return tuple(Term(cost, spans, decides) for (spans, decides), cost in sorted(found.items(), key=lambda e: e[0]))


class _Spans:
    def __init__(self, units: Sequence[Unit]) -> None:
        self.sites: dict[str, Span] = {}
        for i, unit in enumerate(units):
            start, _ = self.sites.get(unit.site, (i, i))
            self.sites[unit.site] = start, i + 1

    def of(self, cover: Cover) -> Span:
        """The units that cover it."""
        start, stop = self.sites[cover.site]
        return (start, stop) if cover.unit is None else (start + cover.unit, start + cover.unit + 1)


def _nested(covers: list[Cover], spans: _Spans, plain: Cost) -> tuple[list[Term], Cost]:
    """A term for what each group of covers holds beyond those inside it; and what no cover holds."""
    groups: dict[frozenset[str], list[Cover]] = {}
    for cover in covers:
        groups.setdefault(cover.items, []).append(cover)
    holding: dict[str, list[frozenset[str]]] = {}
    for items in groups:
        for item in items:
            holding.setdefault(item, []).append(items)
    terms: list[Term] = []
    own = {items: group[0].cost for items, group in groups.items()}
    left = plain
    for items, group in groups.items():
        other = next((c for c in group if c.cost != group[0].cost), None)
        if other is not None:
            raise RouteError(
                f"sites {group[0].site!r} and {other.site!r} cover the same layers, yet one would save {group[0].cost} "
                f"and the other {other.cost}; route with one of the methods, or leave one of the sites out."
            )
        around = sorted({other for item in items for other in holding[item] if other != items}, key=len)
        outside = [other for other in around if len(other) >= len(items)]
        wrong = next((other for other in outside if not items < other), None)
        if wrong is not None:
            raise _overlapping(group[0], groups[wrong][0])
        for i, cover in enumerate(group):
            alike = (c for c in group[:i] if (c.level, c.axis, c.unit) == (cover.level, cover.axis, cover.unit))
            if (other := next(alike, None)) is not None:
                raise _overlapping(other, cover)
        if outside:
            own[outside[0]] -= group[0].cost
        else:
            left -= group[0].cost
    for items, group in groups.items():
        holders = {items, *(other for item in items for other in holding[item] if items < other)}
        factors = {spans.of(c) for other in holders for c in groups[other]}
        terms.append(_term(group[0], own[items], factors))
    return terms, left


def _overlapping(a: Cover, b: Cover) -> RouteError:
    return RouteError(
        f"sites {a.site!r} and {b.site!r} cover some of the same layers, and neither lies inside the other; route with "
        "one of the methods, or leave one of the sites out."
    )


def _inside(covers: Iterable[Cover]) -> dict[str, tuple[tuple[str, int], ...]]:
    """See `Layout.inside`: the units that have a cover around every cover of a site."""
    own = [c for c in covers if not c.added]
    found: dict[str, tuple[tuple[str, int], ...]] = {}
    for site in dict.fromkeys(c.site for c in own):
        around = [
            {(o.site, o.unit) for o in own if o.unit is not None and o.site != site and _around(o, c)}
            for c in own
            if c.site == site
        ]
        common = set.intersection(*around)
        if common:
            found[site] = tuple(sorted((name, unit) for name, unit in common if unit is not None))
    return found


def _around(outer: Cover, inner: Cover) -> bool:
    return inner.items < outer.items or (inner.items == outer.items and inner.level < outer.level)


def _term(cover: Cover, cost: Cost, factors: Iterable[Span]) -> Term:
    """The cost for one open unit in each of the factors."""
    found = tuple(sorted(factors))
    if any(a[1] > b[0] for a, b in itertools.pairwise(found)):
        raise RouteError(
            f"site {cover.site!r}: some of its layers are covered twice by units of one site, so what they cost is no "
            "product; give each layer one cover for each site."
        )
    parts = math.prod(stop - start for start, stop in found)
    if cost.macs % parts or cost.params % parts:
        raise RouteError(
            f"site {cover.site!r}: {cost} does not divide into {parts} equal parts, one for each combination of units; "
            "its units are not alike, so give each a cover of its own."
        )
    return Term(Cost(cost.macs // parts, cost.params // parts), found, cover.decides)
