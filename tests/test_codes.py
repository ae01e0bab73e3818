"""Coding schemes: the three rules, what is reached, certificates held to brute force, and errors whose remedies
work."""

from __future__ import annotations

import itertools
import json
import math
import re
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import torchpaths as tp
from torchpaths import cli
from torchpaths.coding import bits
from torchpaths.coding.constructions import construct
from torchpaths.coding.shipped import read, shipped, write
from torchpaths.errors import CodeError
from verbs import answer, complaint

ROOT = Path(__file__).resolve().parents[1]

PAPER = {  # (classes, units, active): minimum distance, column sum
    (10, 10, 5): (4, 5),
    (10, 10, 3): (4, 3),
    (100, 20, 8): (8, 40),
    (100, 20, 4): (4, 20),
    (1000, 32, 16): (12, 500),
    (1000, 32, 8): (8, 250),
}

OTHERS = {  # (classes, units, active): minimum distance
    (10, 8, 4): 4,
    (6, 4, 2): 2,
    (100, 16, 8): 6,
    (50, 10, 5): 2,
    (20, 32, 8): 12,
    (1000, 32, 24): 8,
    (1000, 32, 4): 4,
    (5, 5, 1): 2,
    (100, 16, 4): 4,
    (10, 32, 16): 16,
    (200, 64, 16): 22,
    (100, 64, 8): 12,
    (1000, 64, 8): 10,
}


def by_hand(words: NDArray[np.bool_]) -> Counter[int]:
    """Hamming distance -> pairs, one pair after the other."""
    return Counter(int((a != b).sum()) for a, b in itertools.combinations(words, 2))


def obeys(words: NDArray[np.bool_], classes: int, units: int, active: int) -> None:
    """Rules A and B, and that no two classes have one word."""
    assert words.dtype == bool
    assert words.shape == (classes, units)
    assert (words.sum(1) == active).all(), "rule A"
    columns = words.sum(0)
    assert columns.max() - columns.min() == (1 if classes * active % units else 0), "rule B"
    assert len(np.unique(words, axis=0)) == classes


@pytest.mark.parametrize(("shape", "reached"), PAPER.items(), ids=str)
def test_the_papers_schemes_have_equal_columns_and_a_distance_that_none_exceeds(
    shape: tuple[int, int, int], reached: tuple[int, int]
) -> None:
    words = tp.codes(*shape)
    obeys(words, *shape)
    found = tp.certificate(words)
    assert (found.distance, found.lowest, found.highest) == (reached[0], reached[1], reached[1])
    assert found.optimal


@pytest.mark.parametrize(("shape", "distance"), OTHERS.items(), ids=str)
def test_other_schemes_reach_the_largest_possible_distance(shape: tuple[int, int, int], distance: int) -> None:
    words = tp.codes(*shape)
    obeys(words, *shape)
    found = tp.certificate(words)
    assert found.distance == found.bound == distance
    assert found.balanced


@pytest.mark.parametrize(
    ("shape", "distance"),
    [((12000, 16, 8), 2), ((1000, 512, 128), 150), ((10, 512, 256), 260), ((1000, 2048, 512), 600)],
)
def test_large_schemes_are_made_within_a_minute(shape: tuple[int, int, int], distance: int) -> None:
    start = time.perf_counter()
    words = tp.codes(*shape)
    assert time.perf_counter() - start < 60
    obeys(words, *shape)
    assert tp.certificate(words).distance >= distance


@st.composite
def shapes(draw: st.DrawFn) -> tuple[int, int, int]:
    """Any possible small scheme, up to one that uses all words there are."""
    units = draw(st.integers(2, 9))
    active = draw(st.integers(1, units - 1))
    return draw(st.integers(2, min(70, math.comb(units, active)))), units, active


@settings(max_examples=25, deadline=None)
@given(shapes())
def test_every_possible_small_scheme_obeys_the_rules_and_its_certificate_is_true(shape: tuple[int, int, int]) -> None:
    words = tp.codes(*shape)
    obeys(words, *shape)
    found, pairs = tp.certificate(words), by_hand(words)
    assert found.histogram == pairs
    assert list(found.histogram) == sorted(pairs)
    assert found.distance == min(pairs) <= found.bound
    assert math.isclose(found.mean, sum(d * n for d, n in pairs.items()) / pairs.total())
    assert (found.classes, found.units, found.weight) == shape
    assert found.columns == tuple(words.sum(0))
    assert found.balanced


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(2, 70), st.integers(0, 10**6))
def test_a_certificate_of_any_words_is_what_counting_gives(classes: int, units: int, seed: int) -> None:
    words = bits.some_words(units, 1 + seed % units, classes, seed)
    found, pairs = tp.certificate(words.astype(int).tolist()), by_hand(words)
    assert (found.histogram, found.distance) == (pairs, min(pairs))
    assert found.distance <= found.bound
    assert found.columns == tuple(words.sum(0))


