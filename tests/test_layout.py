"""Layouts in which costs are products, against the formula and against one another."""

from __future__ import annotations

import copy
import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import torchpaths as tp
from layouts import by_hand, large, layouts
from torchpaths.errors import PathError
from torchpaths.layout import Cost, Layout, Term, Unit
from torchpaths.models import create_model
from torchpaths.surveys import Survey
from torchpaths.train.recipe import Recipe

RECORDS = pathlib.Path(__file__).resolve().parents[1] / "records"


def paths(layout: Layout, count: int = 5) -> st.SearchStrategy[Any]:
    return arrays(bool, (count, len(layout.units)))


@given(st.data())
def test_a_path_costs_what_always_runs_and_each_term_times_what_is_open_in_each_of_its_spans(data: Any) -> None:
    layout = data.draw(layouts())
    opened = data.draw(paths(layout))
    expected = [by_hand(layout, row) for row in opened]
    assert layout.costs(opened).tolist() == [[cost.macs, cost.params] for cost in expected]
    assert [layout.cost(row) for row in opened] == expected
    assert layout.costs(opened.reshape(1, 5, -1)).shape == (1, 5, 2)


@given(st.data())
def test_a_units_gain_is_the_cost_with_it_open_less_the_cost_with_it_closed(data: Any) -> None:
    layout = data.draw(layouts())
    [opened] = data.draw(paths(layout, 1))
    for unit, gain in enumerate(layout.gains(opened).tolist()):
        with_it, without = opened.copy(), opened.copy()
        with_it[unit], without[unit] = True, False
        assert Cost(*gain) == by_hand(layout, with_it) - by_hand(layout, without)


@given(st.data())
def test_what_a_site_saves_is_all_that_its_units_cost_where_the_rest_is_open(data: Any) -> None:
    layout = data.draw(layouts())
    full = np.ones(len(layout.units), bool)
    for site in layout.sites:
        without = np.array([unit.site != site for unit in layout.units])
        assert layout.saved(site) == by_hand(layout, full) - by_hand(layout, without)


@given(st.data())
def test_along_a_path_that_decides_everything_no_decider_costs_anything(data: Any) -> None:
    layout = data.draw(layouts())
    opened = data.draw(paths(layout))
    bare = layout.undecided()
    assert [bare.cost(row) for row in opened] == [by_hand(layout, row, deciders=False) for row in opened]
    assert bare.fingerprint == layout.fingerprint, "its paths are those of the network with deciders"
    assert bare.undecided() == bare


@given(layouts())
def test_what_is_read_is_what_was_written(layout: Layout) -> None:
    read = Layout.from_json(json.loads(json.dumps(layout.to_json())))
    assert read == layout
    assert (read.sites, read.kinds, read.fingerprint) == (layout.sites, layout.kinds, layout.fingerprint)


@given(layouts())
def test_the_fingerprint_tells_products_apart(layout: Layout) -> None:
    products = [term for term in layout.terms if not term.decides]
    more = Term(products[0].cost + Cost(1, 0), products[0].spans)
    changed = (more, *(term for term in layout.terms if term != products[0]))
    other = Layout(layout.units, layout.fixed, layout.plain, layout.network, changed, layout.deciding, layout.inside)
    assert other.fingerprint != layout.fingerprint


def test_terms_of_single_units_are_a_flat_layout_in_whatever_pieces_and_order_they_come() -> None:
    units = (Unit("a", 0, Cost(5, 3)), Unit("b", 0, Cost(2, 2)), Unit("c", 0, Cost(0, 0)))
    flat = Layout(units, Cost(1, 1), Cost(8, 6), "Net")
    pieces = (Term(Cost(2, 2), ((1, 2),)), Term(Cost(5, 1), ((0, 1),)), Term(Cost(0, 2), ((0, 1),)))
    pieced = Layout(units, Cost(1, 1), Cost(8, 6), "Net", pieces)
    assert pieced == flat
    assert pieced.flat
    assert pieced.fingerprint == flat.fingerprint
    assert "terms" not in pieced.to_json()


def test_a_decider_that_depends_on_what_is_open_is_kept_and_changes_no_fingerprint() -> None:
    units = (Unit("stage", 0, Cost(9, 9), "stage"), Unit("stage.b", 0, Cost(0, 0)))
    plain = Layout(units, Cost(1, 1), Cost(10, 10), "Net")
    terms = (*plain.terms, Term(Cost(3, 4), ((0, 1),), decides=True))
    gated = Layout(units, Cost(1, 1), Cost(10, 10), "Net", terms)
    assert not gated.flat
    assert gated.fingerprint == plain.fingerprint
    assert Layout.from_json(gated.to_json()) == gated
    assert gated.undecided() == plain
    assert gated.cost(np.array([True, False])) == Cost(13, 14)
    assert gated.cost(np.array([False, True])) == Cost(1, 1)


def nested() -> Layout:
    units = (Unit("stage", 0, Cost(9, 9), "stage"), *(Unit("filters", i, Cost(3, 3), "filters") for i in range(3)))
    terms = (Term(Cost(3, 3), ((0, 1), (1, 4))),)
    return Layout(units, Cost(1, 1), Cost(10, 10), "Net", terms, inside={"filters": (("stage", 0),)})


