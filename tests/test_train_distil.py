"""Learning from another network: the loss by hand, who teaches, and that the teacher is no part of what is trained."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

import laws
from torchpaths import Budget, Fixed, GatedBlocks, Objective
from torchpaths.errors import RunError
from torchpaths.methods import AdaptiveDepth
from torchpaths.models import create_model
from torchpaths.train.distil import Distil, Distilled, labels_of
from torchpaths.train.images import open_both
from torchpaths.train.recipe import Recipe
from torchpaths.train.run import train
from torchpaths.train.teacher import teacher_of
from train_toys import batch, tiny, toy


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a plain network."""
    torch.manual_seed(3)
    model = create_model("cifar_resnet20", 10, channels=1)
    file = tmp_path_factory.mktemp("weights") / "plain.safetensors"
    save_file(model.state_dict(), file)
    return file


def test_the_loss_is_labels_and_teacher_in_shares() -> None:
    torch.manual_seed(0)
    student, teacher, y = torch.randn(5, 4).double(), torch.randn(5, 4).double(), torch.tensor([0, 1, 2, 3, 3])
    p, q = (functional.softmax(scores / 2, 1) for scores in (teacher, student))
    expected = 0.75 * functional.cross_entropy(student, y) + 0.25 * 4 * (p * (p.log() - q.log())).sum(1).mean()
    got = Distilled(Distil(weight=0.25, temperature=2))(student, (y, teacher))
    laws.close(got.double(), expected, 1e-6)
    laws.close(Distilled(Distil(weight=1))(teacher, (y, teacher)), torch.tensor(0.0).double(), 1e-6)


@pytest.mark.parametrize("method", [None, GatedBlocks(), AdaptiveDepth()])
def test_any_method_can_learn_from_a_teacher(method: object) -> None:
    net = toy(method)  # type: ignore[arg-type]
    x, y = batch()
    objective = Objective(net, method, task=Distilled(Distil()), labels=labels_of)  # type: ignore[arg-type]
    losses = objective(x, (y, torch.zeros(len(x), 3, dtype=x.dtype)))
    sum(losses.values(), torch.zeros(())).backward()
    assert all(p.grad is not None for p in net.model.parameters())


def test_a_run_learns_from_the_network_that_it_starts_from(weights: Path, tmp_path: Path) -> None:
    """At a learning rate near zero the student is its teacher, and only the labels cost something."""
    recipe = tiny(weights=weights, distil=Distil(weight=0.5), lr=1e-9, log_every=1)
    teacher = teacher_of(recipe, open_both(recipe), torch.device("cpu"))
    assert teacher is not None
    plain = create_model("cifar_resnet20", 10, channels=1)
    plain.load_state_dict(load_file(weights))
    x = torch.randn(4, 1, 8, 8)
    laws.close(teacher(x), plain.eval()(x))
    assert not teacher(x).requires_grad
    train(recipe, tmp_path / "run", quiet=True)
    kept = load_file(next((tmp_path / "run/checkpoints").glob("step-*/state.safetensors")))
    assert not any("teach" in name or "distil" in name for name in kept)
    written = json.loads((tmp_path / "run/recipe.json").read_text())
    assert Recipe.from_json(written).distil == Distil(weight=0.5)


def test_a_run_is_a_teacher_and_accumulation_changes_nothing(weights: Path, tmp_path: Path) -> None:
    method = Fixed(closed=("layer1.1",))
    first = tiny(weights=weights, method=method, batch=512)
    train(first, tmp_path / "first", quiet=True)
    taught = [
        dataclasses.replace(first, distil=Distil(str(tmp_path / "first"), 0.9), accumulate=parts, lr=1e-4)
        for parts in (1, 2)
    ]
    losses = []
    for number, recipe in enumerate(taught):
        train(recipe, tmp_path / str(number), quiet=True)
        rows = [json.loads(line) for line in (tmp_path / str(number) / "metrics.jsonl").read_text().splitlines()]
        losses.append(next(row["losses"]["task"] for row in rows if row["kind"] == "epoch"))
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert (
        load_file(tmp_path / "0/weights.safetensors").keys() == load_file(tmp_path / "first/weights.safetensors").keys()
    )


def test_a_teacher_that_there_is_not_or_that_knows_something_else_is_named(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has random weights; give weights or start, or the folder of a run"):
        tiny(distil=Distil())
    with pytest.raises(RunError, match="is no run folder"):
        train(tiny(distil=Distil(str(tmp_path / "nothing"))), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run/checkpoints").exists()
    with pytest.raises(RunError, match=r"the teacher gives float32 \[2, 5\], this network float32 \[2, 3\]"):
        Distilled(Distil())(torch.zeros(2, 3), (torch.tensor([0, 1]), torch.zeros(2, 5)))
    for knobs in ({"weight": 0.0}, {"weight": 1.5}, {"temperature": 0.0}, {"teacher": ""}):
        with pytest.raises(RunError, match=next(iter(knobs))):
            Distil(**knobs)


def test_a_gated_network_keeps_its_rates_while_it_learns(weights: Path, tmp_path: Path) -> None:
    recipe = tiny(weights=weights, method=GatedBlocks(budget=Budget(open=0.5)), distil=Distil())
    found = train(recipe, tmp_path / "run", quiet=True)
    assert set(found["losses"]) == {"task", "rate"}
