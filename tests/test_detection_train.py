"""Run folders of detectors: what they hold, that they resume exactly, and what they refuse."""

from __future__ import annotations

import dataclasses
import importlib
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import torchpaths as tp
from detection_toys import SIDE, routed
from torchpaths.detection import CocoSet, Recipe, evaluate, shapes, train
from torchpaths.errors import RunError
from torchpaths.train.distributed import World
from torchpaths.train.metrics import read_metrics

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torchpaths.detection", "torchpaths.train.loop", "detection_toys", "pytest"])

RECIPE = Recipe(
    tp.AdaptiveDepth(),
    epochs=2,
    batch=4,
    lr=0.02,
    schedule="cosine",
    warmup=0.5,
    eval_every=2,
    log_every=2,
    checkpoint_steps=2,
    checkpoint_minutes=None,
    device="cpu",
)


def sets() -> tuple[CocoSet, CocoSet]:
    return shapes(22, size=SIDE), shapes(4, size=SIDE, seed=1)


def run(out: Path, recipe: Recipe = RECIPE, masks: bool = False) -> dict[str, Any]:
    return train(routed(recipe.method, masks), recipe, *sets(), out, quiet=True)


def work(out: Path) -> None:
    torch.set_num_threads(1)
    run(out)


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def test_a_run_killed_at_two_moments_resumes_to_bitwise_the_same_weights(tmp_path: Path) -> None:
    straight, out = tmp_path / "straight", tmp_path / "killed"
    for step, delay in ((2, 0.0), (6, 0.02)):
        process = CONTEXT.Process(target=work, args=(out,))
        process.start()
        index = out / "checkpoints" / "index.json"
        limit = time.monotonic() + 60
        while not index.is_file() or int(json.loads(index.read_text())["last"].partition("-")[2]) < step:
            assert time.monotonic() < limit
            assert process.exitcode is None, "ended before it could be killed"
            time.sleep(0.002)
        time.sleep(delay)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join(20)
        assert process.exitcode == -signal.SIGKILL, "ended before it could be killed"
    for folder in (out, straight):
        process = CONTEXT.Process(target=work, args=(folder,))
        process.start()
        process.join(100)
        assert process.exitcode == 0
    ours, theirs = (load_file(folder / "weights.safetensors") for folder in (out, straight))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    rows = [without_times(read_metrics(folder / "metrics.jsonl")) for folder in (out, straight)]
    assert rows[0] == rows[1]
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in (out, straight)]
    assert without_times([summaries[0]]) == without_times([summaries[1]])


def test_a_run_folder_holds_recipe_metrics_weights_and_summary(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=1, eval_every=1)
    result = run(tmp_path / "run", recipe, masks=True)
    assert set(result["ap"]) == {"super", "base"}
    assert all(set(kinds) == {"box", "mask"} for kinds in result["ap"].values())
    assert result["macs"]["base"] < result["macs"]["super"]
    assert (result["steps"], result["method"], result["network"]) == (5, "AdaptiveDepth", "MaskRCNN")
    written = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert written["lr"] == 0.02
    assert written["flip"] is True
    assert written["method"]["alpha"] == 0.5
    made = json.loads((tmp_path / "run" / "run.json").read_text())
    assert made["train"] == {"images": 22, "objects": made["train"]["objects"], "classes": list(SHAPES), "masks": True}
    assert made["network"]["sites"] == ["backbone.body.layer1", "backbone.body.layer2"]
    rows = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [row["steps"] for row in rows if row["kind"] == "steps"] == [2, 2, 1]
    assert rows[0]["lr"] == pytest.approx(0.02), "two steps of warm-up"
    [evaluated] = [row for row in rows if row["kind"] == "epoch"]
    assert evaluated["ap"] == result["ap"]
    net = routed(recipe.method, masks=True, seed=9)
    net.load_state_dict(load_file(tmp_path / "run" / "weights.safetensors"))
    path = tp.AdaptiveDepth().path(net, True)
    assert evaluate(net, sets()[1], path)["box"] == result["ap"]["base"]["box"]


SHAPES = ("circle", "rectangle", "triangle")


