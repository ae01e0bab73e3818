"""``torchpaths cut RUN --silent``: a run folder that every verb reads, and that runs start from."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import laws
import torchpaths as tp
from narrow_toys import tilt
from torchpaths import cli
from torchpaths.costs import count_params
from torchpaths.cuts import load_cut
from torchpaths.data import open_data
from torchpaths.errors import RunError
from torchpaths.files.write import write_json
from torchpaths.train.folder import build, load_run
from torchpaths.train.narrowed import read_left
from torchpaths.train.run import train
from train_toys import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a network with gated filters with weights by chance, as training leaves one."""
    folder = tmp_path_factory.mktemp("silent") / "run"
    folder.mkdir()
    images = open_data("digits", "test")
    recipe = tiny(method=tp.GatedFilters(), model="cifar_resnet14")
    net = build(recipe, images.classes, images.shape)
    tilt(net)
    data = {"name": "digits", "classes": images.classes, "shape": images.shape, "mean": images.mean, "std": images.std}
    write_json(folder / "recipe.json", recipe.to_json())
    write_json(folder / "run.json", {"data": data})
    save_file(net.state_dict(), folder / "weights.safetensors")
    return folder


@pytest.fixture(scope="module")
def answered(run: Path) -> dict[str, Any]:
    """What the command says; the folder is beside the run."""
    with pytest.MonkeyPatch.context() as patch:
        said: list[dict[str, Any]] = []
        patch.setattr("torchpaths.cli.silent.emit", said.append)
        assert cli.main(["cut", str(run), "--silent", "--out", str(run.parent / "narrow"), "--json"]) == 0
    return said[0]


@pytest.fixture(scope="module")
def narrow(run: Path, answered: dict[str, Any]) -> Path:
    return run.parent / "narrow"


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert cli.main(list(map(str, arguments))) == 1
    return capsys.readouterr().err


def test_what_is_printed_is_what_was_done(run: Path, narrow: Path, answered: dict[str, Any]) -> None:
    before, after = load_run(run).net, load_run(narrow).net
    assert json.loads(json.dumps(answered)) == answered
    assert answered["split"] == "train"
    assert answered["before"]["params"] == count_params(before) > answered["after"]["params"] == count_params(after)
    assert answered["before"]["accuracy"] == answered["after"]["accuracy"]
    assert answered["before"]["macs"] > answered["after"]["macs"]
    counts = answered["filters"]
    assert counts["filters"] == sum(len(s.units) for s in before.sites.values())
    assert counts["removed"] == counts["filters"] - sum(len(s.units) for s in after.sites.values()) > 0
    assert counts["removed"] + counts["without_gate"] + counts["dynamic"] == counts["filters"]
    assert counts == {what: sum(stage[what] for stage in answered["stages"].values()) for what in counts}
    assert list(answered["stages"]) == ["layer1", "layer2", "layer3"]


def test_the_folder_s_network_is_the_whole_one_on_training_images(run: Path, narrow: Path) -> None:
    whole, small = load_run(run), load_run(narrow)
    for (x, _), _ in zip(whole.loader("train"), range(2), strict=False):
        with torch.no_grad():
            laws.close(small.net(x)[0], whole.net(x)[0])
    assert sorted(p.name for p in narrow.iterdir()) == [
        "narrowed.json",
        "recipe.json",
        "run.json",
        "weights.safetensors",
    ]


