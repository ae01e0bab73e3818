"""Claims about the path a survey chooses for a class and a budget."""

from __future__ import annotations

import numpy as np
import pytest

from survey_toy import LAYOUT, Toy, loader
from torchpaths.errors import BudgetError, PathError
from torchpaths.layout import Budget, Cost, Layout, Unit
from torchpaths.path import Path
from torchpaths.surveys import Survey, survey
from torchpaths.surveys.choose import choose


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