def test_inside_a_closed_unit_nothing_runs() -> None:
    layout = nested()
    assert layout.around == ((), (0,), (0,), (0,))
    opened = np.array([[True, True, False, True], [False, True, False, True]])
    assert layout.running(opened).tolist() == [[True, True, False, True], [False, False, False, False]]
    assert layout.costs(opened).tolist() == layout.costs(layout.running(opened)).tolist()
    assert layout.gains(opened[1]).tolist() == [[6, 6], [0, 0], [0, 0], [0, 0]]


def test_shares_are_counted_for_each_kind_apart() -> None:
    layout = nested()
    assert layout.kinds == {"stage": [0], "filters": [1, 2, 3]}
    rates = np.array([[1.0, 0.0, 0.5, 1.0], [0.5, 0.5, 0.5, 0.5]])
    assert layout.shares(rates) == {"stage": 0.75, "filters": 0.5}


OLD: dict[str, Any] = {
    "network": "Net",
    "fingerprint": "af07377b2319d312",
    "site": ["a", "b", "b"],
    "index": [0, 0, 1],
    "macs": [5, 2, 2],
    "params": [3, 1, 1],
    "fixed": {"macs": 4, "params": 4},
    "plain": {"macs": 13, "params": 9},
}


def test_a_layout_of_an_older_version_is_read_as_a_flat_one_of_blocks() -> None:
    read = Layout.from_json(OLD)
    assert read == Layout(
        (Unit("a", 0, Cost(5, 3)), Unit("b", 0, Cost(2, 1)), Unit("b", 1, Cost(2, 1))), Cost(4, 4), Cost(13, 9), "Net"
    )
    assert read.flat
    assert read.to_json() == OLD


SURVEYS = sorted(RECORDS.glob("*/*/survey.json"))


@pytest.mark.parametrize("file", SURVEYS, ids=lambda file: f"{file.parts[-3]}/{file.parts[-2]}")
def test_surveys_on_record_are_of_the_networks_they_were_made_with(file: pathlib.Path) -> None:
    recipe = json.loads((file.parent / "recipe.json").read_text())
    shape = json.loads((file.parent / "run.json").read_text())["data"]["shape"]
    found = Survey.load(file)
    model = create_model(recipe["model"], len(found.classes), channels=shape[2])
    net = tp.route(model, Recipe.from_json(recipe).method, example=torch.zeros(1, shape[2], *shape[:2]))
    assert Survey.load(file, net.layout).layout.fingerprint == net.layout.fingerprint
    assert [unit.cost for unit in found.layout.units] == [unit.cost for unit in net.layout.units]


def test_there_are_surveys_on_record() -> None:
    assert len(SURVEYS) >= 4


WRONG: dict[str, tuple[tuple[int, int], ...]] = {
    "overlapping": ((0, 2), (1, 3)),
    "the same twice": ((0, 1), (0, 1)),
    "empty": ((1, 1),),
    "backwards": ((2, 1),),
    "behind the last": ((2, 4),),
    "before the first": ((-1, 1),),
}


@pytest.mark.parametrize("spans", WRONG.values(), ids=WRONG)
def test_a_term_whose_spans_are_no_product_is_refused(spans: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(PathError, match="overlap, are empty, or not of these 3 units"):
        Layout(tuple(Unit(s, 0, Cost(1, 1)) for s in "abc"), Cost(0, 0), Cost(3, 3), "", (Term(Cost(1, 1), spans),))


def test_units_of_one_site_stand_side_by_side() -> None:
    with pytest.raises(PathError, match="side by side"):
        Layout(tuple(Unit(s, i, Cost(1, 1)) for s, i in (("a", 0), ("b", 0), ("a", 1))), Cost(0, 0), Cost(3, 3))


def damaged(data: Any) -> Iterator[Any]:
    """Copies of JSON data, in each of which one value is another."""
    places: list[tuple[Any, ...]] = []

    def walk(value: Any, at: tuple[Any, ...]) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((*at, key))
            walk(value[key], (*at, key))

    walk(data, ())
    others: tuple[Any, ...] = (None, "x", [], {}, [[]], 1.5, -7, [None], {"macs": "x"})
    for *outer, last in places:
        for other in others:
            made = copy.deepcopy(data)
            holder = made
            for key in outer:
                holder = holder[key]
            holder[last] = other
            yield made


@pytest.mark.parametrize("make", [lambda: Layout.from_json(OLD), nested], ids=["flat", "nested"])
def test_a_damaged_layout_is_refused_or_still_a_layout(make: Callable[[], Layout]) -> None:
    refused = 0
    for data in damaged(make().to_json()):
        try:
            read = Layout.from_json(data)
        except PathError:
            refused += 1
        else:
            assert read.costs(np.ones((1, len(read.units)), bool)).shape == (1, 2)
    assert refused > 100


def test_thousands_of_units_cost_256_images_in_milliseconds() -> None:
    layout = large()
    assert (len(layout.units), len(layout.terms)) == (3848, 64)
    opened = np.random.default_rng(0).random((256, 3848)) < 0.5
    taken = []
    for _ in range(7):
        start = time.perf_counter()
        costs = layout.costs(opened)
        taken.append(time.perf_counter() - start)
    assert costs[3].tolist() == [by_hand(layout, opened[3]).macs, by_hand(layout, opened[3]).params]
    assert min(taken) < 0.01  # it takes 1 ms
