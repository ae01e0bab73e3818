"""Claims about front.json: what is written is read back, and what is damaged or another network's is refused."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from numpy.typing import NDArray

import torchpaths as tp
from block_toys import Basic, chain
from torchpaths.errors import DataError
from torchpaths.fronts import Front, Point, Profile, Time
from torchpaths.fronts.figure import draw_front
from torchpaths.fronts.points import Kind
from torchpaths.meter.setting import Setting
from torchpaths.meter.timing import Median
from torchpaths.surveys.figures import save

SETTING = Setting("cpu (Made)", "float32", 2, 1, (3, 8, 8), "contiguous", None, "2", "glibc")


def net() -> tp.Routed:
    model, x = chain(block1=Basic(), block2=Basic())
    return tp.route(model, tp.GatedBlocks(), example=x)


def made_up(routed: tp.Routed) -> Front:
    """A front of five points, one of them beaten by another kind, with two profiles."""

    def path(*opened: bool) -> tp.Path:
        return tp.Path({s: [o] for s, o in zip(routed.sites, opened, strict=True)}, routed.layout.fingerprint)

    rows: list[tuple[Kind, tp.Path | None, float | None, float, float, float]] = [
        ("full", path(True, True), None, 0.9, 34_000, 5.0),
        ("rate", path(True, False), None, 0.7, 20_000, 4.0),
        ("rate", path(False, False), None, 0.3, 8_000, 1.5),
        ("threshold", None, 0.0, 0.88, 25_000, 4.5),
        ("threshold", None, 1.25, 0.75, 19_000, 3.5),
        ("every", path(False, True), 0.0, 0.4, 9_000, 2.0),
    ]
    points = tuple(Point(k, p, t, a, m, 0.5) for k, p, t, a, m, _ in rows)
    one = tuple(Time(ms, Median(ms / 5, ms / 6, ms / 4), m / 34_000) for *_, m, ms in rows)
    eight = tuple(Time(8 * t.ms, t.ratio, t.macs_ratio) for t in one)
    profiles = (
        Profile(SETTING, 5.0, 20, one),
        Profile(dataclasses.replace(SETTING, batch=8), 40.0, 20, eight),
    )
    cloud = ((34_000.0, 0.91), (8_000.0, 0.25), (30_000.0, 0.8))
    return Front(routed.layout, points, profiles, 0.9, 1000, cloud, 100, "chain", "noise", "test")


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    routed = net()
    front = made_up(routed)
    file = front.save(tmp_path / "run")
    assert file == tmp_path / "run" / "front.json"
    for where in (file, tmp_path / "run"):
        again = Front.load(where, routed)
        assert dataclasses.asdict(again) == dataclasses.asdict(front)
        assert again.points == front.points
    assert list((tmp_path / "run").iterdir()) == [file], "nothing is left beside it"


def test_a_front_without_times_is_saved_too(tmp_path: Path) -> None:
    routed = net()
    front = dataclasses.replace(made_up(routed), profiles=())
    assert Front.load(front.save(tmp_path), routed).points == front.points


def test_the_json_holds_what_the_page_reads() -> None:
    routed = net()
    data = json.loads(json.dumps(made_up(routed).to_json(), allow_nan=False))
    assert data["schema"] == "torchpaths.front/2"
    assert data["network"]["fingerprint"] == routed.layout.fingerprint
    assert (data["network"]["dataset"], data["network"]["images"]) == ("noise", 1000)
    assert data["plain"] == {"macs": 25_364, "params": routed.layout.plain.params, "accuracy": 0.9}
    assert [p["setting"]["batch"] for p in data["profiles"]] == [1, 8]
    point = data["points"][4]
    assert (point["kind"], point["path"], point["threshold"], point["front"]) == ("threshold", None, 1.25, True)
    assert (point["ms"], [t["ms"] for t in point["times"]]) == (3.5, [3.5, 28.0])
    assert data["points"][2]["path"]["sites"] == {"block1": [0], "block2": [0]}
    assert [p["front"] for p in data["points"]] == [True, False, True, True, True, True]
    assert data["cloud"][1] == [8_000, 0.25]


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    routed = net()
    file = made_up(routed).save(tmp_path)
    text = file.read_text()
    for end in np.linspace(0, len(text) - 3, 25, dtype=int):
        file.write_text(text[:end])
        with pytest.raises(DataError, match=r"front.json: not JSON .*cut short.*torchpaths front RUN"):
            Front.load(file, routed)


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (("schema",), "torchpaths.front/7", "schema 'torchpaths.front/7', this version reads 'torchpaths.front/2'"),
        (("network", "fingerprint"), "00ff", r"front of network 00ff \(Chain\), not of .* \(Chain\)"),
        (("points", 0, "accuracy"), 7, r"points\[0\].accuracy: Expected `float` <= 1.0"),
        (("points", 0, "macs"), -1, r"points\[0\].macs: Expected `float` >= 0.0"),
        (("points", 0, "kind"), "best", r"points\[0\].kind: Invalid enum value 'best'"),
        (("points", 3, "threshold"), None, "a point without path and threshold"),
        (("points", 1, "path", "sites"), {"block7": [1]}, "block7"),
        (("points", 1, "path", "sites", "block1"), [2], "holds 2"),
        (("points", 1, "times"), [], "not a time for each profile"),
        (("points", 1, "times", 0, "ms"), math.inf, "Infinity is no finite number"),
        (("profiles", 0, "setting", "gpu"), "yes", "setting: 'gpu' is no part of one"),
        (("profiles", 0, "plain_ms"), "fast", r"profiles\[0\].plain_ms: Expected `float`, got `str`"),
        (("cloud",), [[1]], r"cloud\[0\]: Expected `array` of length 2"),
        (("points",), {}, "points: Expected `array`, got `object`"),
    ],
)
def test_a_file_that_was_edited_is_refused(where: tuple[Any, ...], value: Any, message: str, tmp_path: Path) -> None:
    routed = net()
    file = made_up(routed).save(tmp_path)
    data = json.loads(file.read_text())
    place = data
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    file.write_text(json.dumps(data))
    with pytest.raises(DataError, match=message):
        Front.load(file, routed)


@pytest.mark.parametrize("field", ["network", "plain", "profiles", "points", "searched", "cloud"])
def test_a_file_with_something_missing_is_refused(field: str, tmp_path: Path) -> None:
    routed = net()
    file = made_up(routed).save(tmp_path)
    data = json.loads(file.read_text())
    del data[field]
    file.write_text(json.dumps(data))
    with pytest.raises(DataError, match=f"missing required field `{field}`"):
        Front.load(file, routed)


def test_what_is_no_front_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no front there; make one with torchpaths front RUN"):
        Front.load(tmp_path, net())
    (tmp_path / "front.json").write_text("[1]")
    with pytest.raises(DataError, match="schema 'list'"):
        Front.load(tmp_path, net())


def test_a_front_is_for_the_network_it_was_made_with(tmp_path: Path) -> None:
    file = made_up(net()).save(tmp_path)
    model, x = chain()
    other = tp.route(model, example=x[..., :4])
    assert other.layout.fingerprint != net().layout.fingerprint
    with pytest.raises(DataError, match=rf"not of {other.layout.fingerprint} \(Chain\)"):
        Front.load(file, other)


def drawn(axes: Axes, label: str) -> NDArray[np.float64]:
    """Where the marks of that name stand, ``[mark, 2]``."""
    [line] = [line for line in axes.lines if line.get_label() == label]
    return np.asarray(line.get_xydata())


def test_marks_stand_at_what_points_cost_and_the_plain_network_is_among_them() -> None:
    routed = net()
    front = made_up(routed)
    scale = 100 / routed.layout.plain.macs
    macs, ms = draw_front(front).axes
    expected: list[tuple[Axes, str, list[tuple[float, float]]]] = [
        (macs, "gates decide", [(19_000 * scale, 75), (25_000 * scale, 88)]),
        (ms, "gates decide", [(3.5, 75), (4.5, 88)]),
        (ms, "one path for all images", [(5.0, 90)]),  # the others lie far below
        (macs, "these weights, all open", [(100, 90)]),
        (ms, "these weights, all open", [(5.0, 90)]),
        (macs, "tried, on 100 images", [(34_000 * scale, 91), (30_000 * scale, 80)]),
    ]
    for axes, label, marks in expected:
        np.testing.assert_allclose(drawn(axes, label), marks)


def test_the_figure_says_where_times_were_measured_and_what_it_leaves_out() -> None:
    front = made_up(net())
    words = " ".join(text.get_text() for text in draw_front(front, front.profiles[1]).texts)
    assert "chain on noise" in words
    assert "times on cpu (Made), 2 threads, float32, batch 8" in words
    assert "2 more points below 65%" in words
    assert draw_front(front, front.profiles[1]).axes[1].get_xlabel() == "milliseconds for a batch of 8"
    [alone] = draw_front(dataclasses.replace(front, profiles=())).axes
    assert "accuracy on 1,000 images" in alone.get_ylabel()


def test_the_figure_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    front = made_up(net())
    first, second = (save(draw_front(front), tmp_path / name / "front") for name in "ab")
    assert [f.name for f in first] == ["front.png", "front.svg"]
    assert [f.read_bytes() for f in first] == [f.read_bytes() for f in second]
