"""The verb ``attack``: everything about a run under attack, beside its plain twin and images of other classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import torchpaths as tp
from shared import encode, pictures, write_parquet
from torchpaths.attacks import Plan, Sample, attack_report
from torchpaths.cli import MISUSED, main
from torchpaths.cli.attack import strength_of
from torchpaths.errors import CallError, DataError
from torchpaths.train.evaluate import open_run
from torchpaths.train.run import train
from train_toys import tiny
from verbs import answer, complaint

FEW = ("--test-images", 60, "--train-images", 200, "--steps", 2, "--adaptive-images", 4, "--path-weights", 1)
FEW_STEPS = Plan(strengths=(0.1,), detected=(0.1,), steps=1, mimics=2, weights=(1.0,))
SCORES = {"rarity", "distance", "likelihood", "softmax", "energy"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gated run on digits with its plain twin, one of adaptive depth, and noise as another data set."""
    folder = tmp_path_factory.mktemp("attack")
    train(tiny(method=tp.GatedBlocks(), twin=True), folder / "gated", quiet=True)
    train(tiny(method=tp.AdaptiveDepth()), folder / "depth", quiet=True)
    made = [encode(p) for p in pictures(30, 8, 8, 1)]
    write_parquet(folder / "noise" / "test.parquet", made, [0, 1] * 15, group=40)
    return folder


def test_the_verb_attacks_measures_writes_and_draws(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = runs / "out"
    options = ["--ood", runs / "noise", "--strengths", "0", "8/255", "0.2", "--out", out, "--label", "3", *FEW]
    assert main([str(a) for a in ("attack", runs / "gated", *options, "--json")]) == 0
    said, told = capsys.readouterr()
    answered = json.loads(said)
    kept = json.loads((out / "attack.json").read_text())
    assert {k: v for k, v in answered.items() if k not in ("files", "folder")} == kept
    assert answered["images"] == {"train": 200, "test": 60, "foreign": 30}
    curves = {curve["name"]: curve for curve in answered["curves"]}
    assert set(curves) == {"paths", "paths, gates draw", "paths, around the gates", "plain"}
    assert [row["strength"] for row in curves["plain"]["jpeg"]] == ["0/255", "8/255", "51/255"]
    assert curves["paths"]["as_attacked"][0]["accuracy"] == answered["accuracy"]
    low, high = curves["paths"]["as_attacked"][0]["interval"]
    assert low <= answered["accuracy"] <= high
    assert [row["name"] for row in answered["detection"]] == [
        "FGSM 2/255", "FGSM 4/255", "FGSM 8/255", "PGD 8/255, 2 steps", "other classes",
    ]  # fmt: skip
    assert set(answered["detection"][-1]["scores"]) == SCORES
    assert [row["name"] for row in answered["mimicry"]] == ["weight 1, nearest path", "weight 1, middle path"]
    assert answered["rates"]["images"] < 60, "of one class only"
    assert [group["name"] for group in answered["by_budget"]] == ["as it is", "everything", "higher thresholds"]
    assert answered["asked"] == {"first": "higher thresholds", "again": "as it is"}
    assert set(answered["selective"]) == SCORES
    assert all(Path(file).is_file() for file in answered["files"])
    assert len(answered["files"]) >= 13
    assert not (runs / "gated" / "attack.json").exists()
    for part in ("accuracy under FGSM", "weight 1, middle", "asking again"):
        assert part in told
    assert "…" not in told


def asked(folder: Path, plan: Plan = FEW_STEPS) -> dict[str, Any]:
    """The report of a run, without figures."""
    run = open_run(folder)
    train, test = (Sample.of(run.images(split), 40) for split in ("train", "test"))
    others = {} if run.recipe.method is None else run.recipe.method.paths(run.net)
    return attack_report(run.net, train, test, run.mean, run.std, others=others, plan=plan)


def test_depths_have_no_path_by_image_and_are_compared(runs: Path) -> None:
    answered = asked(runs / "depth")
    assert answered["marks"] == {"decided": 0, "energies": 0}
    assert set(answered["detection"][0]["scores"]) == {"depths", "softmax", "energy"}
    assert [row["name"] for row in answered["mimicry"]] == ["weight 1"]
    assert answered["rates"] is answered["crossing"] is None
    assert answered["by_path"] == []
    assert [group["name"] for group in answered["by_budget"]] == ["as it is", "base"]
    assert answered["asked"] == {"first": "base", "again": "as it is"}
    assert set(answered["selective"]) == {"softmax", "energy"}


def test_a_cut_network_is_attacked_as_a_plain_one(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "cut", runs / "gated", "--budget-open", 0.7, "--out", runs / "cut", "--json")
    answered = asked(runs / "cut")
    assert set(answered["detection"][0]["scores"]) == {"softmax", "energy"}
    assert [curve["name"] for curve in answered["curves"]] == ["paths"]
    assert answered["mimicry"] == []
    assert answered["selective"] == {}
    assert answered["asked"] is None


def test_what_makes_no_sense_is_refused_in_words(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gated = runs / "gated"

    def says(*options: Any) -> str:
        return complaint(capsys, "attack", gated, *options)

    assert "a number from 0 to 1" in says("--strength=-1/255")
    assert "there is no class 'cat'" in says("--label", "cat")
    assert "is not plain" in says("--plain", runs / "depth")
    assert main(["attack", str(gated), "--strength", "strong"]) == MISUSED
    assert "such as 8/255 or 0.03" in capsys.readouterr().err


def test_strengths_are_read_as_people_write_them() -> None:
    assert [strength_of(text) for text in ("8/255", "0.5", "1/0.5")] == [8 / 255, 0.5, 2.0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"strengths": (2.0,)}, "a number from 0 to 1"),
        ({"detected": (float("nan"),)}, "a number from 0 to 1"),
        ({"strength": -0.1}, "a number from 0 to 1"),
        ({"weights": ()}, "at least one of each"),
        ({"weights": (-1.0,)}, "a number of at least 0"),
        ({"mimics": -1}, "at least 0 and 1 images"),
        ({"mimic_steps": 99}, "fewer than 100 say nothing"),
        ({"steps": 0}, "whole numbers from 1 on"),
        ({"quality": 0}, "whole number from 1 to 95"),
        ({"gradient": "over"}, "choose one of through, around"),
    ],
)
def test_a_plan_is_checked_before_anything_runs(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises((DataError, CallError), match=words):
        Plan(**wrong)
