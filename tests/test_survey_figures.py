"""Claims about the figures: what is drawn equals the survey, nothing is cut or overlaps, files repeat byte for byte."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray

from survey_toy import LAYOUT, Toy, loader
from torchpaths.errors import DataError, PathError
from torchpaths.layout import Cost, Layout, Unit
from torchpaths.surveys import Survey, survey
from torchpaths.surveys.counts import Samples
from torchpaths.surveys.figures import (
    Point,
    accuracy_macs,
    class_rates,
    easy_and_hard,
    executed_layers,
    read_rates,
    save,
    save_all,
    training_rates,
)
from torchpaths.surveys.figures.style import shorten, spread_apart

NAMES = [
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
    "aquarium_fish",
    "sweet_pepper",
]


def made_up(classes: int, stages: tuple[int, ...], images: int = 400, empty: int | None = None) -> Survey:
    """A survey of random paths with the counts a pass would give."""
    rng = np.random.default_rng(classes)
    names = [f"layer{i + 1}.{j}" for i, n in enumerate(stages) for j in range(n)]
    units = len(names)
    layout = Layout(tuple(Unit(n, 0, Cost(4_000, 9)) for n in names), Cost(6_000, 5), Cost(4_000 * units, 9), "ResNet")
    labels = np.sort(rng.integers(0, classes, images))
    if empty is not None:
        labels[labels == empty] = (empty + 1) % classes
    opened = rng.random((images, units)) < rng.random((classes, units))[labels]
    predictions = np.where(rng.random(images) < 0.8, labels, 0)
    by_class = [opened[labels == c] for c in range(classes)]
    macs = 6_000 + 4_000 * opened.sum(1)
    return Survey(
        layout=layout,
        classes=tuple(NAMES[c] if c < len(NAMES) else f"{NAMES[c % 12]}_{c}" for c in range(classes)),
        images=np.array([len(rows) for rows in by_class]),
        correct=np.array([(predictions[labels == c] == c).sum() for c in range(classes)]),
        opened=np.array([rows.sum(0) for rows in by_class]),
        histogram=np.array([np.bincount(rows.sum(1), minlength=units + 1) for rows in by_class]),
        macs_by_class=np.array([macs[labels == c].mean() if len(by_class[c]) else np.nan for c in range(classes)]),
        macs_std_by_class=np.array([macs[labels == c].std() if len(by_class[c]) else np.nan for c in range(classes)]),
        distinct_paths=images,
        top_paths=(),
        samples=Samples(np.packbits(opened, axis=1), labels, predictions, macs, np.arange(images)),
        name="ResNet-56",
        dataset="CIFAR-10",
    )


class Pixels:
    """Images filled with their own number, so that a picture tells which image it shows."""

    def __init__(self, count: int, channels: int = 3) -> None:
        self.count, self.channels = count, channels

    def __len__(self) -> int:
        return self.count

    def read(self, index: Any, /) -> NDArray[np.uint8]:
        filled = np.asarray(index, np.uint8)[:, None, None, None]
        return np.broadcast_to(filled, (len(index), 4, 4, self.channels)).copy()


def pixels(axes: Axes) -> NDArray[Any]:
    """What the image in some axes shows."""
    shown = axes.images[0].get_array()
    assert shown is not None
    return np.ma.getdata(shown)


def texts(figure: Figure) -> list[Text]:
    """All texts that are really drawn: matplotlib also keeps tick labels that are outside the limits, or left over."""
    figure.draw_without_rendering()
    every = [t for t in figure.findobj(Text) if isinstance(t, Text)]
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            placed = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=False)  # no labels where hidden
            inside = [label for at, label in placed if low <= at <= high]
            ticks = [t for t in axis.findobj(Text) if t not in (axis.label, axis.get_offset_text())]
            every = [t for t in every if t not in ticks or t in inside]
    return [t for t in every if t.get_visible() and t.get_text().strip()]


def assert_legible(figure: Figure, overlap: float = 0.12) -> None:
    """All text lies inside the figure, and no two texts cover more than a sliver of each other."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    shown = [(t.get_text(), t.get_window_extent(renderer)) for t in texts(figure)]
    width, height = figure.get_size_inches() * figure.dpi
    for text, box in shown:
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0, f"{text!r} is cut"
    for i, (a, one) in enumerate(shown):
        for b, two in shown[i + 1 :]:
            across = min(one.x1, two.x1) - max(one.x0, two.x0)
            along = min(one.y1, two.y1) - max(one.y0, two.y0)
            covered = max(across, 0) * max(along, 0) / min(one.width * one.height, two.width * two.height)
            assert covered <= overlap, f"{a!r} and {b!r} overlap by {covered:.0%}"