def test_the_same_words_come_again_in_another_process() -> None:
    shape = (60, 12, 5)
    code = f"import torchpaths as tp; print(tp.codes{shape}.astype(int).tolist())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert np.array_equal(tp.codes(*shape), json.loads(ran.stdout))


def test_a_scheme_is_the_callers_to_change() -> None:
    first = tp.codes(6, 4, 2)
    kept = first.copy()
    first[:] = False
    assert np.array_equal(tp.codes(6, 4, 2), kept)


def test_the_complement_has_the_same_distances() -> None:
    few, many = tp.certificate(tp.codes(30, 12, 4)), tp.certificate(tp.codes(30, 12, 8))
    assert few.histogram == many.histogram


def test_numbers_of_numpy_are_numbers() -> None:
    classes: Any = np.int64(6)
    units: Any = np.uint8(4)
    assert np.array_equal(tp.codes(classes, units, 2), tp.codes(6, 4, 2))


def test_a_distance_is_met_or_refused_with_what_is_there() -> None:
    assert tp.certificate(tp.codes(100, 20, 8, distance=7)).distance == 8
    with pytest.raises(
        CodeError, match=r"has minimum distance 8; more than 8 is impossible .* Give distance=8 or less"
    ):
        tp.codes(100, 20, 8, distance=10)
    assert tp.codes(100, 20, 8, distance=8).shape == (100, 20)


@pytest.mark.parametrize(
    ("shape", "complaint"),
    [
        ((1, 8, 4), "classes=1"),
        ((0, 8, 4), "classes=0"),
        ((10, 0, 1), "units=0"),
        ((10, 8, 0), "active=0"),
        ((2, 8, 9), "active=9: of 8 units, active can be 1 to 7"),
        ((2, 8, 8), "the block is plain. Blocks with ratio 1 need no code"),
        ((100, 8, 4), "only 70 different codewords of units=8 with active=4"),
        ((20, 8, 1), "only 8 different codewords of units=8 with active=1"),
        ((20, 8, 7), "only 8 different codewords of units=8 with active=7"),
        ((10.0, 8, 4), "classes=10.0 is float: give a whole number"),
        ((10, True, 4), "units=True is bool"),
        ((10, 8, np.True_), "active=np.True_ is bool"),
        ((10, 8, "4"), "active='4' is str"),
    ],
)
def test_an_impossible_scheme_is_explained(shape: tuple[int, int, int], complaint: str) -> None:
    with pytest.raises(CodeError, match=re.escape(complaint)):
        tp.codes(*shape)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 8, 4),
        (10, 0, 1),
        (2, 8, 8),
        (50, 8, 8),
        (9, 8, 0),
        (20, 8, 12),
        (100, 8, 4),
        (20, 8, 1),
        (20, 8, 7),
        (300, 9, 2),
    ],
)
def test_every_remedy_of_an_impossible_scheme_works(shape: tuple[int, int, int]) -> None:
    with pytest.raises(CodeError) as raised:
        tp.codes(*shape)
    asked = dict(zip(("classes", "units", "active"), shape, strict=True))
    offers = re.findall(r"(classes|units|active)=(\d+)", str(raised.value))
    remedies = [(name, int(number)) for name, number in offers if asked[name] != int(number)]
    assert remedies
    for name, number in remedies:
        obeys(tp.codes(**{**asked, name: number}), **{**asked, name: number})


def test_a_remedy_of_two_numbers_works() -> None:
    with pytest.raises(CodeError, match=r"active=0: of 8 units.* Give active=1 with units=100 \(100\)"):
        tp.codes(100, 8, 0)
    obeys(tp.codes(100, 100, 1), 100, 100, 1)


