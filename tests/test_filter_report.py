"""The report and the verb: what they hold, what they draw, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

import torchpaths as tp
from filter_toys import blocks, chain, cut, images, noise
from torchpaths.errors import DataError, PathError
from torchpaths.filtering import FilterStates, class_paths, filter_report, filter_states, image_paths, information
from torchpaths.filtering.draw_information import draw_information, draw_points
from torchpaths.filtering.draw_paths import draw_categories, draw_class_paths, draw_image_paths
from torchpaths.filtering.draw_states import by_position, draw_runs, draw_states
from torchpaths.filtering.runs import Trained
from torchpaths.train.run import train
from train_toys import tiny
from verbs import answer, complaint


class Pixels:
    """The images of a test as an image set gives them."""

    def __init__(self, count: int) -> None:
        self.values = np.random.default_rng(0).integers(0, 255, (count, 12, 12, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.values)

    def read(self, index: Any, /) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = self.values[index]
        return found


def bars(figure: Figure) -> list[Rectangle]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


def texts(figure: Figure) -> list[str]:
    """Everything written in a figure, ticks too."""
    found = [text.get_text() for text in figure.texts]
    for axes in figure.axes:
        found += [axes.get_title("left"), axes.get_xlabel(), axes.get_ylabel(), *(t.get_text() for t in axes.texts)]
        found += [label.get_text() for label in axes.get_xticklabels()]
    return found


def test_the_report_is_json_holds_everything_and_draws_it(tmp_path: Path) -> None:
    net = blocks([tp.GatedFilters(), tp.GatedBlocks()])
    x, y = noise(60)
    loader = cut(x, y, 40, 20)
    options = {"images": Pixels(60), "classes": list("abcd"), "embedded": 40, "title": "toy"}
    report = filter_report(net, loader, loader, blocks(seed=3), folder=tmp_path, **options)  # type: ignore[arg-type]
    json.dumps(report, allow_nan=False)
    states = filter_states(net, loader)
    assert FilterStates.from_json(report["states"]).counts == states.counts
    told = information(net, loader, loader)
    assert report["information"]["network"] == told.to_json()
    assert report["information"]["other"] == information(blocks(seed=3), loader, loader).to_json()
    names = {Path(file).stem for file in report["files"]}
    assert names == {
        "filter-states", "filter-categories", "filter-information", "class-paths", "image-paths", "encodings",
        "filter-images",
    }  # fmt: skip
    assert all(Path(file).is_file() for file in report["files"])
    again = filter_report(net, cut(x, y, 7, 53), loader, blocks(seed=3), classes=list("abcd"))
    assert {k: v for k, v in again.items() if k != "files"} == {k: v for k, v in report.items() if k != "files"}


def test_the_report_refuses_other_names_and_layers() -> None:
    loader = [noise(20)]
    with pytest.raises(DataError, match="2 class names for 4 classes"):
        filter_report(blocks(), loader, loader, classes=["a", "b"])
    with pytest.raises(PathError, match="'layer' is no site of filters"):
        filter_report(blocks(), loader, loader, site="layer")
    with pytest.raises(DataError, match="t-SNE of -3 images"):
        filter_report(blocks(), [], [], embedded=-3)


def test_bars_of_states_are_the_shares_counted() -> None:
    x, y = images()
    states = filter_states(chain(), [(x, y)])
    figure = draw_states(states, "toy")
    heights = [bar.get_height() for bar in bars(figure)]
    assert heights == pytest.approx([100 / 6, 400 / 6, 100 / 6])
    assert "second" in texts(figure)
    assert any("active 16.7%, dynamic 66.7%, silent 16.7%" in text for text in texts(figure))


def test_layers_of_one_position_stand_together_as_in_the_paper() -> None:
    sites = [f"layer{s}.{b}.{c}" for s in (1, 2) for b in (0, 1) for c in ("conv1", "conv2")]
    assert {p: len(m) for p, m in by_position(sites).items()} == {"conv1": 4, "conv2": 4}
    assert list(by_position(["features.0", "features.3"])) == [""]
    assert len(draw_states(filter_states(blocks(), [noise(9)]), "toy").axes) == 1


def test_a_layer_without_images_says_so() -> None:
    states = FilterStates({"a": torch.tensor([0, 0]), "b": torch.tensor([1, 0])}, {"a": 0, "b": 2})
    assert "no image came" in texts(draw_states(states, "toy"))


def test_cells_of_a_class_are_the_shares_of_its_images_that_open_dynamic_filters() -> None:
    x, y = images()
    paths = class_paths(chain(), [(x, y)])
    figure = draw_class_paths(paths, ["a", "b", "c"], "toy")
    for k in range(3):
        shown = figure.axes[k].images[0].get_array()
        assert shown is not None
        assert np.allclose(shown[:, 0], 100 * paths.shares["second"][k, 2:])
    whole = draw_class_paths(paths, ["a", "b", "c"], "toy", dynamic=False).axes[0].images[0].get_array()
    assert whole is not None
    assert whole.shape == (6, 1)
    nothing = class_paths(chain(), [(x[:2], y[:2])])
    with pytest.raises(DataError, match="draw them whole"):
        draw_class_paths(nothing, ["a", "b", "c"], "toy")


def test_an_image_leaves_layers_empty_that_it_did_not_come_to() -> None:
    net = blocks([tp.GatedFilters(), tp.GatedBlocks()])
    x, _ = noise(10)
    few = image_paths(net, x)
    figure = draw_image_paths(few, [str(i) for i in range(10)], "toy")
    sites = list(few.opened)
    for i in range(10):
        shown = figure.axes[i].images[0].get_array()
        assert isinstance(shown, np.ma.MaskedArray)
        for k, site in enumerate(sites):
            assert bool(np.ma.getmaskarray(shown)[0, k]) is not bool(few.came[site][i])


def test_categories_are_drawn_with_filters_in_the_order_of_classes() -> None:
    values = {"a": np.array([[0.2, 1.0, 0.0, 0.9], [0.4, 1.0, 0.0, 0.1]])}
    shown = draw_categories(values, ["x", "y"], "toy").axes[0].images[0].get_array()
    assert shown is not None
    assert np.allclose(shown, [[90, 20], [10, 40]]), "active and silent filters are left out"
    weights = draw_categories(values, ["x", "y"], "toy", weights=True)
    assert weights.axes[0].images[0].get_clim() == (-1, 1)
    with pytest.raises(DataError, match="no layer has values"):
        draw_categories({"a": np.full((2, 3), np.nan)}, ["x", "y"], "toy")


def test_figures_of_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="nothing to draw"):
        draw_points({}, ["a"], "toy")
    with pytest.raises(DataError, match="0 networks to compare"):
        draw_information({}, "toy")
    loader = [noise(20)]
    one, other = information(blocks(), loader, loader), information(chain(), [images()], [images()])
    with pytest.raises(DataError, match="no layer in common"):
        draw_information({"a": one, "b": other}, "toy")


def test_the_figure_of_runs_has_a_bar_for_each_state_and_the_numbers_of_the_table() -> None:
    rows = [
        Trained("b", 2e-4, 0.01, 1, 59e6, 0.9253, 0.3, 0.4, 0.3, 9),
        Trained("a", 1e-4, 0, 1, 117e6, 0.9281, 1, 0, 0, 9),
    ]
    figure = draw_runs(rows, "toy")
    assert [bar.get_width() for bar in bars(figure)] == pytest.approx([100, 30, 0, 40, 0, 30])
    assert {"0.0001", "0.01", "117.0 M", "92.53%"} <= set(texts(figure))


SITES = ("layer[23].*conv1",)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one epoch with filters, and one without."""
    folder = tmp_path_factory.mktemp("filters")
    train(
        tiny(model="cifar_resnet14", method=tp.GatedFilters(mutual=0.05, sparse=0.01, sites=SITES)),
        folder / "one",
        quiet=True,
    )
    train(tiny(model="cifar_resnet14", method=tp.GatedFilters(kl=0, sites=SITES)), folder / "two", quiet=True)
    train(tiny(model="cifar_resnet14", method=None), folder / "plain", quiet=True)
    return folder