SIZES = [
    (10, (9, 9, 9), None),
    (10, (3, 4, 6, 3), 4),
    (100, (18, 18, 18), 7),
    (2, (1, 1), None),
    (100, (3, 4, 6, 3), None),
]


@pytest.mark.parametrize(("classes", "stages", "empty"), SIZES)
def test_labels_are_whole_and_apart_at_every_size(classes: int, stages: tuple[int, ...], empty: int | None) -> None:
    found = made_up(classes, stages, 800, empty)
    # Rows of 100 classes stand as close as their letters allow, line boxes touch.
    overlap = 0.12 if classes < 30 else 0.25
    assert_legible(class_rates(found), overlap)
    assert_legible(executed_layers(found), overlap)
    rates = np.linspace(0.87, 1, 12)[:, None] * found.rates
    assert_legible(training_rates(range(1, 13), rates, found.layout, found.title, 0.6), 0.2)
    assert_legible(easy_and_hard(found, Pixels(800)))


def test_long_names_of_blocks_and_classes_are_whole_and_apart() -> None:
    sites = [f"blocks.{i}.{part}" for i in range(12) for part in ("attn", "mlp")]
    layout = Layout(tuple(Unit(s, 0, Cost(1, 1)) for s in sites), Cost(1, 1), Cost(25, 25), "VisionTransformer")
    base = made_up(6, (24,))
    classes = tuple(f"{name}, an uncommonly long name of a class" for name in base.classes)
    found = Survey(**{**vars(base), "layout": layout, "classes": classes})
    assert_legible(class_rates(found))
    assert_legible(executed_layers(found))
    assert_legible(training_rates([1], found.rates[None], layout))


def test_the_heat_map_shows_the_openness_of_the_named_rows() -> None:
    found = made_up(10, (9, 9, 9), empty=4)
    axes = class_rates(found).axes[0]
    shown = pixels(axes)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert sorted(names) == sorted(found.classes)
    for name, row in zip(names, shown, strict=True):
        np.testing.assert_array_equal(row, found.openness[found.classes.index(name)])
    assert [label.get_text() for label in axes.get_xticklabels()] == [str(i) for i in range(9)] * 3
    assert axes.images[0].get_clim() == (0, 1)
    assert any(patch.get_hatch() for patch in axes.patches), "a class without images is hatched"


def test_rows_follow_an_order_that_is_given() -> None:
    found = made_up(4, (3,))
    axes = class_rates(found, order=[2, 0, 3, 1]).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [found.classes[c] for c in (2, 0, 3, 1)]


def test_the_histogram_shows_shares_of_images_and_mean_and_spread_are_written() -> None:
    found = survey(Toy(), loader(), classes=["cat", "dog", "truck"])
    figure = executed_layers(found)
    heights = [bar.get_height() for bar in figure.axes[0].patches if isinstance(bar, Rectangle)]
    np.testing.assert_allclose(heights, np.array([0, 1, 1, 5, 3]) * 10)
    written = {t.get_text() for t in texts(figure)}
    executed = np.array([3, 3, 3, 1, 4, 4, 3, 3, 2, 4])
    assert f"{executed.mean():.2f} ± {executed.std():.2f}" in written
    assert f"{executed[:4].mean():.1f} ± {executed[:4].std():.1f}" in written
    assert "truck" not in written, "a class without images has no histogram"


def test_each_unit_has_a_line_of_its_rates() -> None:
    rates = np.random.default_rng(0).random((5, 4))
    figure = training_rates([1, 2, 3, 4, 5], rates, LAYOUT, target=0.6)
    drawn_lines = [
        line.get_ydata() for axes in figure.axes for line in axes.lines if len(np.atleast_1d(line.get_xdata())) == 5
    ]
    np.testing.assert_allclose(np.array(drawn_lines).T, rates * 100)
    with pytest.raises(DataError, match=r"shape \(5, 3\).*4 units of Toy"):
        training_rates([1, 2, 3, 4, 5], rates[:, :3], LAYOUT)


NAMED = {"layer1.0": 0.1, "layer1.1": 0.2, "layer2.0/0": 0.3, "layer2.0/1": 0.4}


