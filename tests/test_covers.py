"""Covers made into a layout: nothing is counted twice, whichever methods they come from."""

from __future__ import annotations

import numpy as np
import pytest

from torchpaths.errors import RouteError
from torchpaths.layout import Cost, Layout, Term, Unit
from torchpaths.places.covers import Cover, make_layout, sum_item

PLAIN = Cost(1000, 100)


def units(*sites: str, **several: int) -> list[Unit]:
    """Units of sites of one unit each, then of sites of several; their costs are not known yet."""
    counts = {**dict.fromkeys(sites, 1), **several}
    return [Unit(site, i, Cost(0, 0)) for site, count in counts.items() for i in range(count)]


def cover(site: str, macs: int, items: str, **more: object) -> Cover:
    """MACs, a tenth as many parameters, and a letter for each item."""
    return Cover(site, Cost(macs, macs // 10), frozenset(items), **{"unit": 0, **more})  # type: ignore[arg-type]


def made(units: list[Unit], *covers: Cover) -> Layout:
    return make_layout(units, covers, PLAIN, "Net")


def macs(layout: Layout, *opened: int) -> int:
    return layout.cost(np.array(opened, bool)).macs


def test_covers_that_lie_apart_make_a_flat_layout_and_what_none_covers_always_runs() -> None:
    layout = made(units("a", "b"), cover("a", 100, "xy"), cover("b", 300, "z"))
    assert layout.flat
    assert layout.fixed == Cost(600, 60)
    assert [unit.cost for unit in layout.units] == [Cost(100, 10), Cost(300, 30)]
    assert layout.inside == {}


def test_what_lies_in_two_covers_is_a_product_and_counted_once() -> None:
    layout = made(units("stage", "block"), cover("stage", 500, "xyz"), cover("block", 200, "x"))
    assert [macs(layout, *opened) for opened in ((1, 1), (1, 0), (0, 1), (0, 0))] == [1000, 800, 500, 500]
    assert layout.units[0].cost == Cost(500, 50), "closing the stage saves what is in its block too"
    assert layout.units[1].cost == Cost(200, 20)
    assert layout.inside == {"block": (("stage", 0),)}


@pytest.mark.parametrize("swap", [False, True])
def test_the_order_of_covers_means_nothing(swap: bool) -> None:
    covers = [cover("stage", 500, "xyz"), cover("block", 200, "xy"), cover("inner", 50, "y")]
    layout = made(units("stage", "block", "inner"), *(reversed(covers) if swap else covers))
    assert [macs(layout, 1, 1, 0), macs(layout, 1, 0, 1), macs(layout, 0, 1, 1)] == [950, 800, 500]
    assert layout.inside == {"block": (("stage", 0),), "inner": (("block", 0), ("stage", 0))}


def test_covers_of_the_same_items_lie_in_each_other_by_level() -> None:
    layout = made(units("block", "stage"), cover("block", 200, "x", level=1), cover("stage", 200, "x", level=2))
    assert [macs(layout, *opened) for opened in ((1, 1), (1, 0), (0, 1), (0, 0))] == [1000, 800, 800, 800]
    assert layout.inside == {"block": (("stage", 0),)}


def test_a_convolution_between_two_sites_of_filters_costs_in_proportion_to_both() -> None:
    rows, columns = cover("rows", 600, "w", unit=None), cover("columns", 600, "w", unit=None, axis=1)
    layout = made(units("block", rows=2, columns=3), cover("block", 700, "wv"), rows, columns)
    assert [t for t in layout.terms if len(t.spans) == 3] == [Term(Cost(100, 10), ((0, 1), (1, 3), (3, 6)))]
    assert macs(layout, 1, 1, 1, 1, 1, 1) == 1000
    assert macs(layout, 1, 1, 0, 1, 1, 0) == 1000 - 600 + 200
    assert macs(layout, 1, 0, 0, 1, 1, 1) == 400
    assert macs(layout, 0, 1, 1, 1, 1, 1) == 300
    assert layout.inside == {"rows": (("block", 0),), "columns": (("block", 0),)}


def test_a_site_whose_places_lie_in_different_units_is_inside_those_that_hold_them_all() -> None:
    places = (cover("filters", 100, "x"), cover("filters", 50, "y"))
    both = cover("stage", 900, "vxyz")
    layout = made(units("stage", "a", "b", "filters"), both, cover("a", 200, "xv"), cover("b", 300, "yz"), *places)
    assert layout.inside["filters"] == (("stage", 0),)
    assert macs(layout, 1, 1, 1, 0) == 850
    assert macs(layout, 1, 0, 1, 1) == 800


def test_a_sum_without_parameters_is_covered_by_name() -> None:
    item = sum_item("layer1.0", 0)
    pooling = Cover("pool", Cost(10, 0), frozenset({item}), unit=0)
    stage = Cover("stage", Cost(110, 10), frozenset({item, "layer1.0.conv.weight"}), unit=0)
    layout = made(units("stage", "pool"), stage, pooling)
    assert macs(layout, 1, 0) == 990
    assert layout.inside == {"pool": (("stage", 0),)}


def test_a_decider_runs_whatever_its_own_units_do_but_not_inside_something_closed() -> None:
    covers = (cover("stage", 500, "xyz"), cover("block", 200, "x"), cover("free", 100, "v"))
    gates = (cover("block", 30, "x", added=True, decides=True), cover("free", 40, "v", added=True, decides=True))
    layout = made(units("stage", "block", "free"), *covers, *gates)
    assert layout.deciding == Cost(40, 4)
    assert layout.fixed == Cost(1000 - 500 - 100 + 40, 100 - 50 - 10 + 4)
    assert macs(layout, 1, 0, 1) == 1000 - 200 + 30 + 40
    assert macs(layout, 0, 1, 1) == 1000 - 500 + 40
    bare = made(units("stage", "block", "free"), *covers)
    assert layout.undecided() == bare
    assert layout.units == bare.units, "a network has the same units whoever decides"
    assert layout.fingerprint == bare.fingerprint


def test_what_a_method_adds_runs_with_the_units_it_belongs_to() -> None:
    norm = cover("block", 20, "x", added=True)
    layout = made(units("stage", "block"), cover("stage", 500, "xy"), cover("block", 200, "x"), norm)
    assert [macs(layout, *opened) for opened in ((1, 1), (1, 0), (0, 1))] == [1020, 800, 500]
    assert layout.plain == PLAIN


def test_covers_that_overlap_are_refused_by_their_names() -> None:
    with pytest.raises(RouteError, match=r"'[ab]' and '[ab]' cover some of the same layers, and neither lies inside"):
        made(units("a", "b"), cover("a", 100, "xy"), cover("b", 300, "yz"))


def test_covers_of_the_same_layers_agree_on_what_they_cost() -> None:
    with pytest.raises(RouteError, match="'a' and 'b' cover the same layers, yet one would save"):
        made(units("a", "b"), cover("a", 100, "x"), cover("b", 90, "x", level=2))


def test_a_cost_that_is_no_equal_share_is_refused() -> None:
    with pytest.raises(RouteError, match=r"'filters'.*does not divide into 3 equal parts"):
        made(units(filters=3), cover("filters", 100, "x", unit=None))


def test_one_unit_and_all_units_of_a_site_do_not_cover_the_same_layer() -> None:
    with pytest.raises(RouteError, match="'filters': some of its layers are covered twice"):
        made(units(filters=2), cover("filters", 100, "xy", unit=None), cover("filters", 20, "x", unit=1))
