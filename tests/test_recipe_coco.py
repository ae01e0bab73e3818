"""The recipe of the rows on COCO: its schedule is Lin et al.'s, it begins from a run's weights, others are refused."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torchvision

import authors_toys as toys
from torchpaths import AdaptiveDepth, route
from torchpaths.detection import shapes, train
from torchpaths.errors import RunError
from torchpaths.train.schedule import learning_rate


@pytest.fixture(scope="module")
def coco() -> ModuleType:
    file = Path(__file__).resolve().parents[1] / "recipes" / "coco.py"
    spec = importlib.util.spec_from_file_location("coco_recipe", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    return module


def options(coco: ModuleType, **changes: Any) -> Any:
    return coco.Options(Path("coco"), Path("weights"), batch=2, sides=(64, 64), **changes)


def weights(method: AdaptiveDepth | None) -> dict[str, torch.Tensor]:
    """Of a run on ImageNet."""
    torch.manual_seed(1)
    model = torchvision.models.resnet50(num_classes=5)
    if method is None:
        return {f"model.{name}": value for name, value in model.state_dict().items()}
    return dict(route(model, method, example=torch.randn(2, 3, 64, 64)).state_dict())


def test_the_schedule_is_that_of_lin_et_al(coco: ModuleType) -> None:
    recipe = coco.recipe_of(coco.Options(Path("coco"), Path("weights")))
    assert (recipe.epochs, recipe.batch, recipe.weight_decay, recipe.momentum) == (12, 16, 1e-4, 0.9)
    rates = [learning_rate(recipe.general, epoch * 7392, 7392) for epoch in (1, 7, 8, 11)]
    assert rates == pytest.approx([0.02, 0.02, 0.002, 0.0002])
    assert isinstance(recipe.method, AdaptiveDepth)


@pytest.mark.slow
def test_a_detector_begins_from_a_runs_weights_and_trains(coco: ModuleType, tmp_path: Path) -> None:
    chosen = options(coco)
    recipe = replace(coco.recipe_of(chosen), epochs=1, milestones=(), warmup=0, device="cpu", lr=1e-4)
    given = weights(AdaptiveDepth())
    net = coco.detector(chosen, recipe, 4, given)
    own = net.state_dict()
    assert torch.equal(own["model.backbone.body.layer3.1.conv2.weight"], given["model.layer3.1.conv2.weight"])
    second = "layer3.0.bn2.skipped.running_mean"
    assert torch.equal(own[f"model.backbone.body.{second}"], given[f"model.{second}"])
    assert not net.model.backbone.body.conv1.weight.requires_grad
    theirs = toys.second({name.removeprefix("model."): value for name, value in given.items()})
    same = coco.detector(chosen, recipe, 4, {f"module.{name}": value for name, value in theirs.items()}).state_dict()
    assert all(torch.equal(value, same[name]) for name, value in own.items())
    plain = options(coco, plain=True)
    with pytest.raises(RunError, match=r"have 135 tensors of second norms .* leave out --plain, or give weights of a"):
        coco.detector(plain, coco.recipe_of(plain), 4, theirs)
    found = train(net, recipe, shapes(2, size=64), shapes(1, size=64, seed=1), tmp_path / "run", quiet=True)
    assert set(found["ap"]) == {"super", "base"}


def test_weights_of_a_network_without_depths_are_refused_with_the_way_out(coco: ModuleType) -> None:
    chosen = options(coco)
    with pytest.raises(RunError, match=r"lack .* tensors, .*skipped.*imagenet_depth_resnet50 with AdaptiveDepth"):
        coco.detector(chosen, coco.recipe_of(chosen), 4, weights(None))
