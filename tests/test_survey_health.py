"""Claims about the health of gates, against formulas written by hand."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from survey_toy import Toy, loader
from torchpaths.errors import PathError
from torchpaths.surveys import Survey, gate_health, survey
from torchpaths.surveys.order import similarity_order


@pytest.fixture
def toy() -> Survey:
    return survey(Toy(), loader())


def with_counts(toy: Survey, opened: list[list[int]], images: list[int]) -> Survey:
    return dataclasses.replace(toy, opened=np.array(opened), images=np.array(images))


def test_only_decided_units_are_gates(toy: Survey) -> None:
    assert [gate.unit for gate in gate_health(toy).gates] == ["layer1.1", "layer2.0/0", "layer2.0/1"]
    assert [gate.unit for gate in gate_health(toy, gates={"layer1.0"}).gates] == ["layer1.0"]
    with pytest.raises(PathError, match=r"no site 'layer9.0'.*Did you mean"):
        gate_health(toy, gates={"layer9.0"})


def test_rate_entropy_and_spread_equal_their_formulas(toy: Survey) -> None:
    gate = gate_health(toy).gates[0]
    p = 7 / 10  # 3 of 4 cats, 4 of 6 dogs
    assert gate.rate == p
    assert gate.entropy == pytest.approx(-p * math.log2(p) - (1 - p) * math.log2(1 - p))
    assert gate.spread == pytest.approx((3 / 4 - 4 / 6) / 2)


def test_class_dependence_is_mutual_information_over_entropy(toy: Survey) -> None:
    joint = np.array([[3, 1], [4, 2]]) / 10  # class by (open, shut) of layer1.1
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    information = (joint * np.log2(joint / product)).sum()
    gate = gate_health(toy).gates[0]
    assert gate.dependence == pytest.approx(information / gate.entropy, rel=1e-10)


def test_dependence_is_1_for_a_gate_that_is_the_class_and_0_for_one_that_ignores_it(toy: Survey) -> None:
    found = gate_health(with_counts(toy, [[50, 50, 25, 50], [50, 0, 25, 50], [0, 0, 0, 0]], [50, 50, 0]))
    follows, ignores, constant = found.gates
    assert follows.dependence == pytest.approx(1)
    assert ignores.dependence == pytest.approx(0, abs=1e-12)
    assert (constant.entropy, constant.dependence) == (0, 0)


def test_mean_and_spread_over_gates_are_given(toy: Survey) -> None:
    health = gate_health(toy)
    rates = [gate.rate for gate in health.gates]
    assert health.mean["rate"] == pytest.approx(np.mean(rates))
    assert health.std["rate"] == pytest.approx(np.std(rates))
    assert set(health.mean) == {"rate", "entropy", "dependence", "spread"}


@pytest.mark.parametrize(
    ("count", "warning"),
    [(10_000, "always open"), (9_990, "always open"), (9_989, ""), (11, ""), (10, "never open"), (0, "never open")],
)
def test_collapse_is_warned_of_from_999_in_1000_images_on(toy: Survey, count: int, warning: str) -> None:
    health = gate_health(with_counts(toy, [[5, count, 5000, 5000], [0] * 4, [0] * 4], [10_000, 0, 0]))
    assert health.gates[0].warning.startswith(warning)
    assert bool(health.gates[0].warning) == bool(warning)
    assert len(health.warnings) == bool(warning)
    assert all(text.startswith("layer1.1: ") for text in health.warnings)


def test_the_text_has_a_row_for_each_gate_and_each_warning(toy: Survey) -> None:
    health = gate_health(with_counts(toy, [[4, 4, 2, 1], [6, 6, 3, 0], [0] * 4], [4, 6, 0]))
    rows = health.rows()
    assert len(rows) == 1 + 3 + 2 + 1
    assert rows[1].split()[:2] == ["layer1.1", "100.0%"]
    assert "! always open" in rows[1]
    assert rows[-1].startswith("warning: layer1.1 is open for every image and saves nothing")
    assert "nan" not in "".join(rows)


def test_a_network_without_gates_says_so(toy: Survey) -> None:
    health = gate_health(toy, gates=())
    assert health.gates == ()
    assert health.rows() == ["no gates: nothing in this network is decided by the input"]


def test_similar_classes_stand_side_by_side_and_classes_without_images_last() -> None:
    rng = np.random.default_rng(0)
    groups = np.array([0, 1, 0, 2, 1, 2, 0, 1])
    openness = np.eye(3)[groups].repeat(4, 1) + rng.normal(0, 0.05, (8, 12))
    openness = np.vstack([openness, np.full((1, 12), np.nan)])
    order = similarity_order(openness)
    assert order[-1] == 8
    changes = int((np.diff(groups[order[:-1]]) != 0).sum())
    assert changes == 2
    assert sorted(order) == list(range(9))


def test_an_order_exists_for_any_number_of_classes() -> None:
    assert similarity_order(np.zeros((1, 4))) == [0]
    assert similarity_order(np.array([[1.0, 1.0], [0.0, 0.0]])) == [1, 0]
    assert similarity_order(np.full((2, 4), np.nan)) == [0, 1]


def test_however_many_gates_have_collapsed_a_line_says_so_and_what_to_do(toy: Survey) -> None:
    always = gate_health(with_counts(toy, [[4, 4, 4, 4], [6, 6, 6, 6], [0, 0, 0, 0]], [4, 6, 0]))
    [line] = always.told
    assert line.startswith("all 3 gates (layer1.1, layer2.0/0, layer2.0/1) are open for every image and save nothing")
    assert "lower the target" in line
    mixed = gate_health(with_counts(toy, [[4, 0, 4, 2], [6, 0, 6, 3], [0, 0, 0, 0]], [4, 6, 0]))
    assert [line.partition(";")[0] for line in mixed.told] == [
        "layer1.1 is never open, as if cut out",
        "layer2.0/0 is open for every image and saves nothing",
    ]
    assert len(always.warnings) == 3, "one for each gate, for those who want them apart"
