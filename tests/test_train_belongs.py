"""A run's network taken elsewhere keeps its input and its classes: as a start, and as a teacher."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import laws
import torchpaths as tp
from shared import encode, pictures
from torchpaths import cli
from torchpaths.errors import DataError, RunError
from torchpaths.train.distil import Distil
from torchpaths.train.folder import load_run, read_recipe, read_seen
from torchpaths.train.images import Images, open_both
from torchpaths.train.recipe import Recipe
from torchpaths.train.run import train
from torchpaths.train.teacher import teacher_of
from train_toys import tiny

OTHER: dict[str, Any] = {"mean": (0.1,), "std": (2.0,)}
"""A normalisation that is not that of the digits."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of images that it normalises in its own way."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train(tiny(model="cifar_resnet14", lr=0.2, **OTHER), out, quiet=True)
    return out


def of_folder(root: Path, classes: tuple[str, ...], side: int = 40, **changes: Any) -> Recipe:
    """A run on a folder of images of these classes."""
    for label, name in enumerate(classes):
        for split in ("train", "test"):
            (root / split / name).mkdir(parents=True)
            for i, pixels in enumerate(pictures(6, side, side + 6, seed=label)):
                (root / split / name / f"{i}.png").write_bytes(encode(pixels))
    return Recipe("cifar_resnet14", str(root), **{"batch": 4, "epochs": 1, "lr": 1e-4, "device": "cpu", **changes})


def test_a_start_brings_its_normalisation_and_its_weights_and_says_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny(model="cifar_resnet14", start=run, lr=1e-9)
    train(recipe, tmp_path / "on")
    assert "starts from the run" in capsys.readouterr().err
    seen = read_seen(tmp_path / "on")
    assert (seen.mean, seen.std) == (OTHER["mean"], OTHER["std"])
    assert read_recipe(tmp_path / "on").mean == OTHER["mean"]
    both = (load_run(folder).net.parameters() for folder in (run, tmp_path / "on"))
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(*both, strict=True))
    again = train(recipe, tmp_path / "on", quiet=True)
    assert again["steps"] == 5, "the same command goes on with the same run"


def test_a_start_with_another_normalisation_is_refused_and_the_remedy_works(run: Path, tmp_path: Path) -> None:
    recipe = tiny(model="cifar_resnet14", start=run, mean=(0.3,), std=(0.3,), lr=1e-9)
    with pytest.raises(RunError, match=r"mean \(0\.3\) and std \(0\.3\) are not those of the run .*--mean None"):
        train(recipe, tmp_path / "on", quiet=True)
    assert not (tmp_path / "on").exists()
    train(dataclasses.replace(recipe, mean=None, std=None), tmp_path / "on", quiet=True)
    train(dataclasses.replace(recipe, **OTHER), tmp_path / "given", quiet=True)


