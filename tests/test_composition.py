"""Methods together keep every law: depth, gates and channels inside one another, in any order."""

from __future__ import annotations

import copy
import pathlib
from dataclasses import replace
from functools import partial
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

import laws
import skip_laws
import torchpaths as tp
from channel_toys import ToyBranches, ToyFilters, stir
from export_toys import run
from torchpaths.costs import count_params
from torchpaths.errors import CallError, PathError, RouteError
from torchpaths.layout import Term, Unit
from torchpaths.methods.base import Method
from torchpaths.places.channels.layer import Layer, Role
from torchpaths.places.covers import Cover, make_layout
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.trace import Inputs, Site
from toys import toy

DEPTH, GATES, FILTERS, BRANCHES = tp.AdaptiveDepth(), tp.GatedBlocks(), ToyFilters(), ToyBranches(4)
TOGETHER: dict[str, list[Method]] = {
    "depth + gates": [DEPTH, GATES],
    "gates + depth": [GATES, DEPTH],
    "gates + filters": [GATES, FILTERS],
    "filters + depth": [FILTERS, DEPTH],  # doubled norms and filters claim the same norms
    "depth + gates + filters": [DEPTH, GATES, FILTERS],
    "branches + gates + depth": [BRANCHES, GATES, DEPTH],
}
NETWORK = {"depth + gates": "timm/narrow", "gates + filters": "timm/narrow"}
"""What a combination is tested on, if not on blocks of torchvision."""


def make(name: str, network: str | None = None, seed: int = 0) -> tuple[tp.Routed, nn.Module, Tensor]:
    """A network of several methods that looks at its images, the original, and five images; in double precision, so
    that no order of summation turns a decision."""
    original, x = toy(network or NETWORK.get(name, "torchvision/narrow"), seed)
    original, x = original.double(), torch.cat([x, x[:1].flip(3)]).double()
    net = tp.route(copy.deepcopy(original), TOGETHER[name], example=x)
    stir(net)
    return laws.halved(net, x), original, x


@pytest.mark.parametrize("name", TOGETHER)
def test_laws(name: str) -> None:
    net, original, x = make(name)
    laws.check_all(net, original, x)
    laws.check_all_that_repeats(net, make(name, seed=1)[0], x)


@pytest.mark.parametrize("name", TOGETHER)
def test_skipping_is_masking_and_runs_what_its_paths_cost(name: str) -> None:
    net, _, x = make(name)
    skip_laws.check_skipping_is_masking(net, x)
    skip_laws.check_macs_are_those_that_run(net, x)


@pytest.mark.parametrize("name", TOGETHER)
def test_a_cut_network_is_the_forced_one(name: str) -> None:
    net, _, x = make(name)
    laws.check_cut_is_forced(net, x)


@pytest.mark.parametrize("name", ["depth + gates + filters", "branches + gates + depth"])
def test_threads_and_inner_calls_do_not_meet(name: str) -> None:
    net, _, x = make(name)
    for shared in (net, skip_laws.always(tp.skipping(net))):
        laws.check_threads_do_not_meet(shared, x)
        laws.check_a_call_within_a_call(shared, x)


def test_a_composed_network_compiles_as_one_graph() -> None:
    net, _, x = make("depth + gates + filters")
    laws.check_compiled_is_eager(net.eval(), x, (None, laws.random_path(net)))


def test_paths_of_a_composed_network_make_a_menu() -> None:
    net, _, x = make("branches + gates + depth")
    paths = [laws.random_path(net, seed=seed) for seed in range(2)]
    menu = tp.compiled(net, paths, backend="eager")
    for path in paths:
        with torch.no_grad():
            laws.close(menu(x, path), net(x, path)[0])


@pytest.mark.parametrize(("batch", "skip"), [("one", "FF"), ("any", "FT")])
def test_depth_and_gates_are_exported_together(batch: Literal["one", "any"], skip: str, tmp_path: pathlib.Path) -> None:
    pytest.importorskip("onnxruntime")
    original, x = toy("torchvision/narrow")
    net = tp.route(original, [DEPTH, tp.GatedBlocks(sites=(r"layer\d.1",))], example=x)
    stir(net)
    laws.halved(net, x)
    path = DEPTH.path(net, skip)
    exported = tp.export(net, tmp_path / "net.onnx", x, path=path, batch=batch)
    for part in torch.split(x, 1 if batch == "one" else 4):
        with torch.no_grad():
            y, trace = net(part, path)
        got, opened = run(exported.file, part)
        torch.testing.assert_close(got, y, rtol=1e-4, atol=1e-4)
        for i, unit in enumerate(net.layout.units):
            ran = trace[unit.site].open[:, unit.index] if unit.site in trace else torch.zeros(len(part)).bool()
            assert torch.equal(opened[:, i].bool(), ran)


