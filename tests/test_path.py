"""Paths: what they accept, their algebra, their files, and what they cost."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from torchpaths.errors import PathError
from torchpaths.layout import Cost, Layout, Unit
from torchpaths.path import Path
from torchpaths.trace import Decision

WIDTHS = {"layer1.0": 1, "layer1.1": 2, "head": 3}
MACS = {"layer1.0": [10], "layer1.1": [100, 200], "head": [1000, 2000, 4000]}


@dataclass(frozen=True)
class Net:
    """Anything with a layout will do."""

    layout: Layout


def net(network: str = "Net") -> Net:
    units = tuple(Unit(s, i, Cost(m, 2 * m), siblings=WIDTHS[s]) for s in WIDTHS for i, m in enumerate(MACS[s]))
    fixed = Cost(7, 5)
    return Net(Layout(units, fixed, sum((u.cost for u in units), fixed), network))


def rows(*values: tuple[bool, ...]) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


# What a path accepts.


@pytest.mark.parametrize(
    "value", [True, [True], (True,), torch.tensor([True])], ids=["bool", "list", "tuple", "1-d tensor"]
)
def test_every_way_to_open_one_unit_is_the_same_choice(value: Any) -> None:
    assert Path({"a": value}) == Path({"a": True})
    assert Path({"a": value})["a"] == (True,)


@pytest.mark.parametrize("value", [[[True, False], [False, False]], rows((True, False), (False, False))])
def test_rows_and_two_dimensional_tensors_are_choices_per_sample(value: Any) -> None:
    path = Path({"a": value})
    assert path.batch == 2
    assert torch.equal(path["a"], rows((True, False), (False, False)))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.0, "no choice"),
        (1, "no choice"),
        (None, "no choice"),
        (math.nan, "no choice"),
        ("open", "no choice"),
        (b"1", "no choice"),
        ([], "no choice"),
        ({}, "no choice"),
        ([1, 0], "other than True and False"),
        ([0.5], "other than True and False"),
        (["x"], "other than True and False"),
        ([[True], [True, False]], "unequal length"),
        ([[True], []], "unequal length"),
        ([True, [True]], "other than True and False"),
        ([[[True]]], "other than True and False"),
        (torch.tensor([0.7]), "float32"),
        (torch.tensor([math.nan]), "float32"),
        (torch.tensor([[1, 0]]), "int64"),
        (torch.tensor(True), "shape"),
        (torch.ones(2, 3, 4, dtype=torch.bool), r"\(2, 3, 4\)"),
        (torch.ones(0, dtype=torch.bool), "'stage.3'"),
    ],
    ids=repr,
)
def test_what_is_no_bool_is_refused_with_the_sites_name(value: Any, said: str) -> None:
    with pytest.raises(PathError, match=said) as error:
        Path({"stage.3": value})
    assert "'stage.3'" in str(error.value)


def test_sites_of_one_path_belong_to_one_batch() -> None:
    with pytest.raises(PathError, match=r"\[2, 3\]"):
        Path({"a": torch.ones(2, 1, dtype=torch.bool), "b": torch.ones(3, 1, dtype=torch.bool)})


# Reading.


def test_a_path_is_a_mapping_in_the_order_it_was_given() -> None:
    path = Path({"b": True, "a": [False, True]})
    assert list(path) == ["b", "a"]
    assert len(path) == 2
    assert "a" in path
    assert "c" not in path
    assert dict(path) == {"b": (True,), "a": (False, True)}
    assert path.get("c") is None


def test_a_site_it_does_not_name_is_a_key_error_with_near_names() -> None:
    with pytest.raises(KeyError, match=r"layer1\.0"):
        Path({"layer1.0": True})["layer1.O"]


def test_a_sample_of_a_path_is_one_for_a_batch_and_a_slice_one_per_sample() -> None:
    path = Path({"a": rows((True, False), (False, True), (True, True)), "b": True}, network="f")
    assert path[1] == Path({"a": [False, True], "b": True})
    assert path[-1] == Path({"a": [True, True], "b": True})
    assert path[1].batch is None
    assert path[1].network == path[:2].network == "f"
    assert path[:2] == Path({"a": rows((True, False), (False, True)), "b": True})
    assert path[::2].batch == 2
    with pytest.raises(IndexError):
        path[3]


def test_a_path_of_the_whole_batch_has_no_samples() -> None:
    with pytest.raises(PathError, match="no samples"):
        Path({"a": True})[0]


def test_of_a_trace_is_what_happened() -> None:
    opened = rows((True,), (False,))
    path = Path.of({"a": Decision(opened, opened.float(), whole=None)})
    assert torch.equal(path["a"], opened)
    assert path.batch == 2


def test_full_opens_every_unit_of_a_network_and_says_whose() -> None:
    full = Path.full(net())
    assert dict(full) == {"layer1.0": (True,), "layer1.1": (True, True), "head": (True, True, True)}
    assert full.network == net().layout.fingerprint


# Algebra.


def choices(width: int, batch: int | None) -> st.SearchStrategy[Any]:
    row = st.lists(st.booleans(), min_size=width, max_size=width)
    whole: st.SearchStrategy[Any] = row.map(tuple)
    if batch is None:
        return whole
    sampled = st.lists(row, min_size=batch, max_size=batch).map(lambda r: torch.tensor(r, dtype=torch.bool))
    return st.one_of(whole, sampled)


def paths(batch: int | None) -> st.SearchStrategy[Path]:
    return st.fixed_dictionaries({}, optional={s: choices(n, batch) for s, n in WIDTHS.items()}).map(Path)


def some(count: int) -> st.SearchStrategy[tuple[Path, ...]]:
    """Paths for the same batch, each with sites for the batch, sites per sample, and sites left out."""
    return st.sampled_from([None, 1, 3]).flatmap(lambda b: st.tuples(*[paths(b)] * count))


@given(some(2))
def test_de_morgan(pair: tuple[Path, ...]) -> None:
    p, q = pair
    assert ~(p & q) == ~p | ~q
    assert ~(p | q) == ~p & ~q


@given(some(3))
def test_and_and_or_are_idempotent_commutative_associative_and_absorbing(three: tuple[Path, ...]) -> None:
    p, q, r = three
    assert p & p == p == p | p
    assert ~~p == p
    assert p & q == q & p
    assert p | q == q | p
    assert (p & q) & r == p & (q & r)
    assert (p | q) | r == p | (q | r)


@given(some(2))
def test_a_site_that_only_one_names_keeps_what_that_one_says(pair: tuple[Path, ...]) -> None:
    p, q = pair
    for both in (p & q, p | q):
        assert set(both) == set(p) | set(q)
        for site in set(p) ^ set(q):
            source = p if site in p else q
            assert Path({site: both[site]}) == Path({site: source[site]})


@given(some(2))
def test_each_sample_of_a_combination_is_the_combination_of_that_sample(pair: tuple[Path, ...]) -> None:
    p, q = pair
    both = p & q
    for i in range(both.batch or 0):
        mine = p[i] if p.batch is not None else p
        other = q[i] if q.batch is not None else q
        assert both[i] == mine & other


def test_paths_of_two_networks_do_not_combine() -> None:
    with pytest.raises(PathError, match="two networks"):
        Path.full(net()) & Path.full(net("Other"))
    assert (Path({"head": [True, True, False]}) & Path.full(net())).network == net().layout.fingerprint
    with pytest.raises(PathError, match=r"'a'.*2 units against 1"):
        Path({"a": [True, True]}) | Path({"a": True})
    with pytest.raises(PathError, match="batches of 2 and 3"):
        Path({"a": rows((True,), (True,))}) & Path({"a": rows((True,), (True,), (True,))})
    with pytest.raises(PathError, match=r"\[2, 3\]"):
        Path({"a": rows((True,), (True,))}) & Path({"b": rows((True,), (True,), (True,))})


# Equality and copies.


def test_equal_paths_hash_equally_and_unequal_ones_differ() -> None:
    a, b = Path({"x": True, "y": [False, True]}), Path({"y": (False, True), "x": [True]})
    assert a == b
    assert len({a, b, Path({"x": True})}) == 2
    assert a != Path({"x": True, "y": [True, True]})
    assert a != {"x": (True,), "y": (False, True)}
    assert Path({"x": rows((True,))}) != Path({"x": True}), "per sample and for the batch are different choices"
    assert Path({"x": rows((True,))}) != Path({"x": rows((True,), (True,))})
    assert Path({"x": rows((True,))}) != Path({"x": rows((False,))})


def test_a_per_sample_path_is_not_hashable() -> None:
    with pytest.raises(TypeError, match=r"path\[i\]"):
        hash(Path({"x": rows((True,))}))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p)), lambda p: p.to("cpu")])
def test_copies_are_equal_and_belong_to_the_same_network(copied: Callable[[Path], Path]) -> None:
    path = Path({"x": rows((True,), (False,)), "y": [True, False]}, network="f")
    assert copied(path) == path
    assert copied(path).network == "f"


def test_the_repr_shows_choices_as_bits_and_samples_as_a_shape() -> None:
    assert repr(Path({"x": rows((True,), (False,)), "y": [True, False]})) == "Path(x: bool[2, 1], y: 10)"


# Files.


@given(some(1), st.one_of(st.none(), st.text(min_size=1, max_size=16)))
def test_a_path_survives_json(one: tuple[Path, ...], network: str | None) -> None:
    path = Path(one[0], network)
    read = Path.from_json(path.to_json())
    assert read == path
    assert read.network == network
    assert read.batch == path.batch


WRITTEN = Path({"a": [True, False], "b": rows((True,), (False,))}, "f00d").to_json()


@pytest.mark.parametrize("length", range(0, len(WRITTEN), 7))
def test_a_file_cut_short_is_refused(length: int) -> None:
    with pytest.raises(PathError, match="cut short"):
        Path.from_json(WRITTEN[:length])


@pytest.mark.parametrize(
    "edit",
    [
        {"schema": "torchpaths.path/0"},
        {"schema": None},
        {"sites": {"a": [2]}},
        {"sites": {"a": [0.5]}},
        {"sites": {"a": ["1"]}},
        {"sites": {"a": None}},
        {"sites": {"a": {}}},
        {"sites": {"a": []}},
        {"sites": {"a": [[1], [1, 0]]}},
        {"sites": {"a": [math.nan]}},
        {"sites": {"a": [[1], [0]], "b": [[1]]}},
        {"sites": [1, 0]},
        {"sites": None},
    ],
    ids=repr,
)
def test_an_edited_file_is_refused(edit: dict[str, Any]) -> None:
    with pytest.raises(PathError):
        Path.from_json(json.dumps({**json.loads(WRITTEN), **edit}))


@pytest.mark.parametrize("missing", ["schema", "sites"])
def test_a_file_with_a_part_missing_is_refused(missing: str) -> None:
    data = json.loads(WRITTEN)
    del data[missing]
    with pytest.raises(PathError):
        Path.from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["[]", "3", '"path"', "null"])
def test_json_that_is_no_object_is_no_path(text: str) -> None:
    with pytest.raises(PathError, match="schema"):
        Path.from_json(text)


# Fitting a network.


def test_an_unknown_site_is_named_with_near_ones() -> None:
    with pytest.raises(PathError, match=r"'layer1.O'.*Did you mean .*'layer1.0'"):
        Path({"layer1.O": True}).check(net().layout)


def test_a_wrong_number_of_units_says_both_numbers() -> None:
    for value in ([True, True], rows((True, True), (True, True))):
        with pytest.raises(PathError, match=r"2 units at site 'head', which has 3"):
            Path({"head": value}).check(net().layout)


def test_another_networks_path_is_refused_by_its_fingerprint() -> None:
    with pytest.raises(PathError, match=net("Other").layout.fingerprint):
        Path.full(net("Other")).check(net().layout)
    Path(dict(Path.full(net("Other")))).check(net().layout)  # made for no network in particular: fits by its sites


def test_a_path_for_another_batch_is_refused() -> None:
    path = Path({"layer1.0": rows((True,), (False,))})
    path.check(net().layout, 2)
    with pytest.raises(PathError, match="2 samples met a batch of 3"):
        path.check(net().layout, 3)
    path[0].check(net().layout, 3)


# Costs.


def test_the_cost_of_a_path_is_what_always_runs_and_what_it_opens() -> None:
    path = Path({"layer1.0": False, "layer1.1": [False, True], "head": [True, False, True]})
    assert path.cost(net()) == Cost(7 + 200 + 5000, 5 + 400 + 10000)
    assert Path.full(net()).cost(net()) == net().layout.plain
    assert (~Path.full(net())).cost(net()) == net().layout.fixed


def test_each_samples_macs_are_those_of_its_own_path() -> None:
    path = Path(
        {
            "layer1.0": rows((True,), (False,)),
            "layer1.1": [False, True],
            "head": rows((False, False, False), (True, True, False)),
        }
    )
    macs = path.macs(net())
    assert macs.dtype == torch.float64
    assert macs.tolist() == [7 + 10 + 200, 7 + 200 + 3000]
    assert macs.tolist() == [path[i].cost(net()).macs for i in range(2)]
    assert path[0].macs(net()).tolist() == [217]


def test_macs_beyond_single_precision_are_exact() -> None:
    units = (Unit("a", 0, Cost(2**24 + 1, 0)), Unit("b", 0, Cost(1, 0)))
    big = Net(Layout(units, Cost(2**40, 0), Cost(2**40 + 2**24 + 2, 0)))
    assert Path.full(big).macs(big).item() == 2**40 + 2**24 + 2


def test_a_cost_needs_one_choice_for_every_site() -> None:
    sampled = Path({**Path.full(net()), "layer1.0": rows((True,), (False,))})
    with pytest.raises(PathError, match=r"path\[i\]\.cost"):
        sampled.cost(net())
    partial = Path({"layer1.0": False})
    for price in (partial.cost, partial.macs):
        with pytest.raises(PathError, match=r"2 sites.*layer1\.1, head"):
            price(net())
    assert (partial & Path.full(net())).cost(net()).macs == net().layout.plain.macs - 10  # the remedy it names
    with pytest.raises(PathError, match=net().layout.fingerprint):
        Path.full(net("Other")).cost(net())