def test_weights_that_lie_in_a_run_bring_its_normalisation_too(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny(model="cifar_resnet14", weights=run / "weights.safetensors")
    train(recipe, tmp_path / "on")
    assert f"starts from the run {run}, with its input: mean (0.1), std (2)" in capsys.readouterr().err
    assert (read_seen(tmp_path / "on").mean, read_seen(tmp_path / "on").std) == (OTHER["mean"], OTHER["std"])
    with pytest.raises(RunError, match=r"mean \(0\.3\) .* are not those of the run .*--mean None"):
        train(dataclasses.replace(recipe, mean=(0.3,), std=(0.3,)), tmp_path / "other", quiet=True)
    shutil.copy(run / "weights.safetensors", tmp_path)
    train(dataclasses.replace(recipe, weights=tmp_path / "weights.safetensors"), tmp_path / "alone", quiet=True)
    assert read_seen(tmp_path / "alone").mean != OTHER["mean"], "a file by itself says nothing of its images"


def test_a_cut_network_is_no_run_to_start_from_and_the_remedy_trains_it(run: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    (tmp_path / "path.json").write_text(tp.Path.full(load_run(run).net).to_json())
    assert cli.main(["cut", str(run), "--path", str(tmp_path / "path.json"), "--out", str(cut)]) == 0
    with pytest.raises(RunError, match=r"is a cut network, and a run is wanted .*torchpaths\.load_cut"):
        train(tiny(model="cifar_resnet14", start=cut), tmp_path / "on", quiet=True)
    model = tp.load_cut(cut).train()
    torch.nn.functional.cross_entropy(model(torch.randn(4, 1, 8, 8)), torch.arange(4)).backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in model.parameters())


def test_a_start_brings_its_scaling_where_the_recipe_leaves_it_open(tmp_path: Path) -> None:
    first = of_folder(tmp_path / "set", ("a", "b"), size=16, resize=20, bicubic=True)
    train(first, tmp_path / "run", quiet=True)
    bare = dataclasses.replace(first, start=tmp_path / "run", size=None, resize=None, bicubic=None)
    train(bare, tmp_path / "on", quiet=True)
    kept = read_recipe(tmp_path / "on")
    assert (kept.size, kept.resize, kept.crop, kept.bicubic, kept.channels) == (16, 20, None, True, 3)
    train(dataclasses.replace(bare, crop=0.5), tmp_path / "cropped", quiet=True)
    cropped = read_recipe(tmp_path / "cropped")
    assert (cropped.size, cropped.resize, cropped.crop) == (16, None, 0.5), "what is given stays"


def test_as_many_other_classes_are_no_start_and_no_teacher(tmp_path: Path) -> None:
    train(of_folder(tmp_path / "set", ("a", "b"), size=16), tmp_path / "run", quiet=True)
    other = of_folder(tmp_path / "other", ("a", "c"), size=16)
    for changes, role in (({"start": tmp_path / "run"}, "run"), ({"distil": Distil(str(tmp_path / "run"))}, "teacher")):
        with pytest.raises(DataError, match=rf"class 1 of .* is 'c', the {role} .* was trained on 'b' there; give"):
            train(dataclasses.replace(other, **changes), tmp_path / f"on {role}", quiet=True)
        assert not (tmp_path / f"on {role}" / "checkpoints").exists()


def test_a_teacher_sees_images_as_it_was_trained_on_them(run: Path) -> None:
    recipe = tiny(distil=Distil(str(run)))
    data = open_both(recipe)
    teacher, opened = teacher_of(recipe, data, torch.device("cpu")), load_run(run)
    assert teacher is not None
    theirs, _ = next(iter(opened.loader()))
    seen, _ = next(iter(dataclasses.replace(opened, mean=data.mean, std=data.std).loader()))
    with torch.no_grad():
        scores, wrong = opened.net(theirs)[0], opened.net(seen)[0]
    laws.close(teacher(seen), scores)
    assert not torch.allclose(wrong, scores, atol=0.1), "it matters"


def test_a_teacher_normalised_alike_is_given_the_very_images(run: Path) -> None:
    recipe = tiny(distil=Distil(str(run)), **OTHER)
    data: Images = open_both(recipe)
    teacher, opened = teacher_of(recipe, data, torch.device("cpu")), load_run(run)
    assert teacher is not None
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(teacher(x), opened.net(x)[0])


def test_a_finished_run_asked_for_more_epochs_is_told_how_to_go_on_before_anything_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_folder(tmp_path / "set", ("a", "b"))
    command = ["train", "finetune", "--data", str(tmp_path / "set"), "--model", "cifar_resnet14", "--size", "16"]
    command += ["--batch", "4", "--method", "none", "--workers", "1"]
    out = tmp_path / "run"
    assert cli.main([*command, "--epochs", "1", "--out", str(out)]) == 0
    assert "RANDOM WEIGHTS" in capsys.readouterr().err
    assert cli.main([*command, "--epochs", "2", "--out", str(out)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "RANDOM WEIGHTS" not in said
    assert "epochs: 1 -> 2" in said
    assert f"with --no-finetune --start {out} and a new --out" in said
    more = ["--no-finetune", "--start", str(out), "--out", str(tmp_path / "on")]
    assert cli.main([*command, "--epochs", "2", *more, "--mean", "0.5", "0.5", "0.5", "--std", "1", "1", "1"]) == 1
    assert "--mean None --std None" in " ".join(capsys.readouterr().err.split())
    assert cli.main([*command, "--epochs", "2", *more, "--mean", "None", "--std", "None"]) == 0
