"""Claims about the columns of ``torchpaths.survey/2``: what was measured comes back, what was not is absent, version 1
is read, and what cannot be is refused with its place."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from survey_toy import Toy, loader
from test_survey_files import change
from torchpaths.errors import DataError
from torchpaths.meter.setting import Setting
from torchpaths.surveys import Survey, survey
from torchpaths.surveys.columns import Alone, Attacked, FrontPoint, Shown, Times
from torchpaths.surveys.order import class_order

RECORD = pathlib.Path(__file__).resolve().parents[1] / "records" / "cifar10_resnet56" / "gated-0.6"

SETTING = Setting("cpu (made up)", "float32", 2, 8, (7,), "contiguous", None, "2.11", "system")
TOP = ((1, 0.75), (0, 0.25))
MEASURED: dict[str, Any] = {
    "groups": ("animal", "animal", "thing"),
    "alone": Alone((0.1, 0.0, None, -0.1), 10, 0.7, ((150.0, 2.5), (140.5, 2.0), None, (160.0, 3.0)), (160.5, 3.1)),
    "times": Times(SETTING, 1.5, 2.0, 0.9, (0.8, 1.0), ("noisy",), (0.1, 0.2, 0.3, 0.4), 0.5),
    "front": (FrontPoint("full", b"\xf0", 167.0, 0.7, None, 2.0), FrontPoint("threshold", None, 120.5, 0.6, 0.5)),
    "cloud": ((140.0, 0.5), (130.0, 0.4)),
    "gallery": (
        Shown(
            packed=b"\xe0",
            top=TOP,
            score=(None, 1.5, -0.25, 2.0),
            without={2: TOP},
            number=7,
            label=1,
            thumb=b"\x89PNG\x00\xff",
            attacked=(Attacked(packed=b"\xf0", top=TOP, name="fgsm", strength=0.03, thumb=b"\x89PNG"),),
        ),
        Shown(packed=b"\x80", top=TOP, number=3, label=0, thumb=b"\x89PNG"),
    ),
    "filters": {2: (3, 7), 3: (1,)},
}
"""Fields of a survey that one pass cannot know."""


@pytest.fixture
def toy() -> Survey:
    return survey(Toy(), loader(), classes=["cat", "dog", "truck"], keep_paths=True)


def test_what_was_measured_beside_the_counts_comes_back(tmp_path: pathlib.Path, toy: Survey) -> None:
    dataclasses.replace(toy, **MEASURED).save(tmp_path)
    found = Survey.load(tmp_path)
    assert {name: getattr(found, name) for name in MEASURED} == MEASURED


def test_what_was_not_measured_is_absent_from_the_file(tmp_path: pathlib.Path, toy: Survey) -> None:
    bare = json.loads(toy.save(tmp_path / "bare").read_text())
    assert {**bare, "arrays": None} == {**toy.to_json(), "arrays": None}
    full = json.loads(dataclasses.replace(toy, **MEASURED).save(tmp_path / "full").read_text())
    assert full.keys() - bare.keys() == {"alone", "front", "cloud", "images", "filters"}
    assert full["units"].keys() - bare["units"].keys() == {"alone_points", "alone_macs", "alone_open", "ms"}
    assert full["now"].keys() - bare["now"].keys() == {"ms", "gap", "gap_interval", "warnings"}
    assert full["now"]["ms"] == {"value": 1.5, **SETTING.to_json()}
    assert (full["plain"]["ms"], full["fixed"]["ms"], full["classes"]["group"][2]) == (2.0, 0.5, "thing")
    assert [point.keys() for point in full["front"]] == [
        {"kind", "path", "macs", "ms", "accuracy"},
        {"kind", "threshold", "macs", "accuracy"},
    ]
    assert full["images"][0]["without"] == {"2": [[1, 0.75], [0, 0.25]]}
    assert full["images"][1].keys() == {"id", "label", "thumb", "path", "top"}
    assert full["filters"] == {"2": [3, 7], "3": [1]}
    assert "null" not in json.dumps({k: v for k, v in bare.items() if k != "classes"}), "only a class of no images"


def test_version_1_is_read_and_what_it_lacks_is_absent(tmp_path: pathlib.Path) -> None:
    assert json.loads((RECORD / "survey.json").read_text())["schema"] == "torchpaths.survey/1"
    found = Survey.load(RECORD)
    assert found.images.sum() == 10_000
    assert found.samples is not None
    assert found.samples.numbers.tolist() == list(range(10_000))
    counted = ("sums", "taken", "confused", "ran", "together", "energy", "code", "confusion", "energies")
    assert {name: getattr(found, name) for name in (*counted, "alone", "times")} == dict.fromkeys(
        (*counted, "alone", "times")
    )
    assert (found.front, found.gallery, dict(found.filters)) == ((), (), {})
    with pytest.raises(DataError, match="older version"):
        found.rarity(np.ones((1, 27), bool), np.zeros(1, np.int64))
    again = Survey.load(found.save(tmp_path))  # as version 2, still without
    assert again.taken is None
    assert (again.top_paths, again.distinct_paths) == (found.top_paths, found.distinct_paths)
    np.testing.assert_array_equal(again.macs_std_by_class, found.macs_std_by_class, strict=True)


COSTS = {"macs": [10, 20, 30, 7], "params": [1, 2, 3, 4]}
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "alone of other units": (
        {"units": COSTS | {"alone_points": [0.1]}},
        "1 for 4 units",
    ),
    "costs alone of other units": (
        {
            "units": COSTS | {"alone_points": [0, 0, 0, 0], "alone_macs": [1.0], "alone_open": [1.0]},
            "alone": {"images": 10, "accuracy": 0.5, "macs": 1.0, "open": 1.0},
        },
        "1 and 1 for 4 units",
    ),
    "alone of no images": (
        {"units": COSTS | {"alone_points": [0, 0, 0, 0]}},
        "of no known images",
    ),
    "a path of other units": ({"front": [{"kind": "full", "path": "f0f0", "macs": 1.0, "accuracy": 1.0}]}, "'f0f0'"),
    "a path of no digits": ({"front": [{"kind": "full", "path": "xy", "macs": 1.0, "accuracy": 1.0}]}, "'xy'"),
    "an accuracy above 1": ({"front": [{"kind": "full", "path": "f0", "macs": 1.0, "accuracy": 91.0}]}, "accuracy"),
    "an image of no class": (
        {"images": [{"thumb": "", "path": "f0", "top": [], "id": 0, "label": 9}]},
        "label: 9 of 3",
    ),
    "a top of no class": ({"images": [{"thumb": "", "path": "f0", "top": [[3, 0.5]]}]}, "top: 3 of 3"),
    "scores of other units": ({"images": [{"thumb": "", "path": "f0", "top": [], "score": [0.5]}]}, "1 for 4 units"),
    "without no unit": ({"images": [{"thumb": "", "path": "f0", "top": [], "without": {"4": []}}]}, "'4' is no number"),
    "filters of no unit": ({"filters": {"-1": [0]}}, "'-1' is no number"),
    "a thumb of no base64": ({"images": [{"thumb": "?", "path": "f0", "top": []}]}, "thumb"),
    "a time of no setting": ({"now": {"ms": {"value": 1.0}, "gap": 1.0, "gap_interval": [1, 1]}}, "gap|setting|plain"),
    "groups of other classes": ({"classes": {"name": ["a", "b", "c"], "group": ["x"]}}, "1 for 3 classes"),
    "energies without an array": ({"energy": {"sites": ["layer2.0"]}}, "'energy' is missing"),
    "a column that there is not": ({"opennes": 1}, "opennes"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_column_that_cannot_be_is_refused_and_named(tmp_path: pathlib.Path, toy: Survey, case: str) -> None:
    toy.save(tmp_path)
    fields, message = WRONG[case]
    change(tmp_path, **fields)
    with pytest.raises(DataError, match=message) as caught:
        Survey.load(tmp_path)
    assert "survey.json" in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e999"])
def test_a_number_that_is_not_finite_is_refused(tmp_path: pathlib.Path, toy: Survey, number: str) -> None:
    file = dataclasses.replace(toy, **MEASURED).save(tmp_path)
    file.write_text(file.read_text().replace('"gap": 0.9', f'"gap": {number}'))
    with pytest.raises(DataError, match="no finite number"):
        Survey.load(tmp_path)


def signed(folder: pathlib.Path, **arrays: NDArray[Any] | None) -> None:
    """Put other arrays into a survey's file, None for none, with the digest of what is there then."""
    [beside] = folder.glob("*.safetensors")
    held = {**load_arrays(beside.read_bytes()), **arrays}
    data = save_arrays({name: np.ascontiguousarray(array) for name, array in held.items() if array is not None})
    beside.write_bytes(data)
    entry = json.loads((folder / "survey.json").read_text())["arrays"]
    change(folder, arrays={**entry, "sha256": hashlib.sha256(data).hexdigest()})


