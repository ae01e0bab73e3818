"""The verb ``predict``: what it says of images from anywhere, and of what is none."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import torchpaths as tp
from torchpaths import cli
from torchpaths.cli import MISUSED
from torchpaths.data import open_data
from torchpaths.train.evaluate import open_run
from torchpaths.train.run import train
from train_toys import tiny
from verbs import answer, complaint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gated run of one epoch on digits."""
    folder = tmp_path_factory.mktemp("predict") / "run"
    train(tiny(method=tp.GatedBlocks(), model="cifar_resnet14"), folder, quiet=True)
    return folder


@pytest.fixture
def digits(tmp_path: Path) -> list[Path]:
    """Three digits as files, one of them with an unusual name."""
    pixels = open_data("digits", "test").read([0, 100, 200])[..., 0]
    files = [tmp_path / name for name in ("0.png", "a [bold]b\n.png", "c.bmp")]
    for file, image in zip(files, pixels, strict=True):
        Image.fromarray(image).save(file)
    return files


def test_what_it_says_is_what_the_network_says(
    run: Path, digits: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    opened = open_run(run)
    images = open_data("digits", "test").read([0, 100, 200])
    x = ((torch.from_numpy(images) / 255 - opened.mean[0]) / opened.std[0]).movedim(3, 1)
    with torch.no_grad():
        logits, trace = opened.net(x)
    told = answer(capsys, "predict", run, *digits, "--json")["images"]
    assert [one["file"] for one in told] == list(map(str, digits))
    assert [one["label"] for one in told] == logits.argmax(1).tolist()
    np.testing.assert_allclose([one["confidence"] for one in told], logits.softmax(1).amax(1), rtol=1e-4)
    assert [one["macs"] for one in told] == tp.Path.of(trace).macs(opened.net).tolist()
    assert [list(one["open_by_unit"].values()) for one in told] == torch.cat(
        [d.open for d in trace.values()], 1
    ).tolist()
    assert [t["confidence"] for t in told[0]["top"]] == sorted((t["confidence"] for t in told[0]["top"]), reverse=True)


def test_an_image_is_turned_as_its_exif_says_scaled_and_read_in_the_networks_channels(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.kron(open_data("digits", "test").read([5])[0, ..., 0], np.ones((4, 4), np.uint8))
    upright = Image.fromarray(pixels).convert("RGB")
    upright.save(tmp_path / "upright.png")
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x0112] = 6  # shown turned by a quarter to the right
    turned.save(tmp_path / "turned.png", exif=exif)
    turned.save(tmp_path / "lying.png")
    files = [tmp_path / f"{name}.png" for name in ("upright", "turned", "lying")]
    one, other, lying = (i["confidence"] for i in answer(capsys, "predict", run, *files, "--json")["images"])
    assert one == other != lying


def test_people_get_a_table_and_a_picture(
    run: Path, digits: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["predict", str(run), *map(str, digits), "--out", str(tmp_path / "picture.png")]) == 0
    shown = capsys.readouterr().out
    assert "a [bold]b\\n.png" in shown, "names are shown as they are"
    assert "6 of 6" in shown
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.width > 800
    for kind, begins in (("pdf", b"%PDF"), ("svg", b"<?xml")):
        answer(capsys, "predict", run, digits[0], "--out", tmp_path / f"one.{kind}", "--json")
        assert (tmp_path / f"one.{kind}").read_bytes().startswith(begins)


def test_a_folder_stands_for_the_images_in_it_and_below(
    run: Path, digits: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "notes.txt").touch()
    deeper = tmp_path / "below" / "D.PNG"
    for copy in (deeper, tmp_path / ".hidden" / "e.png"):
        copy.write_bytes(digits[0].read_bytes())
    told = answer(capsys, "predict", run, tmp_path, digits[2], "--json")["images"]
    assert [one["file"] for one in told] == [*map(str, sorted([*digits, deeper])), str(digits[2])]
    assert cli.main(["predict", str(run), str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert str(Path("below", "D.PNG")) in said
    assert "left out: 1 that are no images" in said
    assert answer(capsys, "predict", run, tmp_path, "--json")["others"] == 1
    (tmp_path / "empty").mkdir()
    assert "is a folder without images; known file types" in complaint(capsys, "predict", run, tmp_path / "empty")


def test_what_is_no_image_is_named(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "script.jpg").write_text("%!PS-Adobe-3.0")
    os.mkfifo(tmp_path / "pipe.png")
    for name, why in (
        ("text.png", "is no image that can be read (cannot identify image file)"),
        ("empty.jpg", "is no image that can be read (it is empty)"),
        ("script.jpg", "is no image that can be read"),
        ("pipe.png", "cannot be read (no regular file)"),
        ("absent.png", "cannot be read (No such file or directory)"),
    ):
        assert f"{tmp_path / name} {why}" in complaint(capsys, "predict", run, tmp_path / name)
    assert "no image was named" in complaint(capsys, "predict", run)
    assert "no run folder" in complaint(capsys, "predict", tmp_path, tmp_path / "text.png")
    assert cli.main(["predict", str(run), "x.png", "--out", "picture.gif"]) == MISUSED
    assert "a picture ends in .png, .svg, .pdf" in capsys.readouterr().err