def test_channels_that_decide_are_no_part_of_an_exported_graph_until_they_are_fixed(tmp_path: pathlib.Path) -> None:
    original, x = toy("torchvision/narrow")
    net = tp.route(original, TOGETHER["gates + filters"], example=x)
    with pytest.raises(RouteError, match=r"a Layer cannot decide inside an exported graph; fix its units: export"):
        tp.export(net, tmp_path / "net.pt2", x)
    filters = {name: choice for name, choice in laws.random_path(net).items() if net.sites[name].kind == "filters"}
    exported = tp.export(net, tmp_path / "net.pt2", x, path=tp.Path(filters))
    with torch.no_grad():
        torch.testing.assert_close(run(exported.file, x[:1])[0], net(x[:1], tp.Path(filters))[0], rtol=1e-4, atol=1e-4)


def test_a_survey_counts_what_composed_paths_cost() -> None:
    net, _, x = make("depth + gates + filters")
    survey = tp.survey(net, [(x, torch.zeros(len(x), dtype=torch.long))], keep_paths=True)
    with torch.no_grad():
        _, trace = net(x)
    costs = tp.Path.of(trace).macs(net)
    assert survey.samples is not None
    assert survey.samples.macs.tolist() == costs.tolist()
    for share in (0.3, 0.5, 0.8):
        macs = survey.path(budget=tp.Budget(macs=share)).cost(net).macs
        assert macs <= share * net.layout.plain.macs
    assert (
        survey.path(budget=tp.Budget(macs=0.8)).cost(net).macs > survey.path(budget=tp.Budget(macs=0.3)).cost(net).macs
    )
    kept = survey.path(budget=tp.Budget(open=0.5)).opened(net.layout)[0]
    assert all(kept[numbers].mean() <= 0.5 for numbers in net.layout.kinds.values()), "of each kind"


def test_a_front_of_depths_and_gates_tries_both() -> None:
    net, _, x = make("depth + gates")
    with torch.no_grad():
        labels = net(x, tp.Path.full(net))[0].argmax(1)
    front = tp.front(net, [(x, labels)], batch=())
    full = next(point for point in front.candidates if point.kind == "full")
    assert full.accuracy == 1
    assert {point.kind for point in front.candidates} >= {"full", "every", "threshold"}
    for point in front.candidates:
        if point.fixed:
            assert point.path is not None
            assert point.macs == point.path.cost(laws.Undecided(net)).macs


def test_sites_that_share_layers_without_nesting_are_named() -> None:
    model, x = toy("torchvision/narrow")
    before = list(model.state_dict())
    with pytest.raises(RouteError, match=r"'layer1.0.across' and 'layer1.0' cover some of the same layers"):
        tp.route(model, [GATES, Across()], example=x)
    with pytest.raises(RouteError, match=r"ToyBranches and ToyFilters both decide at site 'layer1.0.conv1'"):
        tp.route(model, [FILTERS, BRANCHES], example=x)
    with pytest.raises(RouteError, match=r"channels of 'layer1.0.conv1' are closed by another method already"):
        tp.route(model, [FILTERS, Renamed()], example=x)
    assert list(model.state_dict()) == before
    tp.route(model, [GATES, FILTERS], example=x)


@pytest.mark.parametrize("axis", [0, 1])
def test_two_sites_share_weights_along_different_axes_only(axis: int) -> None:
    units = [Unit(site, i, tp.Cost(0, 0)) for site in "ab" for i in range(2)]
    covers = [Cover("a", tp.Cost(8, 4), frozenset("w")), Cover("b", tp.Cost(8, 4), frozenset("w"), axis=axis)]
    if axis == 0:
        with pytest.raises(RouteError, match="'a' and 'b' cover some of the same layers"):
            make_layout(units, covers, tp.Cost(8, 4), "Net")
    else:
        assert make_layout(units, covers, tp.Cost(8, 4), "Net").terms == (Term(tp.Cost(2, 1), ((0, 2), (2, 4))),)