def test_a_finished_run_is_read_and_not_trained_again(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=1, method=None)
    first = run(tmp_path / "run", recipe)
    assert set(first["ap"]) == {"plain"}
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    net = routed(None, seed=5)
    assert train(net, recipe, *sets(), tmp_path / "run", quiet=True) == first
    weights = load_file(tmp_path / "run" / "weights.safetensors")
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    """So that the comparison of resumed runs can fail."""
    for seed in (0, 1):
        run(tmp_path / str(seed), dataclasses.replace(RECIPE, epochs=1, method=None, seed=seed))
    a, b = (load_file(tmp_path / str(seed) / "weights.safetensors") for seed in (0, 1))
    assert not all(torch.equal(a[name], b[name]) for name in a)


def test_a_folder_of_another_recipe_network_or_data_is_refused(tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, epochs=1, method=None)
    run(tmp_path / "run", recipe)
    with pytest.raises(RunError, match=r"was made otherwise: recipe.lr: 0.02 -> 0.01. Repeat what it was made with"):
        run(tmp_path / "run", dataclasses.replace(recipe, lr=0.01))
    run(tmp_path / "run", dataclasses.replace(recipe, checkpoint_steps=None))
    with pytest.raises(RunError, match=r"network.class: 'FasterRCNN' -> 'MaskRCNN'"):
        run(tmp_path / "run", recipe, masks=True)
    with pytest.raises(RunError, match=r"train.images: 22 -> 23"):
        train(routed(None), recipe, shapes(23, size=SIDE), sets()[1], tmp_path / "run", quiet=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("")
    with pytest.raises(RunError, match="exists and is no run folder"):
        run(tmp_path / "other", recipe)


def test_what_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    data, test = sets()
    with pytest.raises(RunError, match="batch 23 is more than the 22 training images"):
        run(tmp_path / "run", dataclasses.replace(RECIPE, batch=23))
    birds = test.truth
    birds["categories"][0]["name"] = "bird"
    other = CocoSet(birds, {i + 1: (test[i][0].permute(1, 2, 0).numpy() * 255).astype("uint8") for i in range(4)})
    with pytest.raises(RunError, match="the test images of bird, rectangle, triangle; both sets need the same"):
        train(routed(None), RECIPE, data, other, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
    with pytest.raises(RunError, match="lr=-1: a number above 0"):
        Recipe(lr=-1)
    with pytest.raises(RunError, match="warmup of 2 epochs fills all 1"):
        Recipe(epochs=1, warmup=2)


@contextmanager
def two_processes(device: str | None) -> Iterator[World]:
    yield World(0, 2)


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("torchpaths.detection.train"), "joined", two_processes)
    with pytest.raises(RunError, match="trained by one process, not 2"):
        run(tmp_path / "run")


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_loss_or_gradient_that_is_not_finite_stops_the_run_and_is_named(tmp_path: Path, what: str) -> None:
    net = routed(RECIPE.method)
    predictor = net.get_submodule("model.roi_heads.box_predictor")
    calls: list[int] = []
    if what == "loss":

        def spoil(module: nn.Module, args: Any, output: tuple[Tensor, Tensor]) -> Any:
            if module.training:
                calls.append(0)
            return (output[0] * torch.nan, output[1]) if len(calls) == 6 else output  # the third step's base-net

        predictor.register_forward_hook(spoil)
        message = r"the loss 'base.loss_classifier' became nan at step 3 \(step 3 of 5 in its epoch\)\. .* lower lr"
    else:

        def burst(gradient: Tensor) -> Tensor:
            calls.append(0)
            return gradient * torch.inf if len(calls) == 6 else gradient

        predictor.get_parameter("cls_score.weight").register_hook(burst)  # type: ignore[no-untyped-call]
        message = r"the loss '\(norm of the gradient\)' became (inf|nan) at step 3"
    with pytest.raises(RunError, match=message):
        train(net, RECIPE, *sets(), tmp_path / "run", quiet=True)
    index = json.loads((tmp_path / "run" / "checkpoints" / "index.json").read_text())
    assert index["last"] == "step-00000002"
    assert all(value.isfinite().all() for value in net.state_dict().values() if value.is_floating_point())
