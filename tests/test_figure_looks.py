"""What figures may not do: axes beyond 100 %, names that say something else, a picture of nothing; and papers' look."""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import torchpaths as tp
from survey_toy import Toy, loader
from torchpaths.depth import Depth, NormDistance
from torchpaths.depth.figures import draw_depths, draw_norms
from torchpaths.fronts import Front, Point
from torchpaths.fronts.figure import draw_front, rising
from torchpaths.surveys import survey
from torchpaths.surveys.figures import accuracy_macs, class_rates, save, save_all
from torchpaths.surveys.figures.style import HEADING, drawn_as
from torchpaths.surveys.figures.tradeoff import Point as Network
from train_toys import ToyNet


def front() -> Front:
    net = tp.route(ToyNet(), tp.GatedBlocks(), example=torch.zeros(2, 1, 6, 6))
    full = float(net.layout.plain.macs)
    gates = Point("threshold", None, 0.0, accuracy=0.97, macs=0.6 * full)
    return Front(
        net.layout, (Point("full", tp.Path.full(net), accuracy=1.0, macs=full), gates), (), 1.0, 10, name="toy"
    )


def key(figure: Figure) -> list[str]:
    found = [axes.get_legend() for axes in figure.axes]
    return [text.get_text() for legend in found if legend is not None for text in legend.get_texts()]


def test_everything_open_is_not_called_the_plain_network_which_is_drawn_where_it_is_known() -> None:
    assert "these weights, all open" in key(draw_front(front()))
    assert "the plain network" not in key(draw_front(front()))
    figure = draw_front(front(), twin=0.99)
    assert "the plain network" in key(figure)
    marks = [np.asarray(line.get_xydata()) for line in figure.axes[0].lines if line.get_label() == "the plain network"]
    assert np.array_equal(np.concatenate(marks), [[100.0, 99.0]])


def test_no_axis_of_accuracies_goes_beyond_100_percent() -> None:
    networks = [Network("plain", 2e6, 1.0, "plain"), Network("gates", 1e6, 0.99)]
    depths = (Depth("F", tp.Path({"a": [True]}), 1.0, 10.0), Depth("T", tp.Path({"a": [False]}), 0.9, 5.0))
    for figure in (draw_front(front()), accuracy_macs(networks), draw_depths(depths, 10, "toy", {})):
        assert figure.axes[0].get_ylim()[1] <= 100
        assert any(not line.get_clip_on() for line in figure.axes[0].lines), "a mark at 100 % is whole"


def test_depths_are_dots_and_norms_have_names() -> None:
    depths = (Depth("F", tp.Path({"a": [True]}), 0.8, 10.0), Depth("T", tp.Path({"a": [False]}), 0.7, 5.0))
    [axes] = draw_depths(depths, 10, "toy", {}).axes
    assert not axes.patches, "no bars: the axis does not begin at 0"
    assert sorted(y for line in axes.lines for y in np.ravel(line.get_ydata())) == pytest.approx([70, 80])
    norms = (NormDistance("layer1", "layer1.0.bn1", 0.1), NormDistance("layer2", "layer2.0.bn2", 0.2))
    [axes] = draw_norms(norms, "toy").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["layer1.0.bn1", "layer2.0.bn2"]


def test_nothing_is_drawn_of_a_network_that_decides_nothing(tmp_path: pathlib.Path) -> None:
    found = survey(Toy(), loader())
    assert save_all(found, tmp_path / "gates")
    x = torch.randn(4, 1, 6, 6)
    plain = survey(tp.route(ToyNet(), example=x), [(x, torch.zeros(4, dtype=torch.long))])
    assert save_all(plain, tmp_path / "plain") == []
    assert not (tmp_path / "plain").exists()


def test_in_a_papers_look_a_figure_is_white_untitled_and_a_pdf(tmp_path: pathlib.Path) -> None:
    figure = class_rates(dataclasses.replace(survey(Toy(), loader()), name="toy"))
    with drawn_as("paper"):
        [file] = save(figure, tmp_path / "rates")
        [picture] = save(figure, tmp_path / "rates", kinds=("png",))
    assert file.name == "rates.pdf"
    assert file.read_bytes().startswith(b"%PDF")
    headings = [artist for artist in figure.findobj() if artist.get_gid() == HEADING]
    assert len(headings) == 2
    assert not any(artist.get_visible() for artist in headings)
    with Image.open(picture) as image:
        assert image.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
    assert [path.suffix for path in save(class_rates(survey(Toy(), loader())), tmp_path / "house")] == [".png", ".svg"]


def test_lines_of_a_front_join_what_nothing_cheaper_is_as_accurate_as() -> None:
    assert rising([(1, 80.0), (2, 70.0), (3, 80.0), (4, 90.0)]) == [(1, 80.0), (4, 90.0)]
    assert rising([(1, 0.0)]) == [(1, 0.0)]
