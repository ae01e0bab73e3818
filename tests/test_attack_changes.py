"""What an attack does to paths, and which attacker is the strongest, on made-up answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from torchpaths.attacks import crossing, rates
from torchpaths.attacks.changes import groups
from torchpaths.attacks.detection import Row, strongest, told_apart
from torchpaths.errors import DataError
from torchpaths.trust import Answers, Known
from torchpaths.trust.roc import separation

CLASSES = ("cat", "dog", "owl")
CAT, DOG = [1, 0, 1, 0], [0, 1, 0, 1]
"""Marks of two layers of two gates."""


def answered(predicted: Any, labels: Any, marks: Any) -> Answers:
    """Answers of a network of two sites that is sure of itself."""
    marked = np.asarray(marks, np.float32)
    logits = np.eye(3, dtype=np.float32)[np.asarray(predicted)]
    return Answers(
        logits, np.asarray(labels), marked, ("early", "early", "late", "late"),
        np.ones(4, bool), np.ones(len(marked)), marked > 0.5,
    )  # fmt: skip


@pytest.fixture
def known() -> Known:
    predicted = [0] * 20 + [1] * 20
    return Known.of(answered(predicted, predicted, [CAT] * 20 + [DOG] * 20))


CLEAN = answered([0, 0, 1, 1], [0, 0, 1, 1], [CAT, CAT, DOG, DOG])
HALF = [CAT[0], CAT[1], DOG[2], DOG[3]]
ATTACKED = answered([1, 1, 1, 0], [0, 0, 1, 1], [HALF, HALF, DOG, CAT])
"""The cats join the dogs' path in the second layer, one dog is taken for a cat in both, one stays."""


def test_rates_are_shares_of_units_before_and_after() -> None:
    found = rates(CLEAN, ATTACKED)
    assert (found.sites, found.images) == (("early", "late"), 4)
    assert found.before.tolist() == found.after.tolist() == [0.5, 0.5]
    more = answered([1, 1, 1, 0], [0, 0, 1, 1], [[1, 1, 0, 0]] * 4)
    assert rates(CLEAN, more, label=1).after.tolist() == [1, 0]
    assert rates(CLEAN, more, label=1).images == 2
    with pytest.raises(DataError, match="class 2 has no images here"):
        rates(CLEAN, ATTACKED, label=2)


def test_a_crossing_says_where_images_join_the_other_path(known: Known) -> None:
    found = crossing(known, CLEAN, ATTACKED)
    assert found.images == 3
    early, late = found.alone["attacked"]
    assert early == pytest.approx(1 / 3, abs=0.02), (
        "the dog that is taken for a cat is on the cats' path from the start"
    )
    assert late > 0.98
    assert (found.alone["clean"] < 0.02).all()
    assert (found.alone["other"] > 0.98).all()
    assert found.so_far["attacked"][1] == pytest.approx((0.5 + 0.5 + 1) / 3, abs=0.02)


def test_without_an_image_that_moves_there_is_no_crossing(known: Known) -> None:
    with pytest.raises(DataError, match="no crossing"):
        crossing(known, CLEAN, CLEAN)
    to_owl = answered([2, 2, 1, 1], [0, 0, 1, 1], [CAT, CAT, DOG, DOG])
    with pytest.raises(DataError, match="no crossing"):
        crossing(known, CLEAN, to_owl)
    assert groups(CLEAN, CLEAN, CLASSES) == {}


def test_groups_are_those_that_most_images_go_between() -> None:
    found = groups(CLEAN, ATTACKED, CLASSES)
    assert {name: called for name, (_, called) in found.items()} == {
        "pair": ["cat", "cat → dog", "dog"],
        "from": ["cat", "cat → dog"],
        "to": ["dog", "cat → dog"],
    }
    paths, _ = found["pair"]
    assert paths.shares["late"].tolist() == [CAT[2:], DOG[2:], DOG[2:]]
    assert paths.came["early"].tolist() == [2, 2, 2]


def test_only_images_that_the_network_errs_about_are_to_be_told() -> None:
    clean = {"score": np.arange(100.0)}
    row = told_apart("attack", clean, {"score": np.array([200.0, 50.0, 0.0, 300.0])}, ATTACKED)
    assert (row.images, row.fooled) == (4, 3)
    assert row.scores["score"].strange == 3
    assert row.unnoticed["score"][0] == 1 / 4, "of all that were tried one fools both"
    none = told_apart("attack", clean, {"score": np.zeros(4)}, CLEAN)
    assert none.scores == {}
    foreign = told_apart("others", clean, {"score": np.zeros(4)}, CLEAN, foreign=True)
    assert foreign.fooled == 4


def test_the_strongest_attack_is_what_most_images_pass_by() -> None:
    def row(share: float, strange: float) -> Row:
        made = separation(np.arange(10.0), np.full(4, strange))
        return Row("attack", 4, 4, {"score": made}, {"score": (share, (0.0, 1.0))})

    assert strongest({"weak": row(0.2, 0.0), "strong": row(0.5, 5.0)}) == {"score": "strong"}
    assert strongest({"far": row(0.5, 8.0), "near": row(0.5, 1.0)}) == {"score": "near"}
    assert strongest({}) == {}
