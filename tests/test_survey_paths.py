"""Claims about the path a survey chooses for a class and a budget."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from layouts import by_hand, large, layouts
from survey_toy import LAYOUT, Toy, loader
from torchpaths.budget import Budget
from torchpaths.errors import BudgetError, PathError
from torchpaths.layout import Cost, Layout, Term, Unit
from torchpaths.path import Path
from torchpaths.surveys import Survey, survey
from torchpaths.surveys.choose import choose


@dataclass
class Net:
    """What `Path.cost` needs of a network."""

    layout: Layout


@pytest.fixture
def toy() -> Survey:
    return survey(Toy(), loader(), classes=["cat", "dog", "truck"])


def bits(path: Path) -> str:
    return "".join("1" if b else "0" for site in LAYOUT.sites for b in path[site])


def test_without_a_budget_a_unit_is_open_when_at_least_half_of_the_class_opens_it(toy: Survey) -> None:
    assert bits(toy.path("cat")) == "1110"  # 1, 0.75, 0.5, 0.25
    assert bits(toy.path("dog")) == "1111"  # 1, 4/6, 5/6, 5/6
    assert bits(toy.path()) == "1111"  # 1, 0.7, 0.7, 0.6


def test_a_class_is_named_or_numbered(toy: Survey) -> None:
    assert toy.path("dog") == toy.path(1)
    assert toy.path(0).network == LAYOUT.fingerprint
    toy.path(0).check(LAYOUT)


@pytest.mark.parametrize(
    ("share", "opened"), [(0.25, "1000"), (0.5, "1100"), (0.74, "1100"), (0.75, "1110"), (1, "1111")]
)
def test_a_budget_of_units_opens_the_most_open_ones_first(toy: Survey, share: float, opened: str) -> None:
    assert bits(toy.path("cat", Budget(open=share))) == opened


@pytest.mark.parametrize(
    ("macs", "opened"),
    [
        (100, "0000"),
        (110, "1000"),
        (129, "1001"),  # 20 more do not fit, the cheap unit does
        (130, "1100"),
        (137, "1101"),  # the third unit's 30 do not fit, the fourth's 7 do
        (160, "1110"),
        (167, "1111"),
        (1.0, "1110"),  # of the plain network's 160
        (0.7, "1000"),  # 112
    ],
)
def test_a_budget_of_macs_is_filled_with_the_most_open_units_that_fit(toy: Survey, macs: float, opened: str) -> None:
    path = toy.path("cat", Budget(macs=macs))
    assert bits(path) == opened
    spent = 100 + np.array([10, 20, 30, 7]) @ np.array([int(b) for b in opened])
    assert spent <= (macs * 160 if macs <= 1 else macs)


def test_of_equally_open_units_the_cheaper_then_the_earlier_goes_first() -> None:
    layout = Layout(tuple(Unit(f"b.{i}", 0, Cost(m, 0)) for i, m in enumerate((50, 20, 20))), Cost(1, 0), Cost(91, 0))
    rates = np.array([0.5, 0.5, 0.5])
    assert [choose(layout, rates, Budget(macs=m))["b.1"] for m in (20, 21)] == [(False,), (True,)]
    both = choose(layout, rates, Budget(macs=60))
    assert [both[f"b.{i}"] for i in range(3)] == [(False,), (True,), (True,)]


def test_a_unit_that_no_image_opens_stays_shut_however_large_the_budget() -> None:
    rates = np.array([1.0, 0.0, 0.01, 0.0])
    assert bits(choose(LAYOUT, rates, Budget(open=1))) == "1010"
    assert bits(choose(LAYOUT, rates, Budget(macs=1e9))) == "1010"


def test_a_budget_below_what_always_runs_names_the_cheapest(toy: Survey) -> None:
    with pytest.raises(BudgetError, match=r"80 MACs.*takes 100: the cheapest path.*Budget\(macs=100\) or macs=0.6250"):
        toy.path("cat", Budget(macs=0.5))
    assert bits(toy.path("cat", Budget(macs=0.625))) == "0000", "the remedy named works"


def test_a_budget_in_milliseconds_names_the_remedy(toy: Survey) -> None:
    with pytest.raises(BudgetError, match=r"ms=20.*profile measured on the device.*Budget\(macs=...\)"):
        toy.path("cat", Budget(ms=20))


def test_an_unknown_class_is_an_error_with_near_names(toy: Survey) -> None:
    with pytest.raises(PathError, match=r"no class 'trick'.*Did you mean 'truck'"):
        toy.path("trick")
    for number in (3, -1):
        with pytest.raises(PathError, match=f"no class {number}.*0 to 2"):
            toy.path(number)


def test_a_class_without_images_has_no_path(toy: Survey) -> None:
    with pytest.raises(PathError, match="'truck' has no images"):
        toy.path("truck")


def by_gains(layout: Layout, rates: NDArray[np.float64], room: int) -> NDArray[np.bool_]:
    """The greedy choice as it is told in words: each unit asks anew what it would cost."""
    opened = np.zeros(len(rates), bool)
    least = np.array([min([rate, *(rates[i] for i in layout.around[u])]) for u, rate in enumerate(rates)])
    key = [(-least[u], len(layout.around[u]), unit.cost.macs, u) for u, unit in enumerate(layout.units)]
    for *_, unit in sorted(key):
        opened[unit] = rates[unit] > 0 and opened[list(layout.around[unit])].all()
        opened[unit] = opened[unit] and least[unit] > 0 and by_hand(layout, opened).macs <= room
    return opened


@given(st.data())
def test_where_units_multiply_each_is_chosen_by_what_it_adds_to_those_before_it(data: Any) -> None:
    layout = data.draw(layouts())
    rates = data.draw(arrays(float, len(layout.units), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])))
    least = by_hand(layout, np.zeros(len(rates), bool)).macs
    room = data.draw(st.integers(max(2, least), max(2, least) + 300))
    path = choose(layout, rates, Budget(macs=room))
    [opened] = path.opened(layout)
    assert path.cost(Net(layout)).macs <= room
    assert (layout.running(opened) == opened).all(), "nothing is open inside something closed"
    assert opened.tolist() == by_gains(layout, rates, room).tolist()


@given(st.data())
def test_a_budget_of_units_counts_each_kind_apart(data: Any) -> None:
    layout = data.draw(layouts())
    rates = data.draw(arrays(float, len(layout.units), elements=st.sampled_from([0.25, 0.5, 1.0])))
    share = data.draw(st.sampled_from([0.3, 0.5, 2 / 3, 1.0]))
    [opened] = choose(layout, rates, Budget(open=share)).opened(layout)
    assert max(layout.shares(opened).values()) <= share + 1e-9
    if not layout.inside:
        assert {kind: round(part * len(layout.kinds[kind])) for kind, part in layout.shares(opened).items()} == {
            kind: int(share * len(numbers) + 1e-9) for kind, numbers in layout.kinds.items()
        }


def test_a_unit_inside_a_closed_one_is_closed_with_it() -> None:
    units = (Unit("stage", 0, Cost(90, 0), "stage"), Unit("stage.b", 0, Cost(50, 0)), Unit("c", 0, Cost(20, 0)))
    terms = (Term(Cost(40, 0), ((0, 1),)), Term(Cost(50, 0), ((0, 1), (1, 2))), Term(Cost(20, 0), ((2, 3),)))
    layout = Layout(units, Cost(0, 0), Cost(110, 0), "Net", terms, inside={"stage.b": (("stage", 0),)})
    rates = np.array([0.75, 0.75, 0.5])
    found = {macs: [int(b) for [b] in choose(layout, rates, Budget(macs=macs)).values()] for macs in (30, 89, 90, 110)}
    assert found == {30: [0, 0, 1], 89: [1, 0, 1], 90: [1, 1, 0], 110: [1, 1, 1]}
    assert [int(b) for [b] in choose(layout, np.array([0.4, 0.9, 0.9]), None).values()] == [0, 0, 1]


def test_a_choice_among_thousands_of_units_takes_no_time() -> None:
    layout = large()
    rates = np.random.default_rng(0).random(len(layout.units))
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        path = choose(layout, rates, Budget(macs=3e8))
        taken.append(time.perf_counter() - start)
    assert 2.9e8 < path.cost(Net(layout)).macs <= 3e8
    assert min(taken) < 0.2  # half of that on an idle core; others may be at work