def test_columns_that_cannot_be_equal_are_no_error_and_the_certificate_names_numbers_that_can() -> None:
    found = tp.certificate(tp.codes(10, 8, 3))
    assert (found.lowest, found.highest, found.balanced, found.nearest) == (3, 4, True, (8, 16))
    assert "with 8 or 16 classes they would" in str(found)
    for classes in found.nearest:
        other = tp.certificate(tp.codes(classes, 8, 3))
        assert (other.lowest, other.highest, other.nearest) == (other.highest, other.lowest, ())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([[0, 1]], r"words of shape \[1, 2\]"),
        ([0, 1], r"words of shape \[2\]"),
        ([[0, 1], [1]], "rows of different lengths"),
        ([[0, 2], [1, 0]], "0 and 1, or bools"),
        ([["a", "b"], ["c", "d"]], "0 and 1, or bools"),
        ([[0, 1, 0], [0, 1, 1]], "row 1 has 2 ones and row 0 has 1. Rule A"),
    ],
)
def test_a_table_that_is_no_scheme_has_no_certificate(words: object, complaint: str) -> None:
    with pytest.raises(CodeError, match=complaint):
        tp.certificate(words)  # type: ignore[arg-type]


def test_two_classes_with_one_word_have_distance_0() -> None:
    found = tp.certificate([[1, 0, 0], [1, 0, 0], [0, 1, 0]])
    assert (found.distance, found.histogram, found.balanced) == (0, {0: 1, 2: 2}, False)


def test_every_shipped_scheme_is_quick_and_what_codes_gives() -> None:
    file = ROOT / "src" / "torchpaths" / "coding" / "shipped" / "schemes.json"
    schemes = json.loads(file.read_text())
    assert "1000-32-8" in schemes
    for name in schemes:
        shape = tuple(map(int, name.split("-")))
        start = time.perf_counter()
        words = shipped(*shape)
        assert time.perf_counter() - start < 0.5
        assert words is not None
        obeys(words, *shape)
        assert write(words) == schemes[name]
        assert np.array_equal(read(schemes[name], shape[1]), tp.codes(*shape))


def test_a_shipped_scheme_is_what_the_search_finds_again() -> None:
    assert np.array_equal(construct(1000, 16, 8), tp.codes(1000, 16, 8))


def test_the_wheel_holds_the_shipped_schemes(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    assert "torchpaths/coding/shipped/schemes.json" in zipfile.ZipFile(wheel).namelist()


def test_codes_and_the_command_import_no_torch(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import sys, torchpaths.cli as c; c.main(['codes', '--classes', '6', '--units', '4', '--active', '2']); "
        "import torchpaths.coding.schemes; print('torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split()[-1] == "False"


def test_the_command_prints_words_and_certificate_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "codes.json"
    asked = ["codes", "--classes", 10, "--units", 10, "--active", 3, "--distance", 4]
    answered = answer(capsys, *asked, "--json", "--out", file)
    assert answered == json.loads(file.read_text())
    assert answered["schema"] == "torchpaths.codes/1"
    words = np.array([[bit == "1" for bit in word] for word in answered["words"]])
    assert np.array_equal(words, tp.codes(10, 10, 3))
    assert answered["certificate"] == json.loads(json.dumps(tp.certificate(words).to_json()))
    assert answered["certificate"]["columns"] == {"min": 3, "max": 3, "sums": [3] * 10}


def test_the_command_shows_people_what_they_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shape = ["codes", "--units", "10", "--active", "5", "--classes"]
    assert cli.main([*shape, "10"]) == 0
    shown = capsys.readouterr().out
    assert "minimum distance 4, no scheme has more" in shown
    assert len(re.findall(r"^[01]{10}$", shown, re.MULTILINE)) == 10
    assert cli.main([*shape, "50"]) == 0
    assert "50 codewords: --out FILE writes them, --json prints them" in capsys.readouterr().out
    assert cli.main([*shape, "50", "--out", str(tmp_path / "words.json")]) == 0
    assert f"wrote {tmp_path / 'words.json'}" in capsys.readouterr().out


def test_the_command_explains_what_is_impossible(capsys: pytest.CaptureFixture[str]) -> None:
    said = complaint(capsys, "codes", "--classes", 100, "--units", 8, "--active", 4)
    assert "only 70 different codewords" in said
    assert "Give units=9 (126)." in said


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("classes", "units", "active"), [(10**9, 40, 1), (10, 20_000, 0), (10**30, 100, 3)])
def test_impossible_shapes_of_any_size_are_refused_at_once(classes: int, units: int, active: int) -> None:
    with pytest.raises(CodeError, match="Give "):
        tp.codes(classes, units, active)
