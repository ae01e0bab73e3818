"""Claims about recipes that ask for everything at once: sizes of their own, constructors' numbers, every option beside
the others, resumed bitwise, alone and in company."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import nn

import torchpaths as tp
from shared import encode, pictures, write_parquet
from test_train_resume import finish, kill_at, start
from torchpaths import AdaptiveDepth, Budget, GatedBlocks
from torchpaths.data import Augment
from torchpaths.errors import RunError
from torchpaths.train.ema import Ema
from torchpaths.train.folder import check_train_size
from torchpaths.train.metrics import read_metrics
from torchpaths.train.objective import Objective
from torchpaths.train.recipe import Recipe
from torchpaths.train.run import train
from torchpaths.train.state import check_same_recipe
from train_toys import brief, small_net, tiny


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tp.models.MODELS, "small", small_net)


def test_sizes_that_a_model_does_not_take_are_errors_that_name_its_own(tmp_path: Path) -> None:
    model = "timm/test_vit"  # for images of 160 pixels
    for split in ("train", "test"):
        write_parquet(tmp_path / f"{split}.parquet", [encode(image) for image in pictures(4, 20, 20)], [0, 1, 0, 1])
    said = (
        r"timm/test_vit takes no images of 40 x 40 pixels .*its own size is 160, or make it .*--model-args img_size 40"
    )
    for changes in ({"size": 40}, {"size": 160, "train_size": 40, "augment": Augment(crop=(0.5, 1.0))}):
        with pytest.raises(RunError, match=said):
            train(tiny(model=model, data=str(tmp_path), batch=4, **changes), tmp_path / "run", quiet=True)
    net = tp.route(timm.create_model("test_vit", in_chans=1), example=torch.randn(2, 1, 160, 160))
    check_train_size(net, tiny(model=model, size=160, train_size=160, augment=Augment(crop=(0.5, 1.0))))


def test_training_and_evaluation_have_sizes_of_their_own(tmp_path: Path) -> None:
    augment = Augment(crop=(0.3, 1.0), flip=0.5)
    recipe = brief(size=16, resize=20, train_size=12, augment=augment, method=AdaptiveDepth())
    found = train(recipe, tmp_path / "run", quiet=True)
    assert 0 <= found["accuracy"] <= found["accuracy_top5"] <= 1
    rows = [row for row in read_metrics(tmp_path / "run" / "metrics.jsonl") if row["kind"] == "epoch"]
    assert rows[-1]["accuracy_top5"] == found["accuracy_top5"]


ALL: dict[str, Any] = {
    "method": GatedBlocks(budget=Budget(open=0.6)),
    "epochs": 2,
    "batch": 240,
    "accumulate": 2,
    "no_decay": ("norms", "biases"),
    "gate_lr": 0.5,
    "gate_decay": 0.0,
    "clip": 1.0,
    "mixup": 0.2,
    "cutmix": 1.0,
    "repeats": 2,
    "smoothing": 0.1,
    "ema": 0.99,
    "ema_every": 2,
    "ema_hold": 0.5,
    "schedule": "cosine",
    "schedule_by": "epoch",
    "cooldown": 1,
    "final_lr": 0.001,
    "workers": 2,
    "size": 10,
    "train_size": 8,
    "augment": Augment(crop=(0.5, 1.0), policy="rand-m5-mstd0.5", erase=0.3, erase_fill="normal", flip=0.5),
    "checkpoint_steps": 1,
}


class Stopped(Exception):  # noqa: N818
    """A run is cut off."""


def test_a_run_with_every_option_resumes_bitwise_with_another_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = tmp_path / "straight"
    train(brief(**ALL), straight, quiet=True)
    real, count = Ema.update, [0]

    def stopping(self: Ema, net: nn.Module, step: int) -> None:
        if step == 8 and not count[0]:
            count[0] = 1
            raise Stopped
        real(self, net, step)

    monkeypatch.setattr(Ema, "update", stopping)
    out = tmp_path / "stopped"
    with pytest.raises(Stopped):
        train(brief(**ALL), out, quiet=True)
    train(brief(**{**ALL, "workers": 1}), out, quiet=True)
    assert_same_weights(straight, out)


def assert_same_weights(one: Path, other: Path) -> None:
    for name in ("weights.safetensors", "ema.safetensors"):
        a, b = load_file(one / name), load_file(other / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_two_processes_that_mix_and_repeat_resume_bitwise_together(tmp_path: Path) -> None:
    recipe = tiny(**{**ALL, "epochs": 1, "batch": 120, "cooldown": 0, "checkpoint_steps": 2})
    straight, out = tmp_path / "straight", tmp_path / "killed"
    finish(start(recipe, straight, world=2))
    kill_at(start(recipe, out, world=2), out, 4, 0.02)
    finish(start(recipe, out, world=2))
    assert_same_weights(straight, out)


@pytest.mark.parametrize("method", [GatedBlocks(budget=Budget(open=0.6)), AdaptiveDepth()])
def test_compiled_it_mixes_and_repeats_as_eager(
    method: tp.Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = Objective.compile
    monkeypatch.setattr(Objective, "compile", lambda self: compiled(self, backend="eager"))
    changes = {**ALL, "method": method, "steps": 3, "workers": 1}
    if not isinstance(method, GatedBlocks):
        changes |= {"gate_lr": 1.0, "gate_decay": None}
    for compile in (False, True):
        train(brief(**changes, compile=compile), tmp_path / str(compile), quiet=True)
    a, b = (load_file(tmp_path / str(compile) / "weights.safetensors") for compile in (False, True))
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=1e-4, atol=1e-5)


def test_a_flip_of_an_older_recipe_is_read_and_the_run_goes_on(tmp_path: Path) -> None:
    recipe = tiny(augment=Augment(flip=True))
    old = recipe.to_json()
    old["augment"] = {"class": "Augment", "pad": 0, "flip": True, "randaugment": None, "erase": 0.0, "crop": None}
    assert Recipe.from_json(old) == recipe
    assert recipe.augment.flip == 0.5
    check_same_recipe(old, recipe, "the run")
    with pytest.raises(RunError, match=r"augment\.flip"):
        check_same_recipe(old, tiny(augment=Augment(flip=0.3)), "the run")


def test_numbers_for_the_models_constructor_reach_it(tmp_path: Path) -> None:
    recipe = tiny(model="timm/test_vit", size=160, batch=721, model_args=(("drop_rate", 0.25),))
    assert Recipe.from_json(recipe.to_json()) == recipe
    model = tp.models.create_model(recipe.model, 10, channels=1, **dict(recipe.model_args))
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} >= {0.25}
    with pytest.raises(RunError, match=r"cannot be made with .*depth=3"):
        train(
            recipe.override({"model": "cifar_resnet20", "model_args": (("depth", 3.0),)}), tmp_path / "run", quiet=True
        )


def test_whole_numbers_reach_the_models_constructor_as_such_and_older_recipes_are_read(tmp_path: Path) -> None:
    recipe = tiny(model="timm/vit_tiny_patch16_224", size=32, model_args=(("img_size", 32), ("drop_rate", 0.25)))
    kept = json.loads(json.dumps(recipe.to_json()))
    assert Recipe.from_json(kept) == recipe
    assert [type(value) for _, value in Recipe.from_json(kept).model_args] == [int, float]
    older = {**kept, "model_args": [["drop_rate", 1.0]]}
    assert Recipe.from_json(older).model_args == (("drop_rate", 1.0),)
    model = tp.models.create_model("timm/test_vit", 10, img_size=dict(recipe.model_args)["img_size"])
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_weights_of_another_image_size_are_brought_to_the_networks_as_timm_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    whole: Any = tp.models.create_model("timm/test_vit", 10)
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    small: Any = tp.models.create_model("timm/test_vit", 10, img_size=32)
    tp.models.load_weights(small, tmp_path / "w.pth")
    grid = resample_abs_pos_embed(whole.pos_embed, [2, 2], num_prefix_tokens=1)
    torch.testing.assert_close(small.pos_embed, grid)
    torch.testing.assert_close(small.head.weight, whole.head.weight)
