"""What a skipping network must not do in silence: decide in a decider's place, count a trial, run one by one what its
batch decides, go on with what is old."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import torchpaths as tp
from exit_toys import FIRST, coded
from torchpaths.costs import count_macs
from torchpaths.deciders import FilterGate, Gate
from torchpaths.errors import CallError, RouteError
from torchpaths.models import create_model
from torchpaths.skips import prices
from torchpaths.skips.network import Skipping
from torchpaths.trace import Decision
from toys import toy


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def chain(*middle: nn.Module, sites: tuple[str, ...] | None = None) -> tuple[tp.Routed, Tensor]:
    """A chain of convolutions whose gates decide by the image."""
    torch.manual_seed(0)
    ends = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    x = torch.randn(6, 3, 10, 10)
    net = tp.route(nn.Sequential(_conv(3, 8), *middle, *ends).eval(), tp.GatedFilters(sites=sites), example=x).eval()
    gates: Any = net.deciders.values()
    for gate in gates:
        nn.init.uniform_(gate.fc2.bias, -1, 1)
        nn.init.normal_(gate.fc2.weight, std=0.5)
    return net, x


def normed() -> tuple[tp.Routed, Tensor]:
    return chain(nn.ReLU(), _conv(8, 16), nn.BatchNorm2d(16), nn.ReLU(), _conv(16, 8), nn.BatchNorm2d(8))


def check_same(net: tp.Routed, fast: tp.Routed, x: Tensor) -> None:
    for part in (x, x[:1]):
        (y, trace), (expected, masked) = fast(part), net(part)
        laws.close(y, expected, 1e-4)
        assert tp.Path.of(trace) == tp.Path.of(masked)


def faster(fast: Skipping) -> Skipping:
    """The network where one by one is faster, if it gives the same."""
    known: dict[Any, bool] = {}

    def pays(kind: Any, run: Any, instead: Any, same: Any) -> bool:
        if kind not in known:
            known[kind] = same()
        return known[kind]

    fast.prices.pays = pays  # type: ignore[method-assign]
    return fast


# Who decides.


def test_a_layer_of_one_filter_keeps_it_open() -> None:
    net, x = chain(_conv(8, 1), _conv(1, 8), sites=("1",))
    gate: Any = net.deciders["1"]
    nn.init.zeros_(gate.fc2.weight)
    nn.init.constant_(gate.fc2.bias, -1.0)
    assert net(x)[1]["1"].open.all(), "at least one filter is open, and there is only one"
    check_same(net, tp.skipping(net), x)


@pytest.mark.parametrize("how", ["subclass", "hook", "forward"])
def test_a_gate_with_a_rule_of_its_own_is_asked(how: str) -> None:
    class Contrary(Gate):
        def forward(self, features: Tensor) -> Decision:
            return contrary(super().forward(features))

    def contrary(made: Decision) -> Decision:
        return Decision(~made.open, (~made.open).float(), made.score)

    model, x = toy("torchvision/narrow")
    net = tp.route(model, tp.GatedBlocks(), example=x).eval()
    site = next(iter(net.sites.values()))
    gate: Any = site.decider
    fast = tp.skipping(net)
    own: Any = next(iter(fast.sites.values())).decider
    for one in (gate, own):
        if how == "subclass":
            one.__class__ = Contrary
        elif how == "hook":
            one.register_forward_hook(lambda gate, given, made: contrary(made))
        else:
            asked = one.forward
            one.forward = lambda features, asked=asked: contrary(asked(features))
    opened = [n(x)[1][site.name].open for n in (net, fast, tp.skipping(net) if how == "subclass" else fast)]
    assert not opened[0].any(), "untrained gates open for all"
    assert not opened[1].any()
    assert not opened[2].any()


@pytest.mark.parametrize("multiple", [1, 4])
@pytest.mark.parametrize("threshold", [-1e30, 0.2, 1e3, 1e5, 1e30, 1e38, 3.4e38, 1e39, math.inf])
def test_one_filter_stays_open_at_any_threshold(threshold: float, multiple: int) -> None:
    torch.manual_seed(0)
    gate, features = FilterGate(8, 12, multiple=multiple).eval(), torch.randn(5, 8)
    gate.threshold = threshold
    nn.init.normal_(gate.fc2.weight)
    together = gate(features)
    best = gate.perceptron()(features).argmax(1, keepdim=True)
    assert together.open.gather(1, best).all()
    if threshold >= 1e3:
        assert (together.open.sum(1) == multiple).all()
    for row in range(5):
        one = gate.single(features[row : row + 1])
        assert torch.equal(one.open[0], together.open[row])
        assert one.score is not None
    assert together.score is not None
    if math.isfinite(threshold):
        assert torch.equal(together.score > min(threshold, torch.finfo(torch.float32).max), together.open)


@pytest.mark.parametrize("threshold", [math.nan, "0.2", None, True, torch.zeros(3)])
def test_a_threshold_that_is_no_number_is_refused(threshold: Any) -> None:
    for decider in (FilterGate(4, 4), Gate(4)):
        with pytest.raises(RouteError, match=r"^threshold=.* of a (Filter)?Gate: give a number"):
            decider.threshold = threshold
        decider.threshold = torch.tensor(0.25)  # type: ignore[assignment]
        assert decider.threshold == 0.25


# What is followed.


def test_thresholds_of_the_network_are_followed_and_its_own_hold_until_then() -> None:
    net, x = normed()
    fast = tp.skipping(net)
    further = tp.skipping(fast)
    check_same(net, fast, x)
    opened = tp.Path.of(net(x)[1])
    net.sites["2"].decider.threshold = 0.4  # type: ignore[union-attr]
    assert tp.Path.of(net(x)[1]) != opened
    check_same(net, fast, x)
    check_same(net, further, x)
    fast.sites["2"].decider.threshold = 0.0  # type: ignore[union-attr]
    fast(x)
    assert tp.Path.of(fast(x)[1]) == opened, "who turns the dial of fast has turned it"
    net.sites["2"].decider.threshold = 0.3  # type: ignore[union-attr]
    check_same(net, fast, x)


def test_switches_of_the_network_are_followed() -> None:
    model, x = toy("torchvision/narrow")
    net = tp.route(model, tp.AdaptiveDepth(), example=x).eval()
    fast = tp.skipping(net)
    fast(x)
    switch: Any = next(iter(net.deciders.values()))
    switch.set(*(False for _ in switch.constant))
    check_same(net, fast, x)


@pytest.mark.parametrize("method", [tp.GatedFilters(), tp.GatedBlocks()])
def test_the_eps_of_a_norm_is_followed(method: tp.Method) -> None:
    net, x = normed() if isinstance(method, tp.GatedFilters) else (None, None)
    if net is None or x is None:
        model, x = toy("torchvision/narrow")
        net = tp.route(model, method, example=x).eval()
        for site in net.sites.values():
            gate: Any = site.decider
            nn.init.normal_(gate.fc2.weight)
    fast = tp.skipping(net)
    check_same(net, fast, x)
    before = net(x)[0]
    for norm in net.modules():
        if isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d)):
            norm.eps = 0.5
    assert not torch.allclose(net(x)[0], before, rtol=1e-3)
    scores = [[d.score for d in n(x)[1].values()] for n in (net, fast)]
    check_same(net, fast, x)
    for ours, theirs in zip(*scores, strict=True):
        assert ours is not None
        assert theirs is not None
        laws.close(theirs, ours, 1e-4)


def test_weights_written_through_data_count_after_eval() -> None:
    net, x = normed()
    fast = tp.skipping(net)
    fast(x[:1])
    layer: Any = net.model.get_submodule("5")
    open_one = int(tp.Path.of(net(x[:1])[1])[0]["2"].index(True))
    writes: tuple[Callable[[], object], ...] = (
        lambda: layer.weight.data[:, open_one, 1, 1].fill_(30.0),
        lambda: layer.weight.data[:, 1::2].mul_(-1),
        lambda: layer.weight.data.abs_(),
    )
    for write in writes:
        before = net(x[:1])[0]
        write()
        assert not torch.allclose(net(x[:1])[0], before, rtol=1e-2)
        fast.eval()
        check_same(net, fast, x)


# Trials and norms that train.


@pytest.mark.parametrize("batch", [1, 2, 6])
@pytest.mark.parametrize("along", [False, True])
def test_update_bn_of_a_skipping_network_measures_what_it_measures_of_the_routed_one(batch: int, along: bool) -> None:
    net, x = normed()
    other, _ = normed()
    path = tp.Path.of(net(x)[1])[0] if along else None
    fast = tp.skipping(other)
    fast(x)
    batches = list(torch.split(x, batch))
    tp.update_bn(net, batches, path)
    tp.update_bn(fast, batches, path)
    for one, same in zip(net.buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(one, same)
    assert not torch.equal(next(net.buffers()), torch.zeros(16)), "something was measured"
    check_same(net, fast, x)


def test_images_that_leave_are_no_statistics() -> None:
    net, x = coded()
    fast = tp.skipping(net, exit=FIRST)
    with pytest.raises(CallError, match=r"a norm of this network trains.*update_bn\(net, batches\)"):
        tp.update_bn(fast, [x])


def test_gates_decide_by_their_own_statistics_while_others_are_measured() -> None:
    model, x = toy("torchvision/narrow")
    net = tp.route(model, tp.GatedBlocks(), example=x).eval()
    gates: Any = list(net.deciders.values())
    for gate in gates:
        gate.norm.running_mean.fill_(30.0)
        gate.norm.running_var.fill_(9.0)
        nn.init.normal_(gate.fc2.weight)
    expected = [gate.perceptron().first_bias.clone() for gate in gates]
    seen: list[Tensor] = []
    for gate in gates:
        gate.register_forward_pre_hook(lambda gate, given: seen.append(gate.perceptron().first_bias.clone()))
    tp.update_bn(net, [x])
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))


class Counted(nn.Module):
    """Passes on what it gets, counts how often, and draws."""

    def __init__(self) -> None:
        super().__init__()
        self.times = 0
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.times += 1
        self.seen.add_(1)  # type: ignore[operator]
        torch.rand(1)
        return x


@pytest.mark.parametrize("method", [tp.GatedFilters(), tp.GatedBlocks()])
def test_trials_leave_nothing_behind(method: tp.Method) -> None:
    model, x = toy("torchvision/narrow")
    for block in model.modules():
        if hasattr(block, "downsample"):
            block.relu = nn.Sequential(Counted(), nn.ReLU())
    net = tp.route(model, method, example=x).eval()
    path = tp.Path.of(net(x)[1])
    path = tp.Path({s: path[s] & (torch.arange(len(x)) > 0).view(-1, 1) for s in path})
    fast = faster(tp.skipping(net))
    counted = [[m for m in n.model.modules() if isinstance(m, Counted)] for n in (net, fast)]
    for one in counted[1]:
        one.times = 0
    next(iter(counted[0])).seen.zero_()  # type: ignore[operator]
    torch.manual_seed(0)
    states = []
    for _ in range(2):
        fast(x, path)
        states.append(([one.times for one in counted[1]], torch.get_rng_state()))
        torch.manual_seed(0)
    assert all(2 * first == second for first, second in zip(states[0][0], states[1][0], strict=True))
    for one in counted[0]:
        one.times = 0
    net(x, path)
    assert states[0][0] == [one.times for one in counted[0]], "a call is one run"
    assert torch.equal(states[0][1], states[1][1])


# One by one.


class Looking(nn.Module):
    """Its batch changes what it does, in one way or another, and only sometimes."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.way = way
        self.body = nn.Sequential(_conv(3, 8), _conv(8, 16), nn.ReLU(), _conv(16, 8), nn.ReLU())
        self.fc = nn.Linear(8, 5)
        self.calls = 0

    def forward(self, x: Tensor) -> Any:
        largest = x.max()
        if self.way == "branch" and largest > 10:
            x = x / largest
        if self.way == "list" and x.amax((1, 2, 3)).tolist()[0] > 10:
            x = x / largest
        if self.way == "where":
            x = torch.where(largest > 10, x / largest, x)
        if self.way == "small":
            x = x / x.abs().max().clamp(max=1e-2)
        if self.way == "size" and len(x) > 4:
            x = x / largest
        if self.way == "counting":
            self.calls += 1
            x = x / largest if self.calls > 12 else x
        y = self.fc(self.body(x).mean((2, 3)))
        if self.way == "number":
            return {"logits": y, "batch": len(x)}
        if self.way == "mean":
            return y, float(y.mean())
        return (y, None) if self.way == "nothing" else y


