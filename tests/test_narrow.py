"""``tp.narrow``: a network without its silent filters decides as the whole one does, is smaller, and is a network."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import laws
import skip_laws
import torchpaths as tp
from narrow_toys import FILTERS, INNER, Grouped, chain, counted, gated, narrowed, tilt
from torchpaths import deciders
from torchpaths.costs import count_params
from torchpaths.filtering import FilterStates
from torchpaths.fronts.candidates import thresholds
from torchpaths.methods.base import Method, losses
from torchpaths.narrowing import left_of, rebuild, widen
from torchpaths.narrowing.bare import bare
from torchpaths.narrowing.left import combined
from torchpaths.train.objective import total
from toys import made, toy

CASES: dict[str, tuple[str | Callable[[], nn.Module], Method | Sequence[Method]]] = {
    "torchvision": ("torchvision/narrow", FILTERS),
    "bottlenecks": ("torchvision/narrow bottlenecks", FILTERS),
    "timm": ("timm/test_resnet", FILTERS),
    "depthwise": ("torchvision/mobilenet", FILTERS),
    "flattened": (chain, tp.GatedFilters(sites=("features.3", "features.6", "classifier.0"))),
    "tokens": ("torchvision/vit", FILTERS),
    "with gated blocks": ("torchvision/narrow", [INNER, tp.GatedBlocks()]),
    "with depth and gates": ("timm/narrow", [INNER, tp.AdaptiveDepth(), tp.GatedBlocks()]),
}


def make(name: str) -> tuple[tp.Routed, tp.Routed, FilterStates, Tensor, Method | Sequence[Method]]:
    model, method = CASES[name]
    net, small, states, x = narrowed(model if isinstance(model, str) else model(), method)
    return net, small, states, x, method


@pytest.mark.parametrize("name", CASES)
def test_it_answers_and_decides_as_the_whole_network_on_the_images_that_were_counted(name: str) -> None:
    net, small, states, x, _ = make(name)
    assert 0.2 < states.shares["silent"] < 0.6
    assert states.shares["dynamic"] > 0
    with torch.no_grad():
        (y, trace), (again, narrow) = net(x), small(x)
    laws.close(again, y, 1e-10)
    assert list(narrow) == list(trace)
    for site, decision in trace.items():
        kept = ~states.silent.get(site, torch.zeros(decision.open.shape[1], dtype=torch.bool))
        assert torch.equal(narrow[site].open, decision.open[:, kept])
    assert count_params(small) < 0.95 * count_params(net)
    assert small.layout.plain.macs < net.layout.plain.macs
    assert tp.Path.of(narrow).macs(small).mean() < tp.Path.of(trace).macs(net).mean()


@pytest.mark.parametrize("name", [n for n in CASES if n != "tokens"])  # whose attention breaks the law of MACs anyhow
def test_every_law_holds_for_what_is_left(name: str) -> None:
    _, small, _, x, _ = make(name)
    x = x[:5]
    laws.check_all(small, bare(small, {}), x)
    laws.check_replaying_a_trace_gives_the_same_output(small, x)
    laws.check_copies_are_the_same(small, x)
    laws.check_cut_is_forced(small, x)
    skip_laws.check_skipping_is_masking(small, x)
    skip_laws.check_macs_are_those_that_run(small, x)


def test_compiled_as_one_graph_it_answers_as_eager() -> None:
    _, small, _, x, _ = make("torchvision")
    laws.check_compiled_is_eager(small, x[:3], (None, laws.random_path(small)))


def test_filters_that_are_always_open_have_no_score_and_layers_without_others_no_gate() -> None:
    net, small, states, x, _ = make("torchvision")
    small.train()
    _, trace = small(x)
    seen = set()
    for name, site in small.sites.items():
        dynamic = int(states.dynamic[name].sum())
        decider = site.decider
        if not dynamic:
            assert decider is None
            assert trace[name].score is None
            assert trace[name].whole == (True,) * len(site.units)
            continue
        assert isinstance(decider, deciders.FilterGate)
        old = net.sites[name].decider
        assert isinstance(old, deciders.FilterGate)
        assert decider.fc2.out_features == dynamic
        assert decider.fc1.out_features == old.fc1.out_features
        always = states.active[name][~states.silent[name]]
        score = trace[name].score
        assert score is not None
        assert torch.equal(score.isinf().all(0), always)
        assert (trace[name].z[:, always] == 1).all()
        assert not (trace[name].z[:, ~always] == 1).all()
        seen.add((bool(always.any()), len(site.units) < len(states.opened[name])))
    assert (True, True) in seen


def test_a_perceptron_scores_as_the_gate_does() -> None:
    gate = deciders.FilterGate(6, 5)
    torch.nn.init.normal_(gate.fc2.weight)
    small = gate.narrowed([0, 2, 5], [0, 1, 4], [1, 4]).eval()
    x = torch.randn(7, 3)
    wide = torch.zeros(7, 6).index_copy(1, torch.tensor([0, 2, 5]), x)
    scores = small.perceptron()(x)
    torch.testing.assert_close(scores[:, 1:], gate.perceptron()(wide)[:, [1, 4]])
    assert torch.equal(scores, small(x).score)
    assert scores[:, 0].isinf().all()
    again = small.narrowed([1, 2], [0, 2], [2])
    assert repr(again) == "FilterGate(2 -> 1 -> 1 of 2, image)"
    assert torch.equal(again.fc2.bias, gate.fc2.bias[4:])


@pytest.mark.parametrize("name", ["torchvision", "with gated blocks", "with depth and gates"])
def test_it_trains_on(name: str) -> None:
    _, small, _, x, method = make(name)
    small.train()
    objective = tp.Objective(small, method, classes=5)
    heads = objective.heads
    assert heads is not None
    y = torch.arange(len(x)) % 5
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.05)
    torch.manual_seed(0)
    sums = []
    for _ in range(12):
        found = objective(x, y)
        optimizer.zero_grad()
        total(found.values()).backward()  # type: ignore[no-untyped-call]
        sums.append(float(total(found.values()).detach()))
        optimizer.step()
    assert {"task", "mutual", "kl", "sparse"} <= found.keys()
    assert sums[-1] < sums[0]
    assert all(bool(p.isfinite().all()) for p in objective.parameters())


def test_heads_are_of_the_filters_that_are_left_at_sites_that_decide() -> None:
    _, small, _, x, _ = make("torchvision")
    heads = FILTERS.heads(small, 5)
    assert heads is not None
    wanted = {n.replace(".", "/"): len(s.units) for n, s in small.sites.items() if s.decider is not None}
    assert {name: head.in_features for name, head in heads.named_children()} == wanted
    small.train()
    torch.manual_seed(0)
    _, trace = small(x)
    found = FILTERS.terms(small, trace, torch.zeros(len(x), dtype=torch.long), lambda _, m: m, heads)
    expected = sum(trace[n].z.abs().sum(1).mean() for n, s in small.sites.items() if s.decider is not None)
    torch.testing.assert_close(found["sparse"], 1e-4 * expected)


def test_a_network_all_of_whose_filters_are_settled_has_the_loss_of_its_task_alone() -> None:
    net, x = gated("torchvision/narrow", slope=0)
    small = tp.narrow(net, counted(net, x), FILTERS)
    assert all(site.decider is None for site in small.sites.values())
    found = losses(FILTERS, small, x, torch.zeros(len(x), dtype=torch.long), cross_entropy, lambda _, m: m)
    assert list(found) == ["task"]


def test_it_is_surveyed_and_narrowed_again() -> None:
    net, small, states, x, _ = make("torchvision")
    batches = [(x, torch.zeros(len(x), dtype=torch.long))]
    assert tp.survey(small, batches).accuracy == tp.survey(net, batches).accuracy
    part = x[:3]  # fewer images open fewer filters
    again = tp.narrow(small, counted(small, part), FILTERS)
    assert count_params(again) < count_params(small)
    with torch.no_grad():
        laws.close(again(part)[0], net(part)[0], 1e-10)
    laws.check_cut_is_forced(again, part)
    # What is left of the whole network after both is what both steps say.
    direct = rebuild(net, combined(left_of(net, states), left_of(small, counted(small, part))), FILTERS)
    assert {k: tuple(v.shape) for k, v in direct.state_dict().items()} == {
        k: tuple(v.shape) for k, v in again.state_dict().items()
    }
    with torch.no_grad():
        assert torch.equal(direct(part)[0], again(part)[0])


def test_norms_of_their_own_for_a_depth_are_narrowed_with_their_layers() -> None:
    method = [INNER, tp.AdaptiveDepth()]
    net, x = gated("torchvision/narrow", method)
    doubled = [p for n, p in net.model.named_parameters() if ".skipped." in n]
    assert doubled
    with torch.no_grad():
        for parameter in doubled:
            parameter.add_(torch.randn_like(parameter))
    states = counted(net, x)
    small = tp.narrow(net, states, method)
    base = tp.AdaptiveDepth().path(net, True)
    closed = tp.Path({**base, **{n: (~states.silent[n]).tolist() for n in states.opened}})
    full = tp.Path.full(small) & tp.Path(dict(tp.AdaptiveDepth().path(small, True)))
    with torch.no_grad():
        laws.close(small(x, full)[0], net(x, closed)[0], 1e-10)


def test_the_gates_of_blocks_stay_as_they_were() -> None:
    net, small, _, _, _ = make("with gated blocks")
    for name, site in net.sites.items():
        if isinstance(site.decider, tp.Gate):
            other = small.sites[name].decider
            assert other is not site.decider
            assert isinstance(other, tp.Gate)
            state = site.decider.state_dict()
            assert all(torch.equal(value, state[key]) for key, value in other.state_dict().items())


def test_a_layer_that_no_image_came_to_stays_as_it_is() -> None:
    net, x = gated("torchvision/narrow", [INNER, tp.GatedBlocks()])
    gate = net.sites["layer2.1"].decider
    assert isinstance(gate, tp.Gate)
    with torch.no_grad():
        gate.fc2.bias.copy_(torch.tensor([1e3, -1e3]))  # closed
    states = counted(net, x)
    assert states.came["layer2.1.conv1"] == 0
    small = tp.narrow(net, states, [INNER, tp.GatedBlocks()])
    assert len(small.sites["layer2.1.conv1"].units) == 16
    assert repr(small.sites["layer2.1.conv1"].decider) == repr(net.sites["layer2.1.conv1"].decider)
    with torch.no_grad():
        laws.close(small(x)[0], net(x)[0], 1e-10)


def test_of_the_groups_of_a_convolution_two_stay() -> None:
    net, x = gated(made(Grouped, 12)[0])
    opened, came = counted(net, x).opened, {"reduce": 24, "mix": 24}
    with torch.no_grad():
        gate = net.sites["reduce"].decider
        assert isinstance(gate, deciders.FilterGate)
        gate.fc2.weight.zero_()
        gate.fc2.bias.copy_(torch.tensor([-1.0, 1.0]))
    opened["reduce"] = torch.tensor([0, 24])
    small = tp.narrow(net, FilterStates(opened, came), FILTERS)
    assert len(small.sites["reduce"].units) == 2
    with torch.no_grad():
        laws.close(small(x)[0], net(x)[0], 1e-10)


def test_filters_that_open_to_fill_a_multiple_still_do() -> None:
    method = tp.GatedFilters(multiple=4)
    net, small, states, x = narrowed("torchvision/narrow", method)
    with torch.no_grad():
        (y, trace), (again, narrow) = net(x), small(x)
    laws.close(again, y, 1e-10)
    assert all(torch.equal(narrow[s].open, d.open[:, ~states.silent[s]]) for s, d in trace.items())
    assert all((d.open.sum(1) % 4 == 0).all() for d in narrow.values())
    assert any(bool((d.score[:, 0].isinf() & d.open.any(1)).any()) for d in narrow.values() if d.score is not None)


def test_the_network_that_was_narrowed_is_not_touched() -> None:
    net, x = gated("torchvision/narrow")
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    names = [name for name, _ in net.named_modules()]
    small = tp.narrow(net, counted(net, x), FILTERS)
    assert net.training
    assert small.training
    assert all(m.training for m in small.modules())
    assert [name for name, _ in net.named_modules()] == names
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert {id(t) for t in small.state_dict(keep_vars=True).values()}.isdisjoint(
        id(t) for t in net.state_dict(keep_vars=True).values()
    )
    frozen = copy.deepcopy(net)
    frozen.requires_grad_(False)
    assert not any(p.requires_grad for p in tp.narrow(frozen, counted(net, x), FILTERS).parameters())


def test_a_narrowed_network_widens_into_the_whole_one() -> None:
    net, small, states, x, _ = make("with depth and gates")
    other = tp.route(toy("timm/narrow", seed=3)[0].double(), CASES["with depth and gates"][1], example=x[:2]).eval()
    for path in (tp.Path.full(small), laws.random_path(small), tp.Path({**tp.Path.full(small), "layer1": [False]})):
        wide = widen(small, path, left_of(net, states), other)
        with torch.no_grad():
            laws.close(other(x, wide)[0], small(x, path)[0], 1e-10)
        laws.close(tp.extract(other, wide)(x[:2]), small(x[:2], path)[0].detach(), 1e-6)


def test_a_chain_of_spread_layers_is_never_spread_twice() -> None:
    """A network that was cut, routed and cut again has layers of one kind of class."""
    net, x = gated("torchvision/narrow")
    path = laws.random_path(net)
    once = tp.extract(net, path)
    again = tp.route(copy.deepcopy(once), FILTERS, example=x[:2]).eval()
    tilt(again)
    laws.check_all(again, once, x[:4])
    laws.check_cut_is_forced(again, x[:4])
    kinds = {type(m).__name__ for m in tp.extract(again, laws.random_path(again, seed=3)).modules()}
    assert "SpreadBatchNorm2d" in kinds
    assert not any("SpreadSpread" in kind for kind in kinds)


def test_a_front_tries_no_threshold_at_which_a_filter_without_a_gate_would_close() -> None:
    choices = thresholds({"a": torch.tensor([[torch.inf, 0.5], [torch.inf, -0.5]])})
    found = [c.threshold for c in choices]
    assert found[0] == -0.5
    assert found[-1] == 0.5
    _, small, _, x, _ = make("torchvision")
    points = tp.front(small, [(x, torch.arange(len(x)) % 5)], batch=()).points
    assert max(point.accuracy for point in points) > 0