COUNTS: dict[str, tuple[dict[str, Any], str]] = {
    "no images": ({"images": np.zeros(3, np.uint8)}, "'images' counts none"),
    "more right than there are": ({"correct": np.array([9, 0, 0], np.uint8)}, "'correct'"),
    "other right ones": ({"correct": np.array([2, 4, 0], np.uint8)}, "'confused' contradicts"),
    "below 0": ({"opened": np.full((3, 4), -1)}, "'opened'"),
    "fractions": ({"opened": np.zeros((3, 4))}, "'opened' is float64"),
    "of other units": ({"opened": np.zeros((3, 5), np.uint8)}, "'opened' is int64 .3, 5."),
    "opened by none": ({"opened": np.zeros((3, 4), np.uint8)}, "'opened' contradicts"),
    "a histogram of others": ({"histogram": np.zeros((3, 5), np.uint8)}, "'histogram' contradicts"),
    "sums without images": ({"macs_squares": np.zeros((3, 2), np.uint8)}, "'macs_squares' contradicts"),
    "sites that nobody came to": ({"ran": np.zeros((3, 3), np.uint8)}, "'ran' contradicts"),
    "no pairs": ({"together": np.zeros((4, 4), np.uint8)}, "'together' contradicts"),
    "paths of nobody": ({"taken_counts": np.zeros(9, np.uint8)}, "'taken_"),
    "no paths": ({"taken_labels": None}, "'path"),
    "twice the same image": ({"sample_numbers": np.zeros(10, np.uint8)}, "'sample_numbers'.*rise"),
    "NaN": ({"macs_sums": None, "macs": np.full(3, np.nan), "macs_std": np.zeros(3)}, "'macs' holds what is no finite"),
}


@pytest.mark.parametrize("case", COUNTS)
def test_counts_that_cannot_be_or_contradict_each_other_are_refused(
    tmp_path: pathlib.Path, toy: Survey, case: str
) -> None:
    toy.save(tmp_path)
    signed(tmp_path)
    assert Survey.load(tmp_path).images.tolist() == [4, 6, 0], "as it was"
    arrays, message = COUNTS[case]
    signed(tmp_path, **arrays)
    with pytest.raises(DataError, match=message):
        Survey.load(tmp_path)


def test_classes_of_a_group_stand_together() -> None:
    openness = np.array([[0.1, 0.1], [0.9, 0.9], [np.nan, np.nan], [0.2, 0.1], [0.8, 0.9]])
    order = class_order(openness, ("a", "b", "a", "b", "a"))
    assert sorted(order) == list(range(5))
    assert [("a", "b", "a", "b", "a")[c] for c in order] in (list("aaabb"), list("bbaaa"))