def watched(way: str) -> tuple[tp.Routed, Skipping, Tensor]:
    """A network for which one by one is always faster; of its batches."""
    x = torch.randn(8, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    net = tp.route(Looking(way).eval(), tp.GatedFilters(), example=x).eval()
    gates: Any = net.deciders.values()
    for gate in gates:
        nn.init.normal_(gate.fc2.weight, std=0.5)
        nn.init.uniform_(gate.fc2.bias, -1, 1)
    fast = tp.skipping(net)
    return net, faster(fast), x


@pytest.mark.parametrize("way", ["branch", "list", "where", "small", "size", "counting", "number", "mean"])
def test_what_a_batch_decides_never_runs_one_by_one(way: str) -> None:
    net, fast, x = watched(way)
    for part in (x[:4], x[:4] * 50, x[:4] * 1e-3, x, x * 50, x[:2] * 50):
        got, expected = (torch.utils._pytree.tree_leaves(n(part)[0]) for n in (fast, net))
        for ours, theirs in zip(got, expected, strict=True):
            if isinstance(theirs, Tensor):
                laws.close(ours, theirs, 1e-4)
            else:
                assert ours == pytest.approx(theirs, rel=1e-4)


@pytest.mark.parametrize("way", ["plain", "nothing"])
def test_images_that_answer_by_themselves_do_run_one_by_one(way: str) -> None:
    net, fast, x = watched(way)
    fast.prices.exact = True
    for part in (x[:4], x, x * 50):
        fast(part)
        ran = count_macs(lambda part=part: fast(part))  # type: ignore[misc]
        assert ran < count_macs(lambda part=part: net(part)), "closed filters are left out"  # type: ignore[misc]
        ours, theirs = (torch.utils._pytree.tree_leaves(n(part)[0])[0] for n in (fast, net))
        laws.close(ours, theirs, 1e-4)


def test_hooks_see_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = itertools.cycle([0.0, 1.0])
    monkeypatch.setattr(prices, "fastest", lambda run: next(taken))
    fast = tp.skipping(watched("plain")[0])
    seen: list[int] = []
    for _ in range(2):
        fast(x := torch.randn(8, 3, 10, 10))
    fast.model.get_submodule("fc").register_forward_hook(lambda module, given, y: seen.append(len(y)))
    fast(x)
    assert seen == [8]


# What was replaced.


@pytest.mark.parametrize("name", ["3", "5", "6"])
def test_a_layer_that_was_replaced_under_a_site_is_told(name: str) -> None:
    net, x = normed()
    fast, path = tp.skipping(net), tp.Path.of(net(x)[1])[0]
    for one in (net, fast):
        setattr(one.model, name, copy.deepcopy(dict(net.model.named_modules())[name]))
    told = rf"module '{name}' was replaced after route, which obeyed site '[25]'"
    for call in (
        lambda: net(x),
        lambda: net(x, path),
        lambda: copy.deepcopy(net)(x),
        lambda: tp.skipping(net),
        lambda: fast(x),
        lambda: fast(x[:1]),
    ):
        with pytest.raises(CallError, match=told):
            call()
    again = tp.route(tp.plain(net), tp.GatedFilters(), example=x)
    assert list(again.sites) == list(net.sites), "the remedy: route it as it is"


def test_what_is_wrapped_or_no_part_of_a_site_may_be_replaced() -> None:
    net, x = chain(
        nn.ReLU(), _conv(8, 16), nn.BatchNorm2d(16), nn.ReLU(), _conv(16, 8), nn.BatchNorm2d(8), sites=("2",)
    )
    before = net(x)[0]
    net.model[5] = nn.Sequential(net.model[5])  # type: ignore[operator, index]
    assert torch.equal(net(x)[0], before)
    net.model[-1] = nn.Linear(8, 2)  # type: ignore[operator]
    assert net(x)[0].shape == (6, 2)
    check_same(net, tp.skipping(net), x)


def test_a_network_made_in_inference_mode_skips_there() -> None:
    """As of people who load and serve under ``torch.inference_mode()``: torch counts no writes to such tensors."""
    with torch.inference_mode():
        torch.manual_seed(0)
        for method in (tp.GatedBlocks(), tp.GatedFilters()):
            x = torch.randn(3, 3, 16, 16)
            net = tp.route(create_model("cifar_resnet20", 4).eval(), method, example=x).eval()
            fast = tp.skipping(net)
            for images in (x[:1], x):
                torch.testing.assert_close(fast(images)[0], net(images)[0])
