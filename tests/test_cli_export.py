"""The verb ``export``: what it writes and prints, and what it says of mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import torchpaths as tp
from export_toys import run as run_file
from torchpaths import cli
from torchpaths.train.folder import Run, load_run
from torchpaths.train.run import train
from train_toys import tiny
from verbs import complaint, without_images


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch on digits with three gates: tracing takes most of a second for each."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    method = tp.GatedBlocks(sites=("layer1.0", "layer1.1", "layer3.2"))
    train(tiny(method=method), folder, quiet=True)
    return folder


@pytest.fixture(scope="module")
def opened(run: Path) -> Run:
    return load_run(run)


def path_file(opened: Run, folder: Path, **chosen: bool) -> Path:
    """A path of the run's network in a file; what is not named stays open."""
    file = folder / "path.json"
    sites = {site: [chosen.get(site.replace(".", "_"), True)] for site in opened.net.sites}
    file.write_text(tp.Path(sites, opened.net.layout.fingerprint).to_json())
    return file


def test_a_runs_network_is_written_and_gives_the_same_for_its_images(
    run: Path, opened: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "made" / "net.pt2"
    assert cli.main(["export", str(run), "--out", str(file), "--batch", "any", "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (answer["folder"], answer["file"]) == (str(run), str(file))
    assert (answer["format"], answer["batch"], answer["outputs"]) == ("torch", "any", ["y", "open"])
    assert answer["difference"] <= 1e-5
    assert answer["units"] == [unit.name for unit in opened.net.layout.units]
    assert (tuple(answer["mean"]), tuple(answer["std"])) == (opened.mean, opened.std)
    assert tuple(answer["classes"]) == opened.classes
    x = next(iter(opened.loader()))[0][:5]
    with torch.no_grad():
        y, trace = opened.net(x)
    got, units = run_file(file, x)
    torch.testing.assert_close(got, y, rtol=1e-5, atol=1e-5)
    assert torch.equal(units, torch.cat([trace[site].open for site in opened.net.sites], 1))


def test_people_are_told_what_the_file_takes_gives_and_what_was_not_checked(
    run: Path, opened: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["export", str(run), "--out", str(tmp_path / "net.pt2")]) == 0
    shown = capsys.readouterr().out
    assert f"wrote {tmp_path / 'net.pt2'} (torch): x -> y, open; takes single images" in shown
    assert f"x: 1 x 8 x 8, scaled to 0..1, less mean {opened.mean[0]:.4g}, over std {opened.std[0]:.4g}" in shown
    assert "differs from the network by" in shown
    assert "units were open for all images it was checked on, or for none: layer1.0, " in shown


def test_a_path_fixes_what_it_names(run: Path, opened: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = path_file(opened, tmp_path, layer1_1=False, layer3_2=False)
    file = tmp_path / "cut.pt2"
    assert cli.main(["export", str(run), "--out", str(file), "--path", str(path)]) == 0
    assert "x -> y; takes single images" in capsys.readouterr().out
    x = next(iter(opened.loader()))[0][:1]
    with torch.no_grad():
        expected, _ = opened.net(x, tp.Path.from_json(path.read_text()))
    torch.testing.assert_close(run_file(file, x)[0], expected, rtol=1e-5, atol=1e-5)


def test_without_its_images_a_run_is_exported_with_noise(
    run: Path, opened: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = without_images(run, tmp_path / "away")
    path = path_file(opened, tmp_path)
    assert cli.main(["export", str(away), "--out", str(tmp_path / "net.pt2"), "--path", str(path)]) == 0
    assert (tmp_path / "net.pt2").is_file()
    said = complaint(capsys, "export", away, "--out", tmp_path / "other.pt2", "--data", "gone/cifar10")
    assert "gone/cifar10" in said


def test_mistakes_are_one_line(run: Path, opened: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no run folder" in complaint(capsys, "export", tmp_path, "--out", tmp_path / "net.pt2")
    assert "end it in one of .onnx (onnx)" in complaint(capsys, "export", run, "--out", tmp_path / "net.bin")
    said = complaint(capsys, "export", run, "--out", tmp_path / "net.pt2", "--path", tmp_path / "none.json")
    assert "No such file" in said
    file = tmp_path / "path.json"
    file.write_bytes(b"\xff\xfe")
    assert "no path: not JSON" in complaint(capsys, "export", run, "--out", tmp_path / "net.pt2", "--path", file)
    file.write_text(tp.Path({"layer1.0": [True]}, "00ff").to_json())
    assert "made for network 00ff" in complaint(capsys, "export", run, "--out", tmp_path / "net.pt2", "--path", file)
    with torch.no_grad():
        trace = opened.net(next(iter(opened.loader()))[0][:3])[1]
    file.write_text(tp.Path.of(trace).to_json())
    assert "take one sample's: path[0]" in complaint(
        capsys, "export", run, "--out", tmp_path / "net.pt2", "--path", file
    )
    assert [p.name for p in tmp_path.iterdir()] == ["path.json"]


def test_int8_is_made_with_the_runs_images_and_what_was_found_is_told(
    run: Path, opened: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    path = path_file(opened, tmp_path, layer1_1=False)
    asked = ["export", str(run), "--out", str(tmp_path / "net.onnx"), "--path", str(path), "--int8", "static"]
    assert cli.main(asked) == 0
    shown = capsys.readouterr().out
    assert "int8, static, made with 128 images: " in shown
    assert "against the float file on 128 images: " in shown
    assert "of top classes are the same, largest difference " in shown
    assert cli.main([*asked, "--force", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["int8"]
    assert found["integer_layers"] == found["layers"] > 0
    assert found["decisions"] is None
    assert found["size"] == (tmp_path / "net.onnx").stat().st_size
    away = without_images(run, tmp_path / "away")
    assert "gone/cifar10" in complaint(capsys, "export", away, "--out", tmp_path / "other.onnx", "--int8", "static")
