"""Layouts of made-up networks in which costs are products, and the formula for their cost, term by term."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from torchpaths.layout import Cost, Layout, Span, Term, Unit

KINDS = ("block", "stage", "filters", "branches")

small = st.builds(Cost, st.integers(0, 50), st.integers(0, 50))


@st.composite
def layouts(draw: Any) -> Layout:
    """Up to four sites of up to four units, and up to six terms, each of one, two or three spans."""
    widths = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=len(widths), max_size=len(widths)))
    starts = [sum(widths[:i]) for i in range(len(widths))]
    terms = []
    for _ in range(draw(st.integers(1, 6))):
        of = draw(st.lists(st.integers(0, len(widths) - 1), min_size=1, max_size=min(3, len(widths)), unique=True))
        spans: list[Span] = []
        for site in of:
            one = draw(st.none() | st.integers(0, widths[site] - 1))
            first, last = (0, widths[site]) if one is None else (one, one + 1)
            spans.append((starts[site] + first, starts[site] + last))
        terms.append(Term(draw(small), tuple(sorted(spans)), draw(st.booleans())))
    units = tuple(
        Unit(f"s{i}", j, draw(small), kind)
        for i, (width, kind) in enumerate(zip(widths, kinds, strict=True))
        for j in range(width)
    )
    fixed, deciding = draw(small), draw(small)
    inside = {f"s{i}": ((f"s{i - 1}", widths[i - 1] - 1),) for i in range(1, len(widths)) if draw(st.booleans())}
    return Layout(units, fixed + deciding, Cost(999, 999), "Made", tuple(terms), deciding, inside)


def by_hand(layout: Layout, opened: NDArray[np.bool_], deciders: bool = True) -> Cost:
    """What one path costs, bool ``[unit]``, with or without deciders."""
    total = layout.fixed if deciders else layout.fixed - layout.deciding
    for term in layout.terms if deciders else [term for term in layout.terms if not term.decides]:
        times = math.prod(int(opened[start:stop].sum()) for start, stop in term.spans)
        total += Cost(term.cost.macs * times, term.cost.params * times)
    return total


def large() -> Layout:
    """As many units and terms as ResNet-18 has with a gate for each block and two sites of filters in each."""
    units: list[Unit] = []
    terms: list[Term] = []
    inside: dict[str, tuple[tuple[str, int], ...]] = {}
    for block in range(8):
        width = 60 * 2 ** (block // 2)
        gate, first = len(units), len(units) + 1
        units.append(Unit(f"b{block}", 0, Cost(0, 0)))
        for i, name in enumerate((f"b{block}.conv1", f"b{block}.conv2")):
            inside[name] = ((f"b{block}", 0),)
            units += [Unit(name, j, Cost(0, 0), "filters") for j in range(width + 30 * i)]
        spans = (gate, gate + 1), (first, first + width), (first + width, len(units))
        terms += [Term(Cost(1000 + block, 7), spans), Term(Cost(500, 3), spans[:2]), Term(Cost(300, 2), spans[::2])]
        terms += [Term(Cost(100 * i + 1, 1), spans[:1]) for i in range(3)]
        terms += [Term(Cost(40 + i, 5), spans[:1], decides=True) for i in range(2)]
    return Layout(tuple(units), Cost(10**6, 10**4), Cost(10**9, 10**6), "Large", tuple(terms), Cost(0, 0), inside)