def test_rates_are_read_from_metrics_by_name_or_in_order(tmp_path: pathlib.Path) -> None:
    rows = [
        {"step": 5, "loss": 1.0},
        {"epoch": 1, "rates": [0.5, 0.6, 0.7, 0.8]},
        {"epoch": 2, "rates": [0.9] * 4},
        {"epoch": 2, "rates": dict(reversed(NAMED.items()))},
        {"epoch": 3, "loss": 1.0},
    ]
    file = tmp_path / "metrics.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + '\n{"epoch": 3, "rat')
    epochs, rates = read_rates(file, LAYOUT)
    assert epochs == [1, 2]
    np.testing.assert_array_equal(rates, [[0.5, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.4]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"epoch": 1}', "no row has both 'epoch' and 'rates'"),
        ('{"epoch": 1, "rates": [1, 1]}', "line 1: rates of 2 units do not belong to Toy with its 4"),
        (json.dumps({"epoch": 1, "rates": {**NAMED, "layer2.0/1": None}}), "do not belong to Toy"),
        ('{"epo\n{"epoch": 1, "rates": [1, 1, 1, 1]}', "line 1: not JSON"),
    ],
)
def test_metrics_that_hold_no_rates_of_this_network_are_an_error(
    tmp_path: pathlib.Path, text: str, message: str
) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        read_rates(file, LAYOUT)
    with pytest.raises(DataError, match="no metrics there"):
        read_rates(tmp_path / "none.jsonl", LAYOUT)


def numbers(figure: Figure, row: int, each: int) -> list[int]:
    """Which images one row of tiles shows, from left to right."""
    tiles = figure.axes[row * 2 * each : (row + 1) * 2 * each]
    return [int(pixels(axes).flat[0]) for axes in tiles]


def test_the_images_with_the_fewest_and_the_most_blocks_are_shown_in_order() -> None:
    found = survey(Toy(), loader(), keep_paths=True)
    figure = easy_and_hard(found, Pixels(10), each=2)
    # Cats execute 3 3 3 1 units for 160 160 137 110 MACs, dogs 4 4 3 3 2 4.
    assert numbers(figure, 0, 2) == [3, 2, 0, 1]
    assert numbers(figure, 1, 2) == [8, 6, 5, 9]
    under = [axes.texts[0].get_text() for axes in figure.axes]
    assert under == ["1", "3", "3", "3", "2", "3", "4", "4"]


def test_wrongly_classified_images_are_framed_and_say_for_what_they_were_taken() -> None:
    found = survey(Toy(), loader(), classes=["cat", "dog", "truck"], keep_paths=True)
    figure = easy_and_hard(found, Pixels(10), classes=["dog"], each=3)
    shown = numbers(figure, 0, 3)
    for axes, index in zip(figure.axes, shown, strict=True):
        taken_for = axes.texts[1].get_text()
        assert taken_for == {5: "truck", 9: "cat"}.get(index, "")
        assert (axes.spines["top"].get_linewidth() > 1) == bool(taken_for)


def test_no_image_stands_on_both_sides_and_grey_images_are_drawn() -> None:
    found = survey(Toy(), loader(), keep_paths=True)
    figure = easy_and_hard(found, Pixels(10, channels=1), classes=[0], each=6)
    shown = [int(pixels(axes).flat[0]) for axes in figure.axes]
    assert len(shown) == len(set(shown)) == 4


def test_of_many_classes_the_extremes_are_shown() -> None:
    found = made_up(30, (5,), 900)
    figure = easy_and_hard(found, Pixels(900), each=1)
    means = found.executed_by_class[:, 0]
    extremes = {
        found.classes[c] for c in [*np.argsort(means, kind="stable")[:5], *np.argsort(means, kind="stable")[-5:]]
    }
    assert extremes <= {t.get_text() for t in texts(figure)}
    assert len(figure.axes) == 20


def test_easy_and_hard_images_need_kept_paths_and_the_same_data() -> None:
    found = survey(Toy(), loader(), keep_paths=True)
    with pytest.raises(DataError, match="keep_paths=True"):
        easy_and_hard(survey(Toy(), loader()), Pixels(10))
    with pytest.raises(DataError, match="9 images for a survey of 10"):
        easy_and_hard(found, Pixels(9))
    with pytest.raises(DataError, match="none of the classes asked for has images"):
        easy_and_hard(found, Pixels(10), classes=[2])
    with pytest.raises(PathError, match="no class 'cow'"):
        easy_and_hard(found, Pixels(10), classes=["cow"])


POINTS = [
    Point("plain", 125.5e6, 0.940, "plain"),
    *(Point(f"gated, target 0.{t}", 20e6 + 10.5e6 * t, 0.88 + 0.008 * t) for t in (5, 6, 7)),
    *(Point(f"random drop 0.{t}", 20e6 + 10.6e6 * t, 0.80 + 0.016 * t, "control") for t in (5, 6, 7)),
]


