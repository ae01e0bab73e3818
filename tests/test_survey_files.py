"""Claims about surveys on disk: exact round trips, whole files or the old ones, clear errors."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

import pytest

from survey_toy import LAYOUT, Toy, loader
from test_survey_counts import assert_same
from torchpaths.errors import DataError, RunError
from torchpaths.layout import Cost
from torchpaths.surveys import Survey, survey


@pytest.fixture
def toy() -> Survey:
    found = survey(Toy(), loader(), classes=["cat", "dog", "<b>truck</b> & Ä"], keep_paths=True)
    return dataclasses.replace(found, name="ResNet-2", method=("gated",), dataset="toys", split="test")


@pytest.mark.parametrize("keep_paths", [True, False])
def test_what_is_loaded_equals_what_was_saved_bit_for_bit(
    tmp_path: pathlib.Path, toy: Survey, keep_paths: bool
) -> None:
    saved = toy if keep_paths else dataclasses.replace(toy, samples=None)
    file = saved.save(tmp_path / "new" / "folder")
    assert file == tmp_path / "new" / "folder" / "survey.json"
    found = Survey.load(tmp_path / "new" / "folder", LAYOUT)
    assert_same(saved, found)
    assert found.layout == LAYOUT
    for name in ("name", "method", "dataset", "split"):
        assert getattr(found, name) == getattr(saved, name)


def test_the_json_names_what_a_page_reads(tmp_path: pathlib.Path, toy: Survey) -> None:
    data = json.loads(toy.save(tmp_path).read_text())
    assert data["schema"] == "torchpaths.survey/2"
    assert data["network"] == {
        "name": "ResNet-2",
        "architecture": "Toy",
        "method": ["gated"],
        "dataset": "toys",
        "split": "test",
        "images": 10,
        "fingerprint": LAYOUT.fingerprint,
        "along": "free",
        "weights": toy.weights,
    }
    assert data["classes"]["images"] == [4, 6, 0]
    assert data["classes"]["accuracy"] == [0.75, 4 / 6, None]
    assert sorted(data["classes"]["order"]) == [0, 1, 2]
    assert data["sites"][2] == {
        "name": "layer2.0",
        "stage": "layer2",
        "decided_by": "input",
        "kind": "block",
        "start": 2,
        "units": 2,
    }
    assert [site["decided_by"] for site in data["sites"]] == ["outside", "input", "input"]
    assert data["units"]["macs"] == [10, 20, 30, 7]
    assert data["fixed"] == {"macs": 100, "params": 50}
    assert data["plain"] == {"macs": 160, "params": 55}
    assert data["now"]["params"] == 60
    assert data["now"]["accuracy"] == 0.7
    assert data["histogram"]["all"] == toy.histogram.sum(0).tolist()
    assert data["paths"]["distinct"] == 6
    assert data["openness"] == {"shape": [3, 4], "dtype": "uint8", "array": "opened", "divide_by": "images"}


def test_saving_the_same_survey_twice_gives_the_same_bytes(tmp_path: pathlib.Path, toy: Survey) -> None:
    contents = []
    for folder in ("a", "b"):
        toy.save(tmp_path / folder)
        contents.append({f.name: f.read_bytes() for f in (tmp_path / folder).iterdir()})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2


def test_a_file_name_is_kept_and_other_surveys_beside_it_are_left_alone(tmp_path: pathlib.Path, toy: Survey) -> None:
    toy.save(tmp_path / "clean.json")
    other = dataclasses.replace(toy, samples=None)
    other.save(tmp_path / "attacked.json")
    assert_same(Survey.load(tmp_path / "clean.json"), toy)
    assert_same(Survey.load(tmp_path / "attacked.json"), other)
    other.save(tmp_path / "clean.json")
    assert len(list(tmp_path.iterdir())) == 4, "the arrays of a survey that was replaced are removed"


def test_a_failure_while_saving_leaves_the_old_survey_whole(
    tmp_path: pathlib.Path, toy: Survey, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy.save(tmp_path)
    real = os.replace

    def full_disk(source: Any, target: Any) -> None:
        if str(target).endswith(".json"):
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(RunError, match="the disk is full"):
        dataclasses.replace(toy, samples=None).save(tmp_path)
    assert_same(Survey.load(tmp_path), toy)
    assert not list(tmp_path.glob(".*"))


def change(folder: pathlib.Path, **fields: Any) -> None:
    file = folder / "survey.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def test_another_schema_is_named_beside_the_one_that_is_read(tmp_path: pathlib.Path, toy: Survey) -> None:
    toy.save(tmp_path)
    change(tmp_path, schema="torchpaths.survey/7")
    told = r"schema 'torchpaths.survey/7', this version reads 'torchpaths.survey/2' and 'torchpaths.survey/1'"
    with pytest.raises(DataError, match=told):
        Survey.load(tmp_path)
    (tmp_path / "survey.json").write_text("[1, 2]")
    with pytest.raises(DataError, match="schema 'list'"):
        Survey.load(tmp_path)


def test_json_cut_anywhere_is_a_clear_error(tmp_path: pathlib.Path, toy: Survey) -> None:
    file = toy.save(tmp_path)
    whole = file.read_bytes()
    for end in (0, 1, len(whole) // 3, len(whole) - 3):
        file.write_bytes(whole[:end])
        with pytest.raises(DataError, match="cut short"):
            Survey.load(tmp_path)


def test_arrays_cut_changed_or_missing_are_a_clear_error(tmp_path: pathlib.Path, toy: Survey) -> None:
    toy.save(tmp_path)
    [beside] = tmp_path.glob("*.safetensors")
    whole = beside.read_bytes()
    for damaged in (whole[:-8], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        beside.write_bytes(damaged)
        with pytest.raises(DataError, match=rf"{beside.name}: not the arrays that survey.json was written with"):
            Survey.load(tmp_path)
    beside.unlink()
    with pytest.raises(DataError, match=r"arrays are missing.*copy both files"):
        Survey.load(tmp_path)


def test_no_survey_says_how_to_make_one(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="torchpaths survey RUN"):
        Survey.load(tmp_path)


def test_a_survey_of_another_network_is_refused_with_both_named(tmp_path: pathlib.Path, toy: Survey) -> None:
    toy.save(tmp_path)
    other = dataclasses.replace(LAYOUT, plain=Cost(161, 55), network="Other")
    with pytest.raises(DataError, match=rf"{LAYOUT.fingerprint} \(Toy, 4 units\), not of {other.fingerprint} \(Other"):
        Survey.load(tmp_path, other)


def test_an_edited_layout_is_noticed(tmp_path: pathlib.Path, toy: Survey) -> None:
    toy.save(tmp_path)
    units = json.loads((tmp_path / "survey.json").read_text())["units"]
    change(tmp_path, units=units | {"macs": [10, 20, 30, 8]})
    with pytest.raises(DataError, match="fingerprint"):
        Survey.load(tmp_path)
    change(tmp_path, units=units | {"macs": [10, 20, 30]})
    with pytest.raises(DataError, match="not of as many units as there are costs, 3"):
        Survey.load(tmp_path)


@pytest.mark.parametrize("field", ["network", "classes", "sites", "units", "fixed", "paths", "plain", "arrays"])
def test_a_missing_field_is_named(tmp_path: pathlib.Path, toy: Survey, field: str) -> None:
    file = toy.save(tmp_path)
    data = json.loads(file.read_text())
    del data[field]
    file.write_text(json.dumps(data))
    with pytest.raises(DataError, match=f"missing required field `{field}`"):
        Survey.load(tmp_path)
