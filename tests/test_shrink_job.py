"""The whole job, in Python and from the command: a trained network smaller for good, beside what it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import laws
import torchpaths as tp
from torchpaths.cli import main
from torchpaths.cuts import load_cut
from torchpaths.errors import RunError
from torchpaths.shrinking.job import CLOSED, shrink_run
from torchpaths.train.folder import load_run, read_recipe, read_seen
from torchpaths.train.run import train
from train_toys import tiny

QUICK = ["--budget-macs", "0.7", "--epochs", "1", "--images", "64", "--batch", "1", "--seconds", "0.1"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain run."""
    folder = tmp_path_factory.mktemp("runs") / "plain"
    train(tiny(lr=0.1), folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def shrunk(plain: Path) -> Path:
    """What the command made of it."""
    out = plain.parent / "small"
    assert main(["shrink", str(plain), *QUICK, "--out", str(out)]) == 0
    return out


def test_the_command_closes_trains_cuts_and_compares(shrunk: Path, plain: Path) -> None:
    found = json.loads((shrunk / "shrunk.json").read_text())
    names = [row["name"] for row in found["rows"]]
    assert names == ["original", "closed", "shrunk"]
    original, closed, small = found["rows"]
    assert closed["macs"] == small["macs"] <= 0.7 * original["macs"]
    assert closed["params"] == small["params"] < original["params"]
    recipe = read_recipe(shrunk / "run")
    assert recipe.method == tp.Fixed(closed=tuple(step["unit"] for step in found["closed"]))
    assert recipe.distil is not None
    assert recipe.distil.teacher == "start"
    assert recipe.lr == pytest.approx(read_recipe(plain).lr / 5)
    assert [row["label"] for row in found["times"]] == ["shrunk"]


def test_the_cut_network_is_the_run_along_its_path(shrunk: Path) -> None:
    run, small = load_run(shrunk / "run"), load_cut(shrunk / "cut")
    x = torch.randn(3, *run.net.example_shape)
    with torch.no_grad():
        laws.close(small(x), run.net(x)[0], 1e-4)


def test_the_same_command_goes_on_with_what_was_chosen(
    shrunk: Path, plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (shrunk / CLOSED).read_text(), (shrunk / "run/weights.safetensors").read_bytes()
    (shrunk / "shrunk.json").unlink()
    assert main(["shrink", str(plain), *QUICK, "--out", str(shrunk), "--json"]) == 0
    said = capsys.readouterr()
    assert "close layer" not in said.err, "nothing was chosen again"
    assert json.loads(said.out)["rows"][0]["name"] == "original"
    assert main(["shrink", str(plain), *QUICK, "--budget-macs", "0.8", "--out", str(shrunk)]) == 1
    assert "was begun otherwise (budget: Budget(macs=0.7) -> Budget(macs=0.8))" in " ".join(
        capsys.readouterr().err.split()
    )
    assert before == ((shrunk / CLOSED).read_text(), (shrunk / "run/weights.safetensors").read_bytes())


def test_a_model_with_weights_is_shrunk_like_a_run(plain: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pth.tar"
    net = load_run(plain).net
    torch.save(
        {"epoch": 3, "arch": "x", "state_dict": {f"module.{k}": v for k, v in net.model.state_dict().items()}}, weights
    )
    flags = [
        "--data",
        "digits",
        "--weights",
        str(weights),
        "--budget-open",
        "0.9",
        "--epochs",
        "1",
        "--images",
        "32",
        "--seconds",
        "0.1",
    ]
    assert main(["shrink", "cifar_resnet20", *flags, "--batch", "1", "--out", str(tmp_path / "small")]) == 0
    assert len(json.loads((tmp_path / "small/shrunk.json").read_text())["closed"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN"], "give one budget: --budget-macs 0.7"),
        (["RUN", "--budget-macs", "0.7", "--budget-ms", "3"], "give one budget"),
        (["RUN", "--budget-macs", "0.7", "--data", "digits"], "a run has its data, weights and normalisation"),
        (["RUN", "--budget-macs", "1"], "is within Budget(macs=1.0) already"),
        (["RUN", "--budget-macs", "0.0001"], "the cheapest path, with every unit shut"),
        (["nothing", "--budget-macs", "0.7"], "so it is a model by name, for which --data is missing"),
        (["RUN", "--budget-macs", "0.7", "--export", "x.tflite"], "x.tflite"),
        (["nothing", "--budget-macs", "0.7", "--data", "digits"], "for which --weights is missing"),
        (["EMPTY", "--budget-macs", "0.7"], "is no run folder: it has no recipe.json"),
        (["SHRUNK", "--budget-macs", "0.7"], "holds a network with Fixed; shrink a plain one"),
    ],
)
def test_what_cannot_be_shrunk_is_said(
    arguments: list[str], message: str, plain: Path, shrunk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"RUN": str(plain), "EMPTY": str(tmp_path), "SHRUNK": str(shrunk / "run")}
    out = tmp_path / "out"
    assert main(["shrink", *(places.get(a, a) for a in arguments), "--out", str(out), "--images", "8"]) == 1
    assert message in " ".join(capsys.readouterr().err.split())
    assert not out.exists(), "a start that failed leaves nothing"


def test_what_is_chosen_for_another_network_is_refused(shrunk: Path, plain: Path, tmp_path: Path) -> None:
    seen = read_seen(plain)
    changes = {"weights": plain / "weights.safetensors", "epochs": 1, "mean": seen.mean, "std": seen.std}
    recipe = read_recipe(plain).override(changes)
    (tmp_path / CLOSED).write_text((shrunk / CLOSED).read_text().replace("layer", "stage"))
    with pytest.raises(RunError, match="which this network has not; take a new folder"):
        shrink_run(recipe, tp.Budget(macs=0.7), tmp_path, images=64)
