"""A network whose stages are chosen from outside and whose blocks, in and beside them, gates decide: everything that
reads costs, opens units or counts them."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import pathlib
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

import torchpaths as tp
from laws import random_path
from torchpaths.cli.tables import side_by_side
from torchpaths.costs import count_macs
from torchpaths.errors import BudgetError, PathError
from torchpaths.fronts import Point
from torchpaths.fronts.candidates import every, greedy, observe, search
from torchpaths.fronts.evaluate import Worth, evaluate, undisturbed
from torchpaths.fronts.points import Choice
from torchpaths.models import create_model
from torchpaths.skips.network import skipping
from torchpaths.surveys.figures import class_rates, easy_and_hard, executed_layers, training_rates
from torchpaths.surveys.stages import noun, stages
from torchpaths.terminal import Console
from torchpaths.train.report import Report

Images = list[tuple[Tensor, Tensor]]
STAGES = ("layer1", "layer2", "layer3")
INNER = {f"{stage}.2": stage for stage in STAGES}


@pytest.fixture(scope="module")
def net() -> tp.Routed:
    """ResNet-20 of three stages; the last block of each lies inside its stage."""
    torch.manual_seed(0)
    model = create_model("cifar_resnet20", 5)
    net = tp.route(model, [tp.AdaptiveDepth(), tp.GatedBlocks()], example=torch.randn(2, 3, 32, 32)).eval()
    for site in net.sites.values():
        if isinstance(site.decider, tp.Gate):
            torch.nn.init.normal_(site.decider.fc2.weight, std=3.0)
    return net


@pytest.fixture(scope="module")
def images(net: tp.Routed) -> Images:
    torch.manual_seed(1)
    x = torch.randn(20, 3, 32, 32)
    return [(x[:12], torch.arange(12) % 5), (x[12:], torch.arange(8) % 5)]


def test_each_kind_has_its_units_and_the_last_blocks_lie_inside_their_stages(net: tp.Routed) -> None:
    kinds = {kind: [net.layout.units[i].site for i in numbers] for kind, numbers in net.layout.kinds.items()}
    assert set(kinds["stage"]) == set(STAGES)
    assert len(kinds["block"]) == 9
    assert net.layout.inside == {inner: ((stage, 0),) for inner, stage in INNER.items()}


def test_units_and_fingerprint_are_the_same_whoever_decides(net: tp.Routed) -> None:
    model, x = create_model("cifar_resnet20", 5), torch.randn(2, 3, 32, 32)
    other = tp.route(model, [tp.GatedBlocks(hidden=4), tp.AdaptiveDepth()], example=x)
    assert other.layout.units == net.layout.units
    assert other.layout.fingerprint == net.layout.fingerprint


def test_a_paths_cost_is_what_is_counted_on_its_run_and_in_its_cut(net: tp.Routed) -> None:
    layout, x = net.layout.undecided(), torch.randn(1, 3, 32, 32)
    for seed in range(6):
        path = random_path(net, seed=seed)
        assert layout.cost(path.opened(layout)[0]).macs == tp.cost(net, x, path).macs
        cut = tp.extract(net, path)
        assert layout.cost(path.opened(layout)[0]).macs == count_macs(lambda cut=cut: cut(x))  # type: ignore[misc]


def test_a_path_names_sites_inside_closed_ones_or_leaves_them_out(net: tp.Routed) -> None:
    shut = tp.Path.full(net) & tp.Path({"layer2": [False]})
    without = tp.Path({site: opened for site, opened in shut.items() if site != "layer2.2"}, shut.network)
    assert without.cost(net) == shut.cost(net) == (shut & tp.Path({"layer2.2": [False]})).cost(net)
    assert without.macs(net).tolist() == [shut.cost(net).macs]


def test_a_path_that_leaves_out_what_may_cost_something_is_told_which(net: tp.Routed) -> None:
    shut = tp.Path.full(net) & tp.Path({"layer2": [False]})
    left = {"layer2.2": "harmless", "layer1.2": "costly", "layer3": "costly"}
    partial = tp.Path({site: opened for site, opened in shut.items() if site not in left}, shut.network)
    with pytest.raises(PathError, match=r"leaves 2 sites.*\((layer1.2, layer3|layer3, layer1.2)\)"):
        partial.cost(net)
    mended = partial & tp.Path({site: [True] for site, how in left.items() if how == "costly"})
    assert mended.cost(net) == shut.cost(net)


def test_a_stage_left_out_matters_only_where_a_sample_opens_what_is_in_it(net: tp.Routed) -> None:
    rows = torch.tensor([[True], [False]])
    path = tp.Path.full(net) & tp.Path({"layer1": rows, "layer1.2": ~rows})
    full = tp.Path.full(net).cost(net).macs
    inner = net.layout.undecided().saved("layer1.2").macs
    stage = net.layout.saved("layer1").macs
    assert path.macs(net).tolist() == [full - inner, full - stage]


def chosen(net: tp.Routed, seed: int) -> tp.Path:
    """Stages chosen for each of 12 images, blocks left to the gates."""
    return tp.Path({site: value for site, value in random_path(net, 12, seed).items() if site in STAGES})


def test_blocks_inside_a_closed_stage_count_as_closed_for_the_images_it_is_closed_for(
    net: tp.Routed, images: Images
) -> None:
    path = chosen(net, 3)
    found = tp.survey(net, images[:1], path=path, keep_paths=True)
    assert found.samples is not None
    opened = found.samples.opened(12)
    for inner, stage in INNER.items():
        numbers = [[unit.site for unit in net.layout.units].index(site) for site in (inner, stage)]
        assert not (opened[:, numbers[0]] & ~opened[:, numbers[1]]).any()
        assert opened[:, numbers[1]].tolist() == path[stage][:, 0].tolist()
    assert np.array_equal(found.samples.macs, net.layout.costs(opened)[:, 0])
    gone = tp.survey(skipping(net), images[:1], path=path, keep_paths=True)
    assert gone.samples is not None
    assert np.array_equal(gone.samples.packed, found.samples.packed), "run for some images or masked, it is the same"


def test_a_survey_of_nested_units_comes_back_from_disk_and_chooses_for_each_kind(
    net: tp.Routed, images: Images, tmp_path: pathlib.Path
) -> None:
    found = tp.survey(net, images, path=tp.Path({"layer1": [False]}))
    again = tp.Survey.load(found.save(tmp_path), net.layout)
    assert again.layout == net.layout
    assert again.shares == found.shares
    assert again.shares["stage"] == pytest.approx(2 / 3)
    assert json.loads((tmp_path / "survey.json").read_text())["now"]["params"] == tp.Path.full(net).cost(net).params
    path = again.path(budget=tp.Budget(open=0.4))
    units = [sum(path[unit.site][0] for unit in again.layout.units if unit.kind == kind) for kind in ("stage", "block")]
    assert units == [1, 3]
    half = again.path(budget=tp.Budget(macs=0.5))
    assert half.cost(net).macs <= 0.5 * net.layout.plain.macs
    assert half["layer1"] == half["layer1.2"] == (False,)


def test_figures_name_a_stage_that_is_a_unit_among_its_blocks(net: tp.Routed, images: Images) -> None:
    found = dataclasses.replace(tp.survey(net, images, keep_paths=True), name="Nested")
    assert [(part.name, part.labels) for part in stages(net.layout)] == [
        (stage, ("0", "stage", "1", "2")) for stage in STAGES
    ]
    assert noun(net.layout) == "unit"

    class Grey:
        def __len__(self) -> int:
            return 20

        def read(self, index: object) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
            return np.zeros((len(np.asarray(index)), 4, 4, 1), np.uint8)

    for figure in (
        class_rates(found),
        executed_layers(found),
        easy_and_hard(found, Grey()),
        training_rates([0, 1], np.stack([found.rates, found.rates]), net.layout),
    ):
        figure.draw_without_rendering()


def test_gates_that_some_or_no_images_reach_have_the_scores_of_those_that_do(net: tp.Routed, images: Images) -> None:
    path = chosen(net, 3)

    class Forced(torch.nn.Module):
        """The network with its stages chosen by the images."""

        sites, layout, parameters = net.sites, net.layout, net.parameters

        def forward(self, x: Tensor, more: tp.Path | None = None) -> tuple[Tensor, tp.Trace]:
            return net(x, path if more is None else path & more)  # type: ignore[no-any-return]

    with undisturbed(net):
        observed = observe(Forced(), images[:1])  # type: ignore[arg-type]
    for inner, stage in INNER.items():
        assert len(observed.scores[inner]) == int(path[stage].sum())
    path = path & tp.Path({"layer1": torch.zeros(12, 1, dtype=torch.bool)})
    with undisturbed(net):
        assert len(observe(Forced(), images[:1]).scores["layer1.2"]) == 0  # type: ignore[arg-type]


def test_the_points_of_the_menu_are_what_the_network_does(
    net: tp.Routed, images: Images, tmp_path: pathlib.Path
) -> None:
    front = tp.front(net, images, batch=())
    assert tp.Front.load(front.save(tmp_path), net).candidates == front.candidates
    assert {point.kind for point in front.candidates} == {"full", "every", "threshold", "rate"}
    for point in front.candidates:
        found = tp.survey(net, images, path=point.apply(net))
        assert point.accuracy == pytest.approx(found.accuracy)
        assert point.open == pytest.approx(max(found.shares.values()))
        fixed = point.path if point.fixed else None
        assert point.macs == pytest.approx(tp.cost(net, images[0][0][:1], fixed).macs if fixed else found.macs)
    Choice("threshold", threshold=0.0).apply(net)


def test_a_budget_of_units_asks_for_a_point_that_keeps_it_in_each_kind(net: tp.Routed, images: Images) -> None:
    few = tp.Path({site: [site in ("layer1", "layer1.2")] for site in net.sites})
    with undisturbed(net):
        [worth] = evaluate(net, [Choice("every", few)], images)
    assert worth.point.open == pytest.approx(1 / 3), "a third of the stages, a ninth of the blocks"
    front = tp.Front(net.layout, (worth.point,), (), accuracy=0.9, images=20)
    assert front.best(tp.Budget(open=0.34)) == worth.point
    with pytest.raises(BudgetError, match=r"open=0.2.*path with 2 of 12 units open, which opens 33.3%.*open=0.3335\)"):
        front.best(tp.Budget(open=0.2))
    assert front.best(tp.Budget(open=0.3335)) == worth.point, "the remedy named"


def test_what_people_read_says_each_kinds_share(net: tp.Routed, images: Images) -> None:
    found = tp.survey(net, images, path=tp.Path({"layer1": [False]}))
    told = io.StringIO()
    Console(file=told, width=120).print(side_by_side([found]))
    assert "stage 66.7%" in told.getvalue()
    assert f"block {found.shares['block']:.1%}" in told.getvalue()
    row = {"epoch": 0, "accuracy": 0.5, "open": 0.75, "macs_share": 0.6, "losses": {}, "warnings": []}
    for more, said in (
        ({}, "75.0% of units open"),
        ({"open_by_kind": {"stage": 0.75, "block": 0.5}}, "50.0% of block"),
    ):
        said_now = io.StringIO()
        Report("run", 1, False, Console(file=said_now, width=200)).epoch({**row, **more}, 1)
        assert said in said_now.getvalue()


def test_every_way_to_close_nested_units_is_tried_once(net: tp.Routed) -> None:
    units = [unit for unit in net.layout.units if unit.site.startswith("layer1")]
    found = every(net.layout, units, None)
    assert len(found) == len({choice.path for choice in found}) == 2 * 2 * 3, "of block and stage around it 3 of 4"
    runs = {tuple(net.layout.running(choice.path.opened(net.layout)[0])) for choice in found if choice.path}
    assert len(runs) == 12


def test_the_greedy_search_goes_by_what_closing_a_unit_saves_now_and_closes_what_is_inside_with_it(
    net: tp.Routed,
) -> None:
    def attempt(choices: Sequence[Choice]) -> list[Worth]:
        """Every unit is worth the same accuracy, the first stage nothing."""
        shut = [sum(not v[0] for s, v in (c.path or {}).items() if s not in ("layer1", "layer1.2")) for c in choices]
        return [
            Worth(Point(c.kind, c.path, None, 1 - 0.01 * n, 1, 1), 8, 0.0) for c, n in zip(choices, shut, strict=True)
        ]

    layout = net.layout
    opened = [choice.path.opened(layout)[0] for choice in greedy(layout, layout.units, None, attempt) if choice.path]
    closed = [{layout.units[i].site for i in np.flatnonzero(a & ~b)} for a, b in itertools.pairwise(opened)]
    # Then those of equal accuracy that save most: a stage saves the gate in it too, and wider gates cost more.
    assert closed[:3] == [{"layer1", "layer1.2"}, {"layer3", "layer3.2"}, {"layer2", "layer2.2"}]
    assert len(closed) == 9
    assert not opened[-1].any()


def test_search_offers_each_choice_once_and_no_gate_inside_a_closed_stage_matters(
    net: tp.Routed, images: Images
) -> None:
    with undisturbed(net):
        found = search(net, images, lambda _: None)
    assert len(found) == len({(choice.path, choice.threshold) for choice in found})
    ways = {choice.path for choice in found if choice.kind == "every"}
    assert ways == {
        tp.Path({s: [o] for s, o in zip(STAGES, way, strict=True)}, net.layout.fingerprint)
        for way in itertools.product((True, False), repeat=3)
    }