def test_the_verb_measures_writes_and_draws(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = runs / "out"
    options = ["--twin", runs / "two", "--against", runs / "two", "--train-images", 200, "--embedded", 60, "--out", out]
    answered = answer(capsys, "filters", runs / "one", *options, "--json")
    kept = json.loads((out / "filters.json").read_text())
    assert {k: v for k, v in answered.items() if k not in ("files", "folder")} == kept
    assert set(answered["information"]) == {"one", "two"}
    assert answered["information"]["one"]["heads"].keys() == answered["states"]["sites"].keys()
    assert [(row["sparse"], row["kl"]) for row in answered["runs"]] == [(1e-4, 0), (0.01, 1)]
    accuracy = json.loads((runs / "one" / "summary.json").read_text())["accuracy"]
    assert answered["runs"][1]["accuracy"] == accuracy
    assert {"filter-runs.png", "filter-heads.png", "filter-images.png"} <= {Path(f).name for f in answered["files"]}
    assert all(Path(file).is_file() for file in answered["files"])
    assert not (runs / "one" / "filters.json").exists()


def test_the_verb_refuses_runs_that_have_no_filters(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, plain = runs / "one", runs / "plain"
    said = complaint(capsys, "filters", plain)
    assert "has no filters that open and close" in said
    assert "--method GatedFilters" in said
    assert "has no filters that open and close" in complaint(capsys, "filters", one, "--twin", plain)
    assert "was trained without losses on its filters" in complaint(capsys, "filters", one, "--against", plain)
    assert "'layer9' is no site of filters" in complaint(capsys, "filters", one, "--site", "layer9")
