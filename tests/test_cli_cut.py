"""``torchpaths cut``: what it chooses, writes and prints, and what it says of mistakes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import torchpaths as tp
from torchpaths import cli
from torchpaths.cuts import Spec, load_cut
from torchpaths.data import open_data
from torchpaths.files.write import write_json
from torchpaths.fronts import Front, Point
from torchpaths.train.folder import Run, build, load_run
from train_toys import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a gated network with weights by chance, as training leaves one."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    folder.mkdir()
    images = open_data("digits", "test")
    recipe = tiny(method=tp.GatedBlocks(), model="cifar_resnet20")
    net = build(recipe, images.classes, images.shape)
    for gate in net.deciders.modules():
        if isinstance(gate, tp.Gate):
            torch.nn.init.normal_(gate.fc2.weight, std=5.0)
            torch.nn.init.zeros_(gate.fc2.bias)
    data = {"name": "digits", "classes": images.classes, "shape": images.shape, "mean": images.mean, "std": images.std}
    write_json(folder / "recipe.json", recipe.to_json())
    write_json(folder / "run.json", {"data": data})
    save_file(net.state_dict(), folder / "weights.safetensors")
    return folder


@pytest.fixture(scope="module")
def opened(run: Path) -> Run:
    return load_run(run)


@pytest.fixture(scope="module")
def surveyed(run: Path, opened: Run) -> tp.Survey:
    """The run's survey, also saved beside it."""
    found = tp.survey(opened.net, opened.loader(), classes=opened.classes)
    found = dataclasses.replace(found, split="test")
    found.save(run)
    return found


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    capsys.readouterr()
    assert cli.main(["cut", *map(str, arguments), "--json"]) == 0
    answered: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answered


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert cli.main(["cut", *map(str, arguments)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("error:") == 1
    return " ".join(err.split())


def kept(spec: Spec) -> dict[str, bool]:
    return {site: opened for site, (opened,) in spec.path.items()}


def test_a_path_from_a_file_is_cut_out_of_the_runs_network(
    run: Path, opened: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = opened.net
    path = tp.Path({site: i % 2 == 0 for i, site in enumerate(net.sites)}, net.layout.fingerprint)
    (tmp_path / "path.json").write_text(path.to_json())
    out = tmp_path / "made" / "out"
    assert cli.main(["cut", str(run), "--path", str(tmp_path / "path.json"), "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    spec = Spec.read(out)
    assert spec.path == path
    assert "cifar_resnet20: 5 of 9 units kept" in shown
    assert f"({spec.cut.macs / spec.plain.macs:.1%})" in shown
    assert spec.build in shown
    x = next(iter(opened.loader()))[0][:8]
    with torch.no_grad():
        assert torch.equal(load_cut(out)(x), net(x, path)[0])
    assert (spec.classes, spec.mean, spec.std) == (opened.classes, opened.mean, opened.std)


def test_a_budget_is_filled_by_the_units_that_images_open_most_and_deciders_take_nothing_of_it(
    run: Path, surveyed: tp.Survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answered = answer(capsys, run, "--budget-open", 0.5, "--out", tmp_path / "open")
    assert (answered["folder"], answered["out"]) == (str(run), str(tmp_path / "open"))
    spec = Spec.read(tmp_path / "open")
    assert kept(spec) == {s: o for s, (o,) in surveyed.path(budget=tp.Budget(open=0.5)).items()}
    assert sum(kept(spec).values()) == 4
    # Exactly what everything costs without deciders: with theirs counted, something would have to go.
    answer(capsys, run, "--budget-macs", spec.plain.macs, "--out", tmp_path / "all")
    whole = Spec.read(tmp_path / "all")
    never = {unit.site for unit, rate in zip(surveyed.layout.units, surveyed.rates, strict=True) if rate == 0}
    assert {site for site, opened in kept(whole).items() if not opened} == never
    share = 0.5
    answered = answer(capsys, run, "--budget-macs", share, "--out", tmp_path / "macs")
    assert answered["cut"]["macs"] <= share * answered["plain"]["macs"]


def test_a_class_is_cut_by_what_its_images_open(
    run: Path, surveyed: tp.Survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(capsys, run, "--label", surveyed.classes[7], "--out", tmp_path / "out")
    assert kept(Spec.read(tmp_path / "out")) == {s: o for s, (o,) in surveyed.path(7).items()}


def test_without_a_saved_survey_of_that_split_the_images_are_surveyed(
    run: Path, opened: Run, surveyed: tp.Survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cut", str(run), "--label", "3", "--out", str(tmp_path / "saved")]) == 0
    assert f"chosen by {run / 'survey.json'}" in capsys.readouterr().out
    assert cli.main(["cut", str(run), "--label", "3", "--split", "train", "--out", str(tmp_path / "new")]) == 0
    assert "chosen by what 1," in capsys.readouterr().out
    found = tp.survey(opened.net, opened.loader("train"), classes=opened.classes)
    assert kept(Spec.read(tmp_path / "new")) == {s: o for s, (o,) in found.path(3).items()}


def test_who_fills_a_budget_is_told_and_how_the_other_is_asked(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["cut", str(run), "--budget-macs", "0.7", "--out"]
    assert cli.main([*asked, str(tmp_path / "rates")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert f"{run / 'survey.json'}: the units opened most often within the budget, whatever that does to acc" in told
    assert f"for the most accurate that was measured: torchpaths front {run}, then --front {run / 'front.json'}" in told
    assert cli.main([*asked, str(tmp_path / "class"), "--label", "3"]) == 0
    told = capsys.readouterr().out
    assert "whatever that does to accuracy\n" in told, "a front knows no classes"


def test_a_front_chooses_the_most_accurate_path_within_the_budget(
    run: Path, opened: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = opened.net
    paths = [tp.Path({s: i < n for i, s in enumerate(net.sites)}, net.layout.fingerprint) for n in (2, 5, 9)]
    points = [
        Point("greedy", p, accuracy=a, macs=p.cost(net).macs, open=0.5)
        for p, a in zip(paths, (0.3, 0.5, 0.9), strict=True)
    ]
    gates = Point("threshold", None, 0.0, accuracy=0.95, macs=points[0].macs, open=0.5)
    Front(net.layout, (*points, gates), (), 0.9, 10).save(tmp_path)
    budget = points[1].macs / net.layout.plain.macs + 0.001
    answer(capsys, run, "--budget-macs", budget, "--front", tmp_path / "front.json", "--out", tmp_path / "out")
    assert Spec.read(tmp_path / "out").path == paths[1]
    said = complaint(capsys, run, "--budget-ms", 5, "--out", tmp_path / "ms")
    assert "front.json" in said
    said = complaint(capsys, run, "--budget-ms", 5, "--front", tmp_path / "front.json", "--out", tmp_path / "ms")
    assert "no times were measured" in said
    assert not (tmp_path / "ms").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing says what to keep; give --path FILE, --budget-macs 0.6 or --label CLASS, or --classes"),
        (["--front", "f"], "nothing says what to keep"),
        (["--budget-macs", "0.5", "--budget-open", "0.5"], "--budget-macs and --budget-open: give one budget"),
        (["--path", "p", "--label", "3"], "--path says what to keep; leave out budgets, --label and --front"),
        (["--budget-ms", "5", "--label", "3"], "--label: a front knows no classes, only a survey does"),
        (["--budget-open", "5"], "a share of units lies in (0, 1]"),
        (["--budget-macs", "0.001"], "what always runs in CifarResNet takes"),
        (["--label", "elephant"], "no class 'elephant' in this survey"),
        (["--label", "77"], "no class 77 in this survey: its classes are 0 to 9"),
        (["--path", "absent.json"], "absent.json cannot be read (No such file or directory)"),
    ],
)
def test_what_makes_no_sense_is_explained_and_nothing_is_written(
    arguments: list[str],
    message: str,
    run: Path,
    surveyed: tp.Survey,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert message in complaint(capsys, run, *arguments, "--out", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_none_or_for_single_images_is_explained(
    run: Path, opened: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "path.json"
    file.write_bytes(b"\xff\xfe")
    assert "no path: not JSON" in complaint(capsys, run, "--path", file, "--out", tmp_path / "out")
    file.write_text("{}")
    assert "this version reads 'torchpaths.path/1'" in complaint(capsys, run, "--path", file, "--out", tmp_path / "out")
    with torch.no_grad():
        file.write_text(tp.Path.of(opened.net(next(iter(opened.loader()))[0][:3])[1]).to_json())
    assert "take one sample's: path[0]" in complaint(capsys, run, "--path", file, "--out", tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["path.json"]
