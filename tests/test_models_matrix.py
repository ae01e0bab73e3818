"""The support matrix: its check passes sound networks, fails unsound ones, docs/models.md says what was measured."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from toys import TOYS

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def script(name: str) -> Any:
    """A module of benchmarks/, which is no package."""
    if str(BENCHMARKS) not in sys.path:
        sys.path.insert(0, str(BENCHMARKS))
    return importlib.import_module(name)


def images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


class Residue(nn.Module):
    """A residual block and a head, whose weights a test can spoil."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + self.conv(x)
            return y

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.block = self.Block()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.gain * self.block(x).mean((2, 3)) + 1
        return y


@pytest.mark.parametrize("name", ["torchvision/resnet", "torchvision/vit", "timm/convnext"])
def test_a_tiny_network_passes_every_check_of_the_matrix(name: str) -> None:
    make, side = TOYS[name]
    row = script("models_check").check(make, images(side))
    assert (row.outcome, row.reason) == ("passed", "")
    assert row.open_equals
    assert row.cost_equals
    assert row.copies
    assert row.sums == sum(row.places.values()) > 0
    assert row.gates == (row.sums, row.sums)
    assert 0 < row.closable < 1
    assert row.left_out <= 1e-4 < row.moved


def test_a_network_that_a_path_does_not_move_is_no_pass() -> None:
    check = script("models_check").check
    assert check(lambda: Residue(1.0), images(8)).outcome == "passed"
    row = check(lambda: Residue(1e-6), images(8))
    assert row.outcome == "failed"
    assert "nothing was checked" in row.reason


def test_a_network_without_sums_is_named_as_one_with_nothing_to_route() -> None:
    row = script("models_check").check(lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), images(8))
    assert (row.outcome, row.reason) == ("not routed", "nothing to route: no residual sum")


def test_a_network_that_breaks_or_takes_too_long_stops_no_other() -> None:
    models = script("models")
    broken = models.measure("timm/no_such_network", "laws", False, 120)
    assert broken["outcome"] == "failed"
    assert "no_such_network" in broken["reason"]
    assert models.measure("timm/test_resnet", "laws", False, 0.0) == {
        "outcome": "failed",
        "reason": "took longer than 0 s",
    }


def test_depths_are_counted_where_a_network_has_them_and_refused_with_the_reason_where_not() -> None:
    depths = script("models_depths").depths
    make, side = TOYS["torchvision/resnet"]
    row = depths(make, images(side))
    assert (row.outcome, row.reason) == ("passed", "")
    assert row.count == 2 ** len(tp.route(make(), tp.AdaptiveDepth(), example=images(side)).sites)
    assert 0 < row.base < 1
    row = depths(lambda: Residue(1.0), images(8))
    assert row.outcome == "not routed"
    assert "stage" in row.reason


def test_the_page_says_what_was_measured() -> None:
    table = json.loads((BENCHMARKS / "models.json").read_text())
    assert script("models_page").page(table) == (BENCHMARKS.parent / "docs" / "models.md").read_text()
    assert [row["name"] for row in table["models"]] == script("models").NAMES


def test_at_least_55_architectures_pass_and_the_others_say_why() -> None:
    best = script("models_page").best
    rows = [best(row) for row in json.loads((BENCHMARKS / "models.json").read_text())["models"]]
    assert sum(row["outcome"] == "passed" for row in rows) >= 55
    assert all(row["reason"] for row in rows if row["outcome"] != "passed")


def test_every_block_given_by_hand_is_one_that_was_measured() -> None:
    rows = {row["name"]: row for row in json.loads((BENCHMARKS / "models.json").read_text())["models"]}
    for name in script("models_by_hand").BY_HAND:
        assert rows[name]["by_hand"]["outcome"] == "passed", name
        assert rows[name]["by_hand"]["sums"] > rows[name].get("sums", 0), name


def test_at_least_8_of_9_families_of_transformers_route_skip_and_are_cut_saved_and_exported_with_equal_outputs() -> (
    None
):
    table = json.loads((BENCHMARKS / "models.json").read_text())
    rows = [row for row in table["models"] if row["name"].startswith("transformers/")]
    assert len(rows) == 9
    passed = [row for row in rows if row["outcome"] == row["depths"]["outcome"] == row["uses"]["outcome"] == "passed"]
    assert len(passed) >= 8
    for row in passed:
        uses = row["uses"]
        assert {"hidden states", "everything"} <= uses["asked"].keys()
        assert all(uses["asked"].values())
        assert uses["saved"]
        assert max(uses["skip"], uses["cut"]) <= 1e-4
        assert set(uses["exported"]) == {"torch.export", "ONNX"}
        assert max(off for found in uses["exported"].values() for off in found) <= 1e-5
