"""Units, costs, budgets and layouts: the network as paths see it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchpaths.budget import Budget
from torchpaths.errors import BudgetError, PathError
from torchpaths.layout import Cost, Layout, Unit


def layout(network: str = "Net", first: str = "stage1.0", macs: int = 10) -> Layout:
    units = (
        Unit(first, 0, Cost(macs, 1)),
        Unit("stage1.1", 0, Cost(100, 2), siblings=2),
        Unit("stage1.1", 1, Cost(200, 3), siblings=2),
    )
    return Layout(units, fixed=Cost(7, 8), plain=Cost(317, 14), network=network)


def test_costs_add_and_subtract_macs_and_parameters_apart() -> None:
    assert Cost(5, 7) + Cost(10, 100) - Cost(1, 2) == Cost(14, 105)


def test_a_unit_is_numbered_only_where_its_site_has_several() -> None:
    assert [u.name for u in layout().units] == ["stage1.0", "stage1.1/0", "stage1.1/1"]


@pytest.mark.parametrize("given", [{"open": 1.0}, {"open": 1}, {"macs": 0.5}, {"macs": 2e9}, {"ms": 3.5}])
def test_a_budget_takes_one_number_in_range(given: dict[str, Any]) -> None:
    assert [getattr(Budget(**given), name) for name in given] == list(given.values())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "none"),
        ({"open": 0.5, "macs": 0.5}, "exactly one"),
        ({"open": 0.5, "ms": 1.0}, "exactly one"),
        ({"open": True}, "open=True"),
        ({"open": 0}, "above 0"),
        ({"open": -0.1}, "above 0"),
        ({"open": 1.01}, r"\(0, 1\]"),
        ({"open": 60}, "open=0.6"),
        ({"open": math.nan}, "finite"),
        ({"macs": math.inf}, "finite"),
        ({"ms": 0.0}, "above 0"),
        ({"open": "0.5"}, "'0.5'"),
    ],
)
def test_a_budget_that_is_none_or_several_or_out_of_range_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BudgetError, match=said):
        Budget(**given)


def test_a_layout_groups_consecutive_units_by_site_in_order() -> None:
    found = layout()
    assert list(found.sites) == ["stage1.0", "stage1.1"]
    assert found.sites["stage1.1"] == found.units[1:]


def test_the_fingerprint_tells_networks_apart_by_name_site_and_cost_and_nothing_else() -> None:
    same, others = layout(), [layout(network="Other"), layout(first="stage1.a"), layout(macs=11)]
    assert layout().fingerprint == same.fingerprint
    assert len(same.fingerprint) == 16
    assert len({same.fingerprint, *(o.fingerprint for o in others)}) == 4
    deciders = Layout(same.units, Cost(1000, 1000), same.plain, same.network)
    assert deciders.fingerprint == same.fingerprint, "a gated network and its plain twin have the same units"


costs = st.builds(Cost, st.integers(0, 2**62), st.integers(0, 2**62))
widths = st.dictionaries(st.text(min_size=1, max_size=8), st.integers(1, 4), max_size=5)


@given(widths, costs, costs, st.text(max_size=8))
def test_a_layout_survives_json(widths: dict[str, int], fixed: Cost, plain: Cost, network: str) -> None:
    units = tuple(Unit(s, i, Cost(i, 3 * i), siblings=n) for s, n in widths.items() for i in range(n))
    written = Layout(units, fixed, plain, network)
    read = Layout.from_json(json.loads(json.dumps(written.to_json())))
    assert read == written
    assert read.sites == written.sites
    assert read.fingerprint == written.fingerprint


EDITS: dict[str, Any] = {
    "network": "Other",
    "fingerprint": "0" * 16,
    "site": ["stage1.x", "stage1.1", "stage1.1"],
    "index": [1, 0, 1],
    "macs": [11, 100, 200],
    "params": [1, 2, 4],
    "plain": {"macs": 318, "params": 14},
}


@pytest.mark.parametrize("key", EDITS)
def test_an_edited_layout_is_refused(key: str) -> None:
    with pytest.raises(PathError, match="edited or cut short"):
        Layout.from_json({**layout().to_json(), key: EDITS[key]})


@pytest.mark.parametrize("key", ["site", "index", "macs", "params"])
def test_a_layout_with_a_column_cut_short_is_refused(key: str) -> None:
    data = layout().to_json()
    with pytest.raises(PathError):
        Layout.from_json({**data, key: data[key][:-1]})


@pytest.mark.parametrize("key", list(layout().to_json()))
def test_a_layout_with_a_part_missing_is_refused(key: str) -> None:
    data = layout().to_json()
    del data[key]
    with pytest.raises(PathError, match=key):
        Layout.from_json(data)
