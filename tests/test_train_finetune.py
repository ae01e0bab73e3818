"""Fine-tuning a published network, or one's own, on a folder of images: what is filled in, said and refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from published_toys import TINY, cached, config, offline
from shared import encode, pictures
from torchpaths import GatedBlocks, cli
from torchpaths.cli.names import KNOWN, translated
from torchpaths.errors import DataError, RunError
from torchpaths.train.distil import START, Distil
from torchpaths.train.finetune import completed
from torchpaths.train.folder import load_run, read_recipe
from torchpaths.train.recipe import Recipe
from torchpaths.train.recipes import RECIPES, finetune, resolve
from torchpaths.train.run import train

__all__ = ["offline"]

QUICK: dict[str, Any] = {"size": 32, "epochs": 1, "batch": 8, "workers": 1}
FLAGS = ["--size", "32", "--epochs", "1", "--batch", "8"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two classes, dark and bright, without splits and in several sizes."""
    root = tmp_path_factory.mktemp("images")
    for label, name in enumerate(("dark", "light")):
        (root / name).mkdir()
        for i, pixels in enumerate(pictures(16, 40 + 9 * label, 48, seed=label)):
            (root / name / f"{i}.png").write_bytes(encode(pixels // 2 + 120 * label))
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A trained network's weights by its number of classes, as timm's checkpoints are."""
    folder = tmp_path_factory.mktemp("weights")
    for classes in (2, 7):
        state = timm.create_model("test_resnet", num_classes=classes).state_dict()
        torch.save(
            {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}, folder / f"{classes}.pth.tar"
        )
    return {classes: folder / f"{classes}.pth.tar" for classes in (2, 7)}


def of(images: Path, **changes: Any) -> Recipe:
    return resolve("finetune", {"data": images, "model": TINY, **QUICK, **changes})


def test_what_the_model_decides_is_filled_in_and_what_is_given_stays(images: Path, weights: dict[int, Path]) -> None:
    recipe, _ = completed(of(images, weights=weights[2], size=None))
    theirs = config()
    assert (recipe.size, recipe.crop) == (theirs["input_size"][1], theirs["crop_pct"])
    assert (recipe.mean, recipe.std) == (theirs["mean"], theirs["std"])
    given, _ = completed(of(images, weights=weights[2], size=48, crop=0.5, mean=(0.1,) * 3, std=(0.2,) * 3))
    assert (given.size, given.crop, given.mean, given.std) == (48, 0.5, (0.1,) * 3, (0.2,) * 3)
    assert completed(recipe)[0] == recipe, "what is complete stays as it is"


def test_a_last_layer_that_fits_is_kept_and_taught(images: Path, weights: dict[int, Path]) -> None:
    recipe, [said] = completed(of(images, weights=weights[2]))
    assert recipe.distil == Distil(START)
    assert "its last layer for 2 classes with them" in said


def test_a_last_layer_of_other_classes_starts_anew_untaught_and_one_line_says_so(
    images: Path, weights: dict[int, Path]
) -> None:
    recipe, [said] = completed(of(images, weights=weights[7]))
    assert recipe.distil is None
    assert "a last layer fc for 7 classes, so one for 2 classes starts anew. Nobody teaches it" in said
    assert "--method none" in said
    _, [plain] = completed(of(images, weights=weights[7]).override({"distil": None}))
    assert "Nobody teaches" not in plain


def test_a_name_stands_for_its_published_weights(images: Path, offline: Path) -> None:
    state = timm.create_model("test_resnet").state_dict()
    save_file(state, cached(offline, "timm/test_resnet.r160_in1k", "model.safetensors"))
    recipe, [said] = completed(of(images))
    assert recipe.model == f"{TINY}.r160_in1k"
    assert f"starts from the weights {TINY}.r160_in1k; they have a last layer fc for 1000 classes" in said
    train(recipe.override({"lr": 1e-9, "method": None}), images.parent / "run", quiet=True)
    trained = load_file(images.parent / "run/weights.safetensors")
    name = next(k for k in state if k.endswith("conv1.weight") and state[k].dim() == 4)
    assert torch.allclose(trained[f"model.{name}"], state[name], atol=1e-5)


def test_other_recipes_start_from_the_weights_of_a_tag_too_or_say_that_they_are_random(
    images: Path,
    offline: Path,
) -> None:
    recipe = Recipe(f"{TINY}.r160_in1k", str(images), holdout=0.2, **QUICK)
    assert completed(recipe) == (recipe, [f"starts from the weights {TINY}.r160_in1k"])
    with pytest.raises(RunError, match="cannot be fetched"):
        train(recipe, images.parent / "tagged", quiet=True)
    assert not list((images.parent / "tagged").glob("checkpoints/*"))
    untagged = Recipe(TINY, str(images), holdout=0.2, **QUICK)
    assert completed(untagged) == (
        untagged,
        [f"starts from random weights; --model {TINY}.r160_in1k stands for trained ones"],
    )
    assert completed(Recipe("cifar_resnet20", "digits"))[1] == []


def test_a_run_folder_opens_without_a_network_and_fetches_nothing(
    images: Path,
    offline: Path,
    tmp_path: Path,
) -> None:
    file = cached(offline, "timm/test_resnet.r160_in1k", "model.safetensors")
    save_file(timm.create_model("test_resnet").state_dict(), file)
    train(of(images, method=None), tmp_path / "run", quiet=True)
    file.unlink()
    assert load_run(tmp_path / "run").classes == ("dark", "light")
    recipe = json.loads((tmp_path / "run/recipe.json").read_text())
    (tmp_path / "run/recipe.json").write_text(json.dumps({**recipe, "model": "hf-hub:stranger/model"}))
    with pytest.raises(RunError, match="names no model of the hub"):
        load_run(tmp_path / "run")


def test_random_weights_are_said_loudly(images: Path) -> None:
    recipe, [said] = completed(of(images, model="cifar_resnet20"))
    assert said.startswith("RANDOM WEIGHTS: none are published for cifar_resnet20")
    assert recipe.distil is None


def test_a_run_from_the_hub_keeps_the_architecture_and_the_file(images: Path, offline: Path) -> None:
    written = {
        "architecture": "test_resnet",
        "num_classes": 2,
        "pretrained_cfg": config(),
    }
    cached(offline, "me/mine", "config.json").write_text(json.dumps(written))
    save_file(
        timm.create_model("test_resnet", num_classes=2).state_dict(), cached(offline, "me/mine", "model.safetensors")
    )
    recipe, [said] = completed(of(images, model="hf-hub:me/mine"))
    assert recipe.model == TINY
    assert recipe.weights is not None
    assert "last layer for 2 classes with them" in said


def test_the_command_trains_gates_on_a_folder_resumes_and_shows_it(
    images: Path, weights: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    command = ["train", "finetune", "--data", str(images), "--model", TINY, "--out", str(out), "--json", *FLAGS]
    assert cli.main([*command, "--weights", str(weights[7])]) == 0
    answered = json.loads(capsys.readouterr().out)
    assert set(answered["by_class"]) == {"dark", "light"}
    recipe = read_recipe(out)
    assert isinstance(recipe.method, GatedBlocks)
    held = json.loads((out / "holdout.json").read_text())
    assert answered["images"] == len(held["test"])
    assert json.loads((out / "run.json").read_text())["data"]["shape"] == [32, 32, 3]
    assert cli.main([*command, "--weights", str(weights[7]), "--workers", "3"]) == 0, "the same goes on"
    assert cli.main([*command, "--weights", str(weights[2])]) == 1
    assert "was made by another recipe" in capsys.readouterr().err


def test_other_images_of_the_same_classes_are_all_for_testing(
    images: Path, weights: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(of(images, weights=weights[2], method=None), tmp_path / "run", quiet=True)
    other = tmp_path / "other"
    for name in ("dark", "light"):
        (other / name).mkdir(parents=True)
        (other / name / "x.png").write_bytes(encode(pictures(1, 50, 60)[0]))
    counted = []
    for more in (["--data", str(other)], ["--data", str(images)]):
        capsys.readouterr()
        assert cli.main(["evaluate", str(tmp_path / "run"), "--json", *more]) == 0
        counted.append(json.loads(capsys.readouterr().out)["images"])
    held = len(json.loads((tmp_path / "run/holdout.json").read_text())["test"])
    assert counted == [2, held]


def test_a_failed_first_start_does_not_lock_the_folder(
    images: Path, weights: dict[int, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "run"), "--data", str(images), *FLAGS]
    (tmp_path / "broken.pth").write_bytes(b"PK\x03\x04 cut short")
    for wrong in (
        ["--model", "timm/resnet10t", "--weights", str(weights[2])],
        ["--model", TINY, "--weights", str(tmp_path / "broken.pth")],
        ["--model", TINY, "--weights", str(weights[2]), "--batch", "4096"],
        ["--model", "timm/mixer_s32_224", "--weights", str(weights[2])],
    ):
        assert cli.main(["train", "finetune", *out, *wrong]) == 1
        assert capsys.readouterr().err.count("error:") == 1
    assert cli.main(["train", "finetune", *out, "--model", TINY, "--weights", str(weights[2]), "--json"]) == 0


def test_one_class_and_no_images_are_refused(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set/only").mkdir(parents=True)
    for i, pixels in enumerate(pictures(12)):
        (tmp_path / f"set/only/{i}.png").write_bytes(encode(pixels))
    with pytest.raises(RunError, match=r"one class, 'only', so there is nothing to tell apart"):
        train(of(tmp_path / "set", model="cifar_resnet20"), tmp_path / "run", quiet=True)
    with pytest.raises(DataError, match="there is no image set"):
        train(of(tmp_path / "nowhere", model="cifar_resnet20"), tmp_path / "run", quiet=True)
    assert cli.main(["train", "finetune"]) == 2
    assert "Give --data FOLDER" in capsys.readouterr().err


def test_a_checkpoint_that_needs_unpickling_says_how_to_convert_it(images: Path, tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet", num_classes=2), tmp_path / "whole.pth")
    with pytest.raises(RunError, match=r"torch\.save\(found\.state_dict\(\), 'weights\.pth'\)"):
        completed(of(images, weights=tmp_path / "whole.pth"))


def test_a_size_that_the_network_does_not_take_is_answered_with_its_own(images: Path) -> None:
    with pytest.raises(RunError, match=r"takes no images of 32 x 32 pixels .*its own size is 224, as without --size"):
        completed(of(images, model="timm/vit_tiny_patch16_224"))


def test_a_function_of_ones_own_is_fine_tuned(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine_to_tune.py").write_text(
        "import timm\n\ndef net(classes, channels):\n"
        "    return timm.create_model('test_resnet', num_classes=classes, in_chans=channels)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    command = ["train", "finetune", "--data", str(images), "--model", "mine_to_tune:net", "--out", "run", *FLAGS]
    assert cli.main(command) == 0
    assert "RANDOM WEIGHTS, unless mine_to_tune:net loads some itself" in " ".join(capsys.readouterr().err.split())


def test_grey_images_are_read_in_colour_for_a_network_that_takes_colours(
    weights: dict[int, Path], tmp_path: Path
) -> None:
    for name in ("a", "b"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i, pixels in enumerate(pictures(10, 40, 40, channels=1)):
            (tmp_path / "set" / name / f"{i}.png").write_bytes(encode(pixels[..., 0], mode="L"))
    result = train(of(tmp_path / "set", weights=weights[2], method=None), tmp_path / "run", quiet=True)
    assert load_run(tmp_path / "run").net.example_shape == (3, 32, 32)
    assert 0 <= result["accuracy"] <= 1


@pytest.mark.parametrize("theirs", KNOWN)
def test_a_name_of_another_library_is_answered_with_ours(theirs: str) -> None:
    said = translated(["--epochs", "3", f"{theirs}=5" if theirs.startswith("--") else theirs, "x"])
    assert said is not None
    assert said.startswith(f"{theirs}: ")
    ours, _ = KNOWN[theirs]
    fields = {f"--{name.replace('_', '-')}" for name in Recipe.__dataclass_fields__} | {"--out"}
    assert not ours or ours.partition(".")[0] in fields
    assert theirs not in fields, "a name of ours is no other's"


def test_all_foreign_names_are_answered_at_once_and_underscores_count_as_hyphens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["train", "digits", "--batch_size", "8", "--img-size=64", "-b", "3", "--pretrained"]) == 2
    said = capsys.readouterr().err
    assert all(f"{name}: did you mean" in said for name in ("--batch_size", "--img-size", "-b", "--pretrained"))
    assert translated(["--epochs", "3", "--lr", "0.1", "--batch", "8", "--data", "x", "--resume"]) is None


def test_a_warm_up_longer_than_the_run_names_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "digits", "--epochs", "2"]) == 1
    assert "--warmup 0" in capsys.readouterr().err


def test_the_recipe_needs_neither_images_nor_a_network_to_be_made() -> None:
    assert RECIPES["finetune"] is finetune
    recipe = finetune()
    assert (recipe.finetune, recipe.warmup < recipe.epochs, recipe.augment.crop is not None) == (True, True, True)
