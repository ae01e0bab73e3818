"""Claims about columns of a survey that only some networks and data sets have: groups of classes, times of units, and
the images that filters respond to."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import torchpaths as tp
from filter_toys import blocks, noise
from test_cli_artefacts import made
from torchpaths.data.groups import CIFAR100, groups_of
from torchpaths.errors import RouteError
from torchpaths.filtering.peaks import peaks, top_images
from torchpaths.meter.units import timed_apart, unit_times
from torchpaths.models import create_model
from torchpaths.surveys.columns import Alone, Times
from torchpaths.surveys.order import class_order
from verbs import answer

NAMES = sorted(name for names in CIFAR100.values() for name in names.split())


def test_cifar100_has_twenty_groups_of_five_and_other_classes_have_none() -> None:
    groups = groups_of(NAMES)
    assert len(NAMES) == len(set(NAMES)) == 100
    assert {groups.count(group) for group in groups} == {5}
    assert [groups[NAMES.index(name)] for name in ("worm", "pine_tree")] == ["non-insect invertebrates", "trees"]
    assert groups_of([name.replace("_", " ") for name in NAMES[::-1]]) == groups[::-1]
    assert groups_of(NAMES[:99]) == groups_of([*NAMES[:99], "cat"]) == groups_of([]) == ()


def test_classes_of_a_group_stand_together() -> None:
    groups = groups_of(NAMES)
    order = class_order(np.random.default_rng(0).random((100, 4)), groups)
    ordered = [groups[c] for c in order]
    assert sum(a != b for a, b in itertools.pairwise(ordered)) == 19


def operations(call: Callable[[], object]) -> float:
    """In place of a clock: a millisecond for each million multiply-adds."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops()) / 2e9


@pytest.mark.parametrize("method", [tp.GatedBlocks(), tp.AdaptiveDepth(), tp.Fixed()])
def test_a_unit_takes_what_the_network_takes_less_without_it(method: tp.Method) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16)
    net = tp.route(create_model("cifar_resnet14", 4).eval(), method, example=x)
    layout = net.layout
    assert timed_apart(layout)
    units, fixed = unit_times(net, [x], seconds=1e-9, timer=operations)
    wanted = layout.gains(np.ones(len(layout.units), bool))[:, 0]
    np.testing.assert_allclose(units, 2 * wanted / 1e6, rtol=0.02)  # the meter counts pooling and gates a little apart
    everything = layout.costs(np.ones(len(layout.units), bool))[0]
    assert fixed + sum(units) == pytest.approx(2 * everything / 1e6, rel=0.02)


def test_units_that_depend_on_each_other_or_are_many_are_not_timed_apart() -> None:
    x = torch.randn(2, 3, 16, 16)
    for method in (tp.GatedFilters(), [tp.AdaptiveDepth(), tp.GatedBlocks()]):
        assert not timed_apart(tp.route(create_model("cifar_resnet14", 4), method, example=x).layout)


def test_units_and_networks_that_take_nothing_are_written_as_they_are_read(tmp_path: Path) -> None:
    """Differences of measured times come out as 0 where they are too short to be seen."""
    model = torch.nn.Sequential(Added(), Added(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    batches = [(torch.randn(12, 4, 8, 8), torch.arange(12) % 4)]
    net = tp.route(model, example=batches[0][0])
    found = tp.survey(net, batches)
    setting = tp.measure(net, batches[0][0][:1], seconds=0.01).setting
    times = Times(setting, 1.0, 1.0, 1.0, (1.0, 1.0), (), (0.0, 0.5), 0.0)
    alone = Alone((0.0, 0.1), 12, 0.5, ((0.0, 0.0), (4.0, 1.0)), (4.0, 1.0))
    written = dataclasses.replace(found, times=times, alone=alone)
    read = tp.Survey.load(written.save(tmp_path))
    assert (read.times, read.alone) == (times, alone)
    front = tp.front(net, batches, batch=())
    assert min(point.macs for point in front.points) == 0, "with everything closed nothing is left"
    front.save(tmp_path)
    assert tp.Front.load(tmp_path, net).points == front.points


class Added(torch.nn.Module):
    """``x + conv(x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = x + self.conv(x)
        return out


def test_the_top_images_of_all_filters_are_those_of_each_layer_searched_by_itself() -> None:
    torch.manual_seed(0)
    net = blocks()
    x, y = noise(9)
    found = top_images(net, [(x[:4], y[:4]), (x[4:], y[4:])], top=3)
    start = 0
    for site, units in net.layout.sites.items():
        if units[0].kind == "filters":
            images = peaks(net, [(x, y)], site, top=3).images
            for number, row in enumerate(images.tolist(), start):
                assert found.get(number, ()) == tuple(i for i in row if i >= 0)
        start += len(units)
    assert found
    with pytest.raises(RouteError, match="no site of filters"):
        top_images(tp.route(create_model("cifar_resnet14", 4), None, example=torch.randn(2, 3, 8, 8)), [(x, y)])


def test_a_gallery_of_a_network_of_filters_says_which_of_its_images_each_responds_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    run = made(tmp_path / "run", tp.GatedFilters())
    found = tp.Survey.load(answer(capsys, "survey", run, "--gallery", "--json")["survey"])
    shown = {image.number for image in found.gallery}
    assert found.filters
    assert all(0 < len(images) <= 9 and set(images) <= shown for images in found.filters.values())
    opened = np.array(
        [np.unpackbits(np.frombuffer(i.packed, np.uint8), count=len(found.layout.units)) for i in found.gallery]
    )
    assert set(found.filters) == set(np.flatnonzero(opened.any(0)).tolist())
