"""Claims about a survey that processes share: parts are all images and none twice, merged they are the survey of one
process, and what does not belong together is refused with a remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import torchpaths as tp
from survey_toy import Toy, loader
from test_cli_artefacts import made
from torchpaths import cli
from torchpaths.data.part import Part
from torchpaths.errors import DataError
from torchpaths.surveys import survey
from verbs import answer, complaint


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gated run of 355 test images, its survey in ``whole`` and those of three parts in ``1`` to ``3``."""
    folder = made(tmp_path_factory.mktemp("parts") / "run", tp.GatedBlocks())
    assert cli.main(["survey", str(folder), "--out", str(folder / "whole")]) == 0
    for number in "123":
        assert cli.main(["survey", str(folder), "--part", f"{number}/3", "--out", str(folder / number)]) == 0
    return folder


def written(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_parts_merge_to_what_one_process_surveys_bit_for_bit(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [run / number for number in "312"]
    counted = [int(tp.Survey.load(part).images.sum()) for part in parts]
    assert (min(counted), max(counted), sum(counted)) == (118, 119, 355)
    merged = answer(capsys, "survey", run, "--merge", *parts, "--out", tmp_path, "--json")
    assert merged["images"] == 355
    assert written(tmp_path) == written(run / "whole")


def test_what_a_survey_measures_and_draws_is_measured_and_drawn_of_a_merged_one(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [run / number for number in "12"]
    more = ["--alone", "--alone-images", "8", "--figures", tmp_path / "figures"]
    assert cli.main([str(a) for a in ("survey", run, "--merge", *parts, *more, "--out", tmp_path)]) == 0
    assert "merged: 237 of the 355 images of digits" in capsys.readouterr().out
    assert tp.Survey.load(tmp_path).alone is not None
    assert (tmp_path / "figures" / "class-rates.png").is_file()


def changed(key: str, value: str) -> Callable[[dict[str, object]], None]:
    def change(document: dict[str, object]) -> None:
        network = document["network"]
        assert isinstance(network, dict)
        network[key] = value

    return change


FOREIGN: dict[str, tuple[Callable[[dict[str, object]], None], str]] = {
    "other weights": (changed("weights", "0" * 16), "is a survey of other weights .* give the --weights"),
    "another data set": (changed("dataset", "letters"), "over letters test, not over digits test; give --data"),
    "another split": (changed("split", "train"), "over digits train, not over digits test; give --data and --split"),
    "along a path": (changed("along", "0" * 16), "along a path that was chosen"),
    "another version": (lambda d: d.update(schema="torchpaths.survey/9"), "torchpaths.survey/9"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_surveys_of_anything_else_are_refused_by_name(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    change, message = FOREIGN[case]
    part = tmp_path / "part"
    part.mkdir()
    for name, data in written(run / "2").items():
        (part / name).write_bytes(data)
    document = json.loads((part / "survey.json").read_text())
    change(document)
    (part / "survey.json").write_text(json.dumps(document))
    told = complaint(capsys, "survey", run, "--merge", run / "1", part, "--out", tmp_path / "out")
    assert str(part) in told
    assert re.search(message, told), told
    assert not (tmp_path / "out").exists()


def test_a_survey_of_another_network_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = survey(Toy(), loader(), keep_paths=True).save(tmp_path / "other")
    told = complaint(capsys, "survey", run, "--merge", run / "1", other, "--out", tmp_path / "out")
    assert f"{other} is a survey of network" in told
    assert "4 units" in told


def test_images_that_would_count_twice_are_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("--out", tmp_path / "out")
    assert "two images have the number" in complaint(capsys, "survey", run, "--merge", run / "1", run / "whole", *out)
    assert "given twice" in complaint(capsys, "survey", run, "--merge", run / "1", run / "2" / ".." / "1", *out)
    assert "give two or more" in complaint(capsys, "survey", run, "--merge", run / "1", *out)
    assert "survey.json" in complaint(capsys, "survey", run, "--merge", run / "1", run / "none", *out)


def test_a_part_is_one_of_so_many_and_has_a_folder_of_its_own(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Part.parse("2/3") == Part(2, 3)
    for text in ("0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2", ""):
        with pytest.raises(DataError, match="part"):
            Part.parse(text)
    assert "without --out would replace" in complaint(capsys, "survey", run, "--part", "1/2")
    assert "355 images, fewer than 999 parts" in complaint(capsys, "survey", run, "--part", "1/999", "--out", tmp_path)


@pytest.mark.parametrize("more", [("--part", "1/2"), ("--limit", "3"), ("--keep", "3")])
def test_options_that_a_merged_survey_has_no_use_for_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, str]
) -> None:
    capsys.readouterr()
    assert cli.main(["survey", str(run), "--merge", str(run / "1"), str(run / "2"), *more]) == cli.MISUSED
    assert f"{more[0]}: means nothing with --merge" in capsys.readouterr().err