def test_points_stand_at_their_macs_and_accuracy_with_their_labels() -> None:
    figure = accuracy_macs(POINTS, "ResNet-56 on CIFAR-10")
    lines, apart = (
        sum(line.get_linestyle() == "-" for line in drawn.axes[0].lines)
        for drawn in (figure, accuracy_macs(POINTS, joined=False))
    )
    assert (lines, apart) == (2, 0), "runs, and controls, are joined, or nothing is"
    assert {p.label for p in POINTS} <= {t.get_text() for t in texts(figure)}
    marked = [line for line in figure.axes[0].lines if line.get_marker() != "None"]
    marks = [tuple(point) for line in marked for point in np.asarray(line.get_xydata())]
    expected = sorted((p.macs / 125.5e4, p.accuracy * 100) for p in POINTS)
    np.testing.assert_allclose(sorted(marks), expected)
    assert_legible(figure)
    with pytest.raises(DataError, match="no points"):
        accuracy_macs([])


def test_labels_of_points_close_together_keep_apart() -> None:
    assert_legible(accuracy_macs([Point(f"run {i}", 80e6 + 1e5 * i, 0.93 + 0.0004 * (i % 3)) for i in range(6)]))


def test_figures_come_out_the_same_byte_for_byte_in_another_process(tmp_path: pathlib.Path) -> None:
    found = survey(Toy(), loader(), classes=["cat", "dog", "truck"], keep_paths=True)
    found.save(tmp_path)
    files = save_all(found, tmp_path / "one", images=Pixels(10))
    assert {f.name for f in files} == {
        f"{n}.{k}" for n in ("class-rates", "executed-layers", "open-together", "easy-and-hard") for k in ("png", "svg")
    }
    script = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from test_survey_figures import Pixels\n"
        "from torchpaths.surveys import Survey\n"
        "from torchpaths.surveys.figures import save_all\n"
        "save_all(Survey.load(sys.argv[1]), sys.argv[2], images=Pixels(10))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    here = str(pathlib.Path(__file__).parent)
    subprocess.run([sys.executable, "-c", script, str(tmp_path), str(tmp_path / "two"), here], check=True)
    for file in files:
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes(), file.name


def test_text_stays_text_in_svg_and_no_date_is_written(tmp_path: pathlib.Path) -> None:
    found = made_up(3, (2, 2))
    png, svg = save(class_rates(found), tmp_path / "figure.with.dots")
    assert png.name == "figure.with.dots.png"
    text = svg.read_text()
    assert all(f">{name}<" in text for name in found.classes)
    assert "dc:date" not in text


def test_the_callers_matplotlib_settings_neither_show_nor_change(tmp_path: pathlib.Path) -> None:
    found = made_up(3, (2, 2))
    _, before = save(class_rates(found), tmp_path / "before")
    with matplotlib.rc_context({"font.size": 31, "axes.facecolor": "red", "svg.fonttype": "path"}):
        _, after = save(class_rates(found), tmp_path / "after")
        assert matplotlib.rcParams["font.size"] == 31
    assert before.read_bytes() == after.read_bytes()


def test_all_figures_of_a_run_are_saved(tmp_path: pathlib.Path) -> None:
    found = survey(Toy(), loader())
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"epoch": 1, "rates": NAMED}))
    files = save_all(found, tmp_path / "figures", metrics=tmp_path / "metrics.jsonl", target=0.6)
    assert sorted({f.stem for f in files}) == ["class-rates", "executed-layers", "open-together", "training-rates"]
    assert all(f.stat().st_size > 1000 for f in files)


def test_labels_are_moved_apart_as_little_as_needed() -> None:
    assert spread_apart([10, 50, 90], 5, 0, 100) == [10, 50, 90]
    assert spread_apart([50, 50], 4, 0, 100) == [48, 52]
    assert spread_apart([99, 100, 100], 10, 0, 100) == [80, 90, 100]
    assert spread_apart([3, 1, 2], 10, 0, 100) == [20, 0, 10]
    crowded = spread_apart([50.0] * 30, 10, 0, 100)
    assert [min(crowded), max(crowded)] == pytest.approx([0, 100])
    assert spread_apart([], 1, 0, 1) == []


def test_long_names_are_cut_in_the_middle() -> None:
    assert shorten("cat") == "cat"
    assert shorten("a" * 20 + "b" * 20, 9) == "aaaa…bbbb"
    assert len(shorten("x" * 99)) == 22


def test_spreads_by_class_are_drawn_from_mean_minus_to_mean_plus_std() -> None:
    found = made_up(5, (4, 4))
    done = class_rates(found, order=range(5)).axes[2]
    [bars] = [c for c in done.collections if isinstance(c, LineCollection)]
    mean, std = found.executed_by_class.T
    ends = np.array([[segment[0][0], segment[1][0]] for segment in bars.get_segments()])
    np.testing.assert_allclose(ends, np.stack([mean - std, mean + std], 1))
