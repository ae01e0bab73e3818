"""The verbs ``measure`` and ``front``: what they write and print, and what they say of mistakes. No time is tested."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import torchpaths as tp
from torchpaths import cli
from torchpaths.meter import allocator
from torchpaths.train.folder import load_run
from torchpaths.train.run import train
from train_toys import tiny
from verbs import answer, complaint, without_images

QUICK = ["--seconds", "0.01", "--batch", "16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gated run of one epoch on digits."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    train(tiny(method=tp.GatedBlocks()), folder, quiet=True)
    return folder


def test_measuring_a_run_gives_the_masked_and_the_skipping_network(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answered = answer(capsys, "measure", run, *QUICK, "--threads", 1, "--json")
    masked, skipping = answered["rows"]
    assert (masked["label"], skipping["label"]) == ("masked", "skipping")
    assert {(r["batch"], r["threads"], r["dtype"], r["memory_format"]) for r in answered["rows"]} == {
        (16, 1, "float32", "contiguous")
    }
    assert masked["macs"] > masked["plain_macs"] == 16 * load_run(run).net.layout.plain.macs
    assert skipping["macs"] < 1.01 * masked["macs"], "it may look at gates whose blocks it then leaves out"
    assert masked["plain_ms"] == skipping["plain_ms"], "all in one run"
    assert answered["images"] == "images of digits, test split"


def test_a_path_is_measured_as_it_is_run_and_cut_out(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    net = load_run(run).net
    path = tp.Path({site: [i % 2 == 0] for i, site in enumerate(net.sites)}, net.layout.fingerprint)
    file = tmp_path / "path.json"
    file.write_text(path.to_json())
    rows = {r["label"]: r for r in answer(capsys, "measure", run, *QUICK, "--path", file, "--json")["rows"]}
    assert list(rows) == ["masked", "skipping", "path, skipping", "path, cut"]
    image = torch.zeros(1, *net.example_shape)
    assert rows["path, cut"]["macs"] == rows["path, skipping"]["macs"] == 16 * tp.cost(net, image, path).macs
    assert rows["path, skipping"]["path"]["sites"]["layer1.1"] == [0]


def test_precision_and_memory_format_can_be_chosen(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--dtype", "bf16", "--memory-format", "channels_last"]
    rows = answer(capsys, "measure", run, *QUICK, *asked, "--json")["rows"]
    assert {(r["dtype"], r["memory_format"]) for r in rows} == {("bfloat16", "channels_last")}


def test_memory_is_kept_where_asked_and_possible(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if platform.libc_ver()[0] == "glibc":
        rows = answer(capsys, "measure", run, *QUICK, "--keep-memory", "--json")["rows"]
        assert {row["allocator"] for row in rows} == {"glibc, kept"}
    monkeypatch.setattr(allocator, "_kept", False)
    monkeypatch.setenv("LD_PRELOAD", "libjemalloc.so.2")
    assert "memory comes from jemalloc here" in complaint(capsys, "measure", run, *QUICK, "--keep-memory")


def test_without_its_images_a_run_is_measured_on_noise_and_that_is_said(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    away = without_images(run, tmp_path / "away")
    answered = answer(capsys, "measure", away, *QUICK, "--json")
    assert answered["images"].startswith("noise: the run's images (gone/cifar10) are not here")
    assert len(answered["rows"]) == 2
    assert "gone/cifar10" in complaint(capsys, "measure", away, *QUICK, "--data", "gone/cifar10")
    assert "gone/cifar10" in complaint(capsys, "front", away)


def test_people_get_a_table_of_what_was_measured_and_on_what(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["measure", str(run), *QUICK]) == 0
    out = capsys.readouterr().out
    assert "CifarResNet beside the plain network" in out
    assert [line.split()[0] for line in out.splitlines() if "." in line and line.split()[0] in ("masked", "skipping")]
    assert "on images of digits, test split" in out


def test_a_front_is_written_beside_the_run_and_drawn(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answered = answer(capsys, "front", run, *QUICK, "--limit", 100, "--subset", 40, "--threads", 1, "--json")
    opened = load_run(run)
    front = tp.Front.load(run, opened.net)
    assert (front.name, front.dataset, front.split) == ("cifar_resnet20", "digits", "test")
    assert (front.images, front.searched) == (100, 40)
    assert [Path(f).name for f in answered["files"]] == ["front.json", "front.png", "front.svg"]
    assert all(Path(f).is_file() for f in answered["files"])
    assert answered["points"] == front.to_json()["points"]
    assert front.profiles[0].setting.threads == 1
    with Image.open(run / "figures" / "front.png") as picture:
        assert picture.width > 1000


def test_of_a_front_people_get_the_menu(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["front", str(run), *QUICK, "8", "--limit", "50", "--subset", "30"]) == 0
    out = capsys.readouterr().out
    front = tp.Front.load(run, load_run(run).net)
    assert [p.setting.batch for p in front.profiles] == [16, 8]
    assert "batch 16 of 1x8x8" in out
    assert "batch 8 of 1x8x8" in out, "a table for each batch"
    assert f"everything open {front.accuracy:.2%}" in out
    assert "front-batch-8.png" in out


def test_mistakes_are_one_line(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no run folder" in complaint(capsys, "measure", tmp_path)
    assert "no run folder" in complaint(capsys, "front", tmp_path)
    assert "--batch 0: give batches" in complaint(capsys, "measure", run, "--batch", 0)
    assert "batch=(0,): times need" in complaint(capsys, "front", run, "--batch", 0)
    assert "--limit 0" in complaint(capsys, "front", run, "--limit", 0)
    assert "subset=0" in complaint(capsys, "front", run, "--subset", 0)
    assert "threads=0" in complaint(capsys, "measure", run, "--threads", 0)
    assert "none.json" in complaint(capsys, "measure", run, "--path", tmp_path / "none.json")
    (tmp_path / "other.json").write_text(tp.Path({"layer1.0": [True]}, "00ff").to_json())
    assert "made for network 00ff" in complaint(capsys, "measure", run, *QUICK, "--path", tmp_path / "other.json")
    larger = tmp_path / "larger"
    for name in range(10):
        (larger / "test" / str(name)).mkdir(parents=True)
        Image.fromarray(np.full((12, 12), 99, np.uint8)).save(larger / "test" / str(name) / "one.png")
    assert "(12, 12, 1)" in complaint(capsys, "front", run, "--data", larger)