def test_tables_fit_eighty_columns(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = run.parent / "printed"
    assert cli.main(["cut", str(run), "--silent", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert max(len(line) for line in said.splitlines() if not line.startswith("wrote")) <= 80
    assert "without gate" in said
    assert "images of the train split" in said
    assert f"wrote {out}" in said


@pytest.mark.parametrize("verb", ["evaluate", "survey"])
def test_verbs_read_the_folder(
    verb: str, narrow: Path, answered: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    more = ["--out", str(tmp_path)] if verb == "survey" else []
    assert cli.main([verb, str(narrow), "--split", "train", *more, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["accuracy"] == answered["after"]["accuracy"]
    assert said["macs"] == answered["after"]["macs"]


def test_a_path_of_it_is_cut_and_read_by_who_knows_nothing_of_narrowing(narrow: Path, tmp_path: Path) -> None:
    small = load_run(narrow)
    path = laws.random_path(small.net)
    (tmp_path / "path.json").write_text(path.to_json())
    assert cli.main(["cut", str(narrow), "--path", str(tmp_path / "path.json"), "--out", str(tmp_path / "out")]) == 0
    x = next(iter(small.loader()))[0][:4]
    made = load_cut(tmp_path / "out")
    with torch.no_grad():
        laws.close(made(x), small.net(x, path)[0])
    assert count_params(made) == path.cost(laws.Undecided(small.net)).params


def test_it_is_narrowed_again(narrow: Path, tmp_path: Path) -> None:
    assert cli.main(["cut", str(narrow), "--silent", "--out", str(tmp_path / "again")]) == 0
    first, second = load_run(narrow), load_run(tmp_path / "again")
    assert first.left == second.left  # the same images open the same filters
    assert {k: tuple(v.shape) for k, v in first.net.state_dict().items()} == {
        k: tuple(v.shape) for k, v in second.net.state_dict().items()
    }


def test_a_run_starts_from_it_and_stays_as_narrow(narrow: Path, tmp_path: Path) -> None:
    recipe = tiny(method=tp.GatedFilters(sparse=0.0), model="cifar_resnet14", start=narrow, lr=0.01)
    summary = train(recipe, tmp_path / "finer", quiet=True)
    assert summary["steps"] == 5
    first, trained = load_run(narrow), load_run(tmp_path / "finer")
    assert trained.left == first.left
    weights = [(a, b) for a, b in zip(first.net.parameters(), trained.net.parameters(), strict=True) if a.dim() > 1]
    assert all(a.shape == b.shape and not torch.equal(a, b) for a, b in weights)
    assert load_run(tmp_path / "finer", "last").left == first.left
    assert train(recipe, tmp_path / "finer", quiet=True) == summary  # it is done
    assert read_left(tmp_path / "finer") == first.left


def test_a_run_starts_from_one_that_was_not_narrowed(run: Path) -> None:
    opened = load_run(run)
    recipe = dataclasses.replace(opened.recipe, start=run, seed=3)
    net = build(recipe, opened.classes, (8, 8, 1))
    assert net.training
    state = opened.net.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": "cifar_resnet20"},
            "holds a cifar_resnet14 with GatedFilters for 10 .* is to be a cifar_resnet20 with",
        ),
        ({"method": tp.GatedBlocks()}, "is to be a cifar_resnet14 with GatedBlocks for"),
        ({"size": 12}, "images 1x8x8, this run is to be a .* 1x12x12"),
    ],
)
def test_a_run_does_not_start_from_another_network(
    changes: dict[str, Any], message: str, narrow: Path, tmp_path: Path
) -> None:
    recipe = tiny(**{"method": tp.GatedFilters(), "model": "cifar_resnet14", "start": narrow, **changes})
    with pytest.raises(RunError, match=message):
        train(recipe, tmp_path / "other", quiet=True)


def test_a_run_starts_from_one_thing() -> None:
    with pytest.raises(RunError, match="leave out weights and twin"):
        tiny(start=Path("run"), weights=Path("weights"))


def test_training_does_not_write_into_a_narrowed_network_s_folder(narrow: Path) -> None:
    recipe = load_run(narrow).recipe
    kept = (narrow / "weights.safetensors").read_bytes()
    with pytest.raises(RunError, match="holds a narrowed network; train it further into a new folder, with --start"):
        train(recipe, narrow, quiet=True)
    assert (narrow / "weights.safetensors").read_bytes() == kept


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: {**d, "schema": "torchpaths.narrowed/9"}, "schema 'torchpaths.narrowed/9', this version reads"),
        (
            lambda d: {"schema": d["schema"]},
            "missing required field `sites`; make it anew with torchpaths cut",
        ),
        (lambda d: {**d, "sites": [1]}, "sites: Expected `object`, got `array`"),
        (lambda d: edited(d, units=[3, 1]), r"site 'layer1.0.conv1': units \(3, 1\) of 16"),
        (
            lambda d: edited(d, units=None),
            "site 'layer1.0.conv1': units: Expected `array`, got `null`; narrow the run",
        ),
        (lambda d: edited(d, gated=[99]), r"gated \(99,\): give some of the units"),
        (lambda d: edited(d, of=17), "does not fit the network of its recipe .*17 filters at 'layer1.0.conv1'"),
        (lambda d: {**d, "sites": {"x": d["sites"]["layer1.0.conv1"]}}, "does not fit the network of its recipe"),
        (lambda d: {**d, "sites": {}}, "the weights in .* do not fit the network"),
        (lambda d: [d], "schema 'list', this version reads"),
    ],
)
def test_a_file_that_was_edited_is_explained(change: Any, message: str, narrow: Path, tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    shutil.copytree(narrow, folder)
    file = folder / "narrowed.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(RunError, match=message):
        load_run(folder)


def edited(data: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The first site changed."""
    return {**data, "sites": {**data["sites"], "layer1.0.conv1": {**data["sites"]["layer1.0.conv1"], **changes}}}


def test_a_file_that_was_cut_short_is_explained(narrow: Path, tmp_path: Path) -> None:
    folder = tmp_path / "short"
    shutil.copytree(narrow, folder)
    file = folder / "narrowed.json"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(RunError, match=r"not JSON .* cut short"):
        load_run(folder)


def test_what_makes_no_sense_is_explained_and_nothing_is_written(
    run: Path, narrow: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "out")
    assert "leave out --silent, budgets" in complaint(capsys, "cut", run, "--silent", "--path", "p", *out)
    assert "--silent says what to keep" in complaint(capsys, "cut", run, "--silent", "--budget-macs", 0.5, *out)
    assert "is there already and not empty" in complaint(capsys, "cut", run, "--silent", "--out", narrow)
    plain = tmp_path / "plain"
    shutil.copytree(run, plain)
    recipe = dataclasses.replace(load_run(run).recipe, method=tp.GatedBlocks())
    images = open_data("digits", "test")
    write_json(plain / "recipe.json", recipe.to_json())
    save_file(build(recipe, images.classes, images.shape).state_dict(), plain / "weights.safetensors")
    assert "has no site of filters" in complaint(capsys, "cut", plain, "--silent", *out)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["plain"]


def test_a_full_disk_leaves_nothing_behind(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("torchpaths.train.narrowed.write_file", full)
    said = complaint(capsys, "cut", run, "--silent", "--out", tmp_path / "out")
    assert "the disk is full" in said
    assert "nothing was written" in said
    assert list(tmp_path.iterdir()) == []
