"""Options that would have no effect are refused in words, and those that verbs share have one."""

from __future__ import annotations

import json
import shlex
import socket
from pathlib import Path

import pytest
from PIL import Image

import torchpaths as tp
from torchpaths import cli
from torchpaths.cli import MISUSED
from torchpaths.data import open_data
from torchpaths.train.run import train
from train_toys import tiny
from verbs import answer, briefly, complaint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gated run of one epoch on digits, surveyed, with a picture of one digit in it."""
    folder = tmp_path_factory.mktemp("unused") / "run"
    train(tiny(method=tp.GatedBlocks()), folder, quiet=True)
    Image.fromarray(open_data("digits", "test").read([0])[0, ..., 0]).save(folder / "digit.png")
    assert cli.main(["survey", str(folder)]) == 0
    return folder


UNUSED = {
    "explore, data": "explore RUN --out RUN/p.html --data digits",
    "explore, the default split": "explore RUN --out RUN/p.html --split test",
    "explore, weights": "explore RUN --out RUN/p.html --weights=best",
    "explore, as Python spells it": "explore RUN --out RUN/p.html --skip_corrupt",
    "explore, method": "explore RUN --out RUN/p.html --method torchpaths:GatedBlocks",
    "explore, port": "explore RUN --out RUN/p.html --port 8000",
    "predict, data": "predict RUN RUN/digit.png --data digits",
    "predict, split": "predict RUN RUN/digit.png --split train",
    "predict, style": "predict RUN RUN/digit.png --style paper",
    "survey, style": "survey RUN --style paper",
    "survey, images alone": "survey RUN --alone-images 20",
    "survey, batch": "survey RUN --batch 2",
    "survey, attack": "survey RUN --attack 4/255",
    "attack, steps of nobody": "attack RUN --adaptive-images 0 --adaptive-steps 100",
    "cut, data of a path": "cut RUN --path RUN/path.json --out RUN/cut --data digits",
    "cut, split of a point": "cut RUN --point 1 --out RUN/cut --split train",
    "cut, calibrated on test images": "cut RUN --calibrate --out RUN/cut --split test",
    "cut, silent on test images": "cut RUN --silent --out RUN/cut --split test",
    "export, int8 of a split": "export RUN --out RUN/net.onnx --int8 static --split validation",
}


@pytest.mark.parametrize("case", UNUSED)
def test_what_has_no_effect_is_refused_with_what_to_do(
    run: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(run.iterdir())
    assert cli.main(UNUSED[case].replace("RUN", str(run)).split()) == MISUSED
    told = " ".join(capsys.readouterr().err.split())
    assert "leave it out" in told or "without" in told or "leave one of them out" in told or "give train" in told
    assert sorted(run.iterdir()) == before


USED = {
    "predict": "predict RUN RUN/digit.png --label 3 --data digits --split test --json",
    "survey": "survey RUN --out RUN/again --times --batch 2 --json",
    "cut": "cut RUN --label 3 --split train --data digits --out RUN/cut --json",
    "calibrate": "cut RUN --calibrate --data digits --skip-corrupt --out RUN/calibrated --json",
}


@pytest.mark.parametrize("case", USED)
def test_the_same_options_are_taken_where_they_mean_something(
    run: Path, case: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    briefly(monkeypatch)
    assert answer(capsys, *USED[case].replace("RUN", str(run)).split())


def test_a_damaged_image_is_left_out_and_counted_where_that_is_asked_for(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes((run / "digit.png").read_bytes())
    (tmp_path / "b.png").write_text("no picture")
    assert "b.png is no image" in complaint(capsys, "predict", run, tmp_path)
    told = answer(capsys, "predict", run, tmp_path, "--skip-corrupt", "--json")
    assert [Path(one["file"]).name for one in told["images"]] == ["a.png", "c.png"]
    assert told["corrupt"] == 1
    assert cli.main(["predict", str(run), str(tmp_path), "--skip-corrupt"]) == 0
    assert "left out: 1 that cannot be decoded" in capsys.readouterr().out
    assert "none of 1 files" in complaint(capsys, "predict", run, tmp_path / "b.png", "--skip-corrupt")


def test_a_page_is_not_served_with_other_images_than_its_survey_is_of(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    said = complaint(capsys, "explore", run, "--split", "train")
    assert "serve it with --split test" in said


def test_a_served_page_says_where_as_json(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    uvicorn = pytest.importorskip("uvicorn")
    served: list[tuple[str, int]] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda _, sockets: served.extend(s.getsockname() for s in sockets))
    assert cli.main(["explore", str(run), "--port", "0", "--json"]) == 0
    [(host, port)] = served
    assert json.loads(capsys.readouterr().out)["address"] == f"http://{host}:{port}/"


def test_a_port_that_is_taken_is_an_error_before_an_address_is_printed(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        said = complaint(capsys, "explore", run, "--port", taken.getsockname()[1])
    assert "is taken by another program; choose another --port" in said
    assert "http://" not in said


FRONT = ["front", "--limit", "20", "--subset", "20", "--seconds", "0.01", "--batch", "16"]


@pytest.mark.parametrize("verb", [["survey"], FRONT], ids=lambda verb: verb[0])
def test_a_page_that_grew_old_is_told_with_a_command_that_makes_it_anew(
    run: Path, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    page = run / "explorer.html"
    page.unlink(missing_ok=True)
    assert cli.main([verb[0], str(run), *verb[1:]]) == 0
    assert "explorer.html" not in capsys.readouterr().out
    page.write_text("old")
    assert cli.main([verb[0], str(run), *verb[1:]]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "is older than" in line]
    assert cli.main(shlex.split(line.partition("anew: torchpaths ")[2])) == 0
    assert page.read_text() != "old"
