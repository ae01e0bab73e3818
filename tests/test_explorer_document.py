"""What the page is given: a survey as one document and one file, exact where it fits and refused where it does not."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torchpaths as tp
from browser import saved
from explorer_toys import HOSTILE, blocks, hostile
from survey_toy import LAYOUT, Toy, loader
from torchpaths.cli import main
from torchpaths.errors import DataError
from torchpaths.explorer.bundle import embedded, page_file, script
from torchpaths.explorer.document import document
from torchpaths.explorer.packing import overview, packed
from torchpaths.fronts import Front, Point
from torchpaths.surveys import Survey, survey

PAGE = Path(tp.__file__).parent / "explorer" / "page"


@pytest.fixture
def toy() -> Survey:
    found = survey(Toy(), loader(), classes=["cat", "dog", "truck"])
    return dataclasses.replace(found, name="Toy", dataset="toys", split="test", method=("Toys",))


def unpacked(entry: dict[str, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(zlib.decompress(base64.b64decode(entry["data"])), np.uint8)


def test_a_document_holds_the_survey_s_shares_to_a_255th(toy: Survey) -> None:
    made = document(toy)
    shares = unpacked(made["openness"]).reshape(4, 3).T / 255
    assert np.abs(shares[:2] - toy.openness[:2]).max() < 1 / 510 + 1e-9
    assert made["openness"]["images"] == [4, 6, 0]
    assert [site["kind"] for site in made["sites"]] == ["block"] * 3
    json.dumps(made, allow_nan=False)


def test_a_large_survey_is_packed_unit_by_unit_as_finely_as_fits() -> None:
    shares = np.random.default_rng(0).random((7, 11))
    found = [packed(shares, most=10, room=room) for room in (10_000, 100, 76, 0)]
    assert [made["levels"] for made in found] == [256, 21, 11, 6]
    for made, each in zip(found, (1, 1, 2, 3), strict=True):
        levels = made["levels"]
        steps = unpacked(made).astype(int)[:, None] // levels ** np.arange(each) % levels
        told = steps.ravel()[:77].reshape(11, 7).T / (levels - 1)
        assert np.abs(told - shares).max() <= 0.5 / (levels - 1) + 1e-9, levels


def test_numbers_of_units_are_no_longer_than_what_is_drawn(toy: Survey) -> None:
    units = document(toy)["units"]
    assert units["rate"] == pytest.approx(toy.rates, abs=1e-5)
    assert max(len(str(value)) for value in units["rate"] + units["spread"]) <= 7


def test_an_overview_is_the_mean_of_the_cells_under_each_of_its_own() -> None:
    shares = np.random.default_rng(0).random((500, 2000))
    rows = np.random.default_rng(1).permutation(500).tolist()
    made = overview(shares, rows, np.arange(2000))
    means = unpacked(made).reshape(made["shape"]) / 255
    assert made["shape"] == [250, 1000]
    assert np.isclose(means[3, 5], shares[[rows[6], rows[7]], 10:12].mean(), atol=1 / 255)


def front(toy: Survey) -> Front:
    full = tp.Path({site: (True,) * len(units) for site, units in LAYOUT.sites.items()}, LAYOUT.fingerprint)
    points = (Point("full", full, None, 0.9, 167.0, 1.0), Point("threshold", None, 0.5, 0.8, 120.0, 0.6))
    return Front(
        layout=LAYOUT, candidates=points, profiles=(), accuracy=0.9, images=10, cloud=((100.0, 0.5),), searched=4
    )


def test_points_of_a_front_keep_their_path_and_gates_keep_deciding(toy: Survey) -> None:
    made = document(toy, front(toy))
    assert [(p["path"], p["accuracy"]) for p in made["front"]] == [("f0", 0.9), (None, 0.8)]
    assert made["plain"]["accuracy"] == 0.9
    assert made["cloud"] == [[100.0, 0.5]]


def test_a_front_of_another_network_is_refused(toy: Survey) -> None:
    other = dataclasses.replace(front(toy), layout=dataclasses.replace(LAYOUT, network="Other"))
    with pytest.raises(DataError, match="make both of the same network"):
        document(toy, other)


def test_one_file_has_no_script_but_its_own_and_names_no_host(toy: Survey, tmp_path: Path) -> None:
    text = tp.explore(toy, tmp_path / "pages" / "explorer.html").read_text()
    assert re.findall(r"<script(?![^>]*application/json)[^>]*>", text) == ['<script type="module">']
    assert "default-src 'none'" in text
    assert not re.findall(r"""(?:src|href|url\()\s*=?\s*["']?https?:""", text)
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {"http://www.w3.org/2000/svg"}


def test_no_name_ends_the_script_it_stands_in() -> None:
    text = embedded(hostile())
    assert "<" not in text
    assert json.loads(text)["classes"]["name"][0] == HOSTILE[0]


def test_a_page_is_no_file_of_another_ending_and_no_survey_is_told_with_its_command(
    toy: Survey, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"ends in \.html"):
        tp.explore(toy, tmp_path / "page.json")
    with pytest.raises(DataError, match="torchpaths survey RUN"):
        tp.explore(tmp_path, tmp_path / "page.html")


def test_the_command_writes_the_page_of_a_survey_file(
    toy: Survey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.save(tmp_path)
    assert main(["explore", str(tmp_path / "survey.json"), "--out", str(tmp_path / "p.html"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == (tmp_path / "p.html").stat().st_size
    assert main(["explore", str(tmp_path / "nothing"), "--out", str(tmp_path / "q.html")]) == 1
    assert "torchpaths survey" in capsys.readouterr().err


def test_a_page_names_a_run_only_where_its_survey_lies_in_one(toy: Survey, tmp_path: Path) -> None:
    toy.save(tmp_path)
    page = tmp_path / "p.html"
    for there in (False, True):
        if there:
            (tmp_path / "run.json").write_text("{}")
        assert main(["explore", str(tmp_path), "--out", str(page)]) == 0
        assert (json.dumps({"run": str(tmp_path)}, separators=(",", ":")) in page.read_text()) is there


def test_modules_are_one_in_an_order_in_which_each_stands_behind_what_it_needs() -> None:
    text = script()
    assert "import " not in re.sub(r"//.*", "", text)
    assert not re.search(r"^export ", text, re.MULTILINE)
    assert text.index("const svg =") < text.index("function drawRail") < text.index("function pictureIn")


def test_scripts_styles_and_files_keep_their_size(tmp_path: Path) -> None:
    files = sorted(PAGE.glob("*.js"))
    assert [file.name for file in files if len(file.read_text().splitlines()) > 350] == []
    assert len(zlib.compress("".join(map(Path.read_text, files)).encode())) < 60_000
    assert len(zlib.compress(page_file("style.css").encode())) < 8_000
    saved(tmp_path, blocks())
    assert (tmp_path / "explorer.html").stat().st_size < 1_000_000


def test_the_page_knows_no_method() -> None:
    methods = [
        name for name in dir(tp) if isinstance(getattr(tp, name), type) and issubclass(getattr(tp, name), tp.Method)
    ]
    assert len(methods) > 4
    assert [name for name in methods if name != "Method" and re.search(rf"\b{name}\b", script())] == []


CODED = Path(__file__).parents[1] / "records" / "cifar10_coded_paths" / "coded"


def test_what_coded_classes_are_worth_cut_out_is_the_report_s_and_of_this_network_alone(toy: Survey) -> None:
    report = json.loads((CODED / "decode.json").read_text())
    found = document(Survey.load(CODED), decoded=report)["classifiers"]
    told = report["classifiers"]["paths"]["test"]["by_class"]
    assert (found["images"], found["cut"]) == (10_000, {name: told[name] for name in ("precision", "recall", "f1")})
    assert found["whole"]["f1"] == report["classifiers"]["whole"]["test"]["by_class"]["f1"]
    with pytest.raises(DataError, match="make both of the same network"):
        document(toy, decoded=report)
    with pytest.raises(DataError, match="make it anew with torchpaths decode"):
        document(Survey.load(CODED), decoded={**report, "classifiers": {"paths": 3}})