def test_one_method_twice_is_refused() -> None:
    model, x = toy("torchvision/narrow")
    with pytest.raises(RouteError, match="GatedBlocks is given twice; give it once"):
        tp.route(model, [GATES, tp.GatedBlocks(hidden=8)], example=x)
    tp.route(model, [GATES], example=x)


def test_a_path_may_name_and_leave_out_what_lies_in_a_closed_block() -> None:
    net, _, x = make("gates + filters")
    closed = tp.Path.full(net) & tp.Path({"layer1.0": [False]})
    without = tp.Path({site: choice for site, choice in closed.items() if site != "layer1.0.conv1"})
    with torch.no_grad():
        y, trace = net(x, closed)
        assert torch.equal(net(x, without)[0], y)
    assert "layer1.0.conv1" not in trace
    assert without.cost(net) == closed.cost(net)
    assert count_params(tp.extract(net, without)) == count_params(tp.extract(net, closed))
    missing = tp.Path({site: choice for site, choice in closed.items() if site != "layer1.1.conv1"})
    with pytest.raises(PathError, match=r"leaves 1 sites to decide for themselves \(layer1.1.conv1\).*Path.full"):
        missing.cost(net)
    with pytest.raises(PathError, match=r"keep them open"):
        tp.extract(net, missing)
    assert (missing & tp.Path.full(net)).cost(net) == closed.cost(net)


def test_a_composed_path_is_refused_by_a_network_of_one_method() -> None:
    net, original, x = make("gates + filters")
    gated = tp.route(copy.deepcopy(original), GATES, example=x)
    with pytest.raises(PathError, match=r"names site 'layer1.0.conv1', which Narrow does not have"):
        gated(x, tp.Path.full(net))
    blocks = tp.Path({site: [True] for site in gated.sites})
    with torch.no_grad():
        assert torch.equal(gated(x, blocks)[0], original(x))


def test_what_is_no_path_is_not_taken_for_one() -> None:
    net, _, x = make("gates + filters")
    given = {"layer1.0": [False]}
    with pytest.raises(PathError, match=r"a dict of sites is no path; say Path\(\{...\}\)"):
        net(x, given)
    with pytest.raises(PathError, match=r"a dict of sites is no path; say Path\(\{...\}\)"):
        net(x, path=given)
    with torch.no_grad():
        net(x, tp.Path({"layer1.0": [False]}))


def test_further_inputs_of_the_model_go_by_position_too() -> None:
    original, x = toy("torchvision/narrow")
    table = torch.randn(len(x), 6)
    model = WithTable(original).eval()
    with torch.no_grad():
        expected = model(x, table)
        net = tp.route(model, TOGETHER["gates + filters"], example=x)
        full = tp.Path.full(net)
        for y, _ in (net(x, table, path=full), net(x, full, table), net(x, full, table=table)):
            assert torch.equal(y, expected)
        y, trace = tp.skipping(net)(x, table)
        laws.close(y, net(x, table, path=tp.Path.of(trace))[0])


def test_a_replica_of_data_parallel_is_refused() -> None:
    net, _, x = make("gates + filters")
    replica = net._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
    with pytest.raises(CallError, match=r"replica that nn.DataParallel made.*DistributedDataParallel"):
        replica(x)
    net(x)


class WithTable(nn.Module):
    """A network that takes a row of a table beside each image."""

    def __init__(self, image: nn.Module) -> None:
        super().__init__()
        self.image = image
        self.table = nn.Linear(6, 5)

    def forward(self, x: Tensor, table: Tensor | None = None) -> Tensor:
        y: Tensor = self.image(x)
        return y if table is None else y + self.table(table)


class Across(ToyFilters):
    """Closes the head together with a part of the first block."""

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        site = Site("layer1.0.across", (Unit("layer1.0.across", 0, tp.Cost(0, 0)),), ("layer1.0",))
        items = frozenset({"layer1.0.conv2.weight", "head.weight"})
        cover = Cover(site.name, tp.Cost(100, 100), items, unit=0)
        return [Plan("layer1.0.conv2", (site,), partial(Layer, role=Role(columns=site)), (cover,))]


class Renamed(ToyBranches):
    """Branches whose sites bear names of their own."""

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        plans = super().find(model, example, residuals)
        for site in {id(site): site for plan in plans for site in plan.sites}.values():
            site.name += ".branches"
            site.units = tuple(replace(unit, site=site.name) for unit in site.units)
        return [replace(p, covers=tuple(replace(c, site=p.sites[0].name) for c in p.covers)) for p in plans]
