"""GatedBlocks: the target-rate loss, the paper's schedules and counts, and that gates learn which block helps."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import resnet50, resnet101

import torchpaths as tp
from block_toys import Basic, chain
from torchpaths.costs import count_params
from torchpaths.deciders.switch import Switch
from torchpaths.errors import BudgetError, RouteError
from torchpaths.methods.base import losses
from torchpaths.methods.gated_blocks import SCHEDULES, target_rate_loss
from torchpaths.models import cifar_resnet


def alone(name: str, local: Tensor) -> Tensor:
    """The mean over the global batch, which is this one."""
    return local


def gated(**given: Any) -> tuple[tp.Routed, tp.GatedBlocks, Tensor]:
    """Three blocks of a chain under gates."""
    method = tp.GatedBlocks(**given)
    model, x = chain(block1=Basic(), block2=Basic(), block3=Basic())
    return tp.route(model, method, example=x), method, x


# The loss.


def test_the_target_rate_loss_is_equation_9() -> None:
    rates, targets = np.array([0.9, 0.2, 0.5]), np.array([0.6, 0.6, 0.5])
    got = target_rate_loss(torch.tensor(rates), torch.tensor(targets))
    assert got.item() == pytest.approx(((rates - targets) ** 2).sum())
    assert target_rate_loss(torch.tensor(rates), torch.tensor(targets), 4).item() == pytest.approx(got.item() / 4)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("weight", [1.0, 2.0])
@pytest.mark.parametrize("targets", ["uniform", (0.5, 1.0, 0.8)])
def test_the_losses_are_the_papers_with_the_rates_of_the_batch(
    reduction: Literal["sum", "mean"], weight: float, targets: str | tuple[float, ...]
) -> None:
    net, method, x = gated(targets=targets, reduction=reduction, weight=weight)
    net.deciders.train()
    y = torch.tensor([0, 1, 2, 3])
    torch.manual_seed(0)
    found = losses(method, net, x, y, functional.cross_entropy, alone)
    torch.manual_seed(0)
    logits, trace = net(x)
    wanted = [0.6, 0.6, 0.6] if targets == "uniform" else [0.5, 1.0, 0.8]
    by_hand = 0.0
    for site, t in zip(net.sites, wanted, strict=True):
        if t < 1:
            by_hand += (trace[site].open.numpy().mean() - t) ** 2
    by_hand *= weight / (len(wanted) if reduction == "mean" else 1)
    assert set(found) == {"task", "rate"}
    assert found["rate"].item() == pytest.approx(by_hand, rel=1e-5)
    assert torch.equal(found["task"], functional.cross_entropy(logits, y))


def test_the_rate_loss_asks_for_the_rates_of_the_global_batch() -> None:
    net, method, x = gated()
    asked: dict[str, Tensor] = {}

    def mean(name: str, local: Tensor) -> Tensor:
        asked[name] = local
        return local * 0 + 1.0  # as if every gate had been open everywhere else

    found = losses(method, net, x, torch.zeros(4, dtype=torch.long), functional.cross_entropy, mean)
    assert [tuple(v.shape) for v in asked.values()] == [(3,)]
    assert found["rate"].item() == pytest.approx(3 * 0.4**2)


def test_with_nothing_gated_there_is_no_rate_loss() -> None:
    net, method, x = gated(budget=tp.Budget(open=1.0))
    assert not list(net.deciders)
    found = losses(method, net, x, torch.zeros(4, dtype=torch.long), functional.cross_entropy, alone)
    assert list(found) == ["task"]


# Which blocks are gated.


def test_a_target_of_1_is_no_gate_and_always_open_also_in_training() -> None:
    net, _, x = gated(targets=(0.5, 1.0, 1))
    assert list(net.deciders) == ["block1"]
    for training in (True, False):
        net.train(training)
        for _ in range(5):
            _, trace = net(x)
            assert trace["block2"].whole == trace["block3"].whole == (True,)
            assert trace["block2"].open.all()
            assert trace["block1"].whole is None


def test_a_target_of_0_is_no_gate_and_closed_for_good_as_a_fixed_path_is() -> None:
    model, x = chain(block1=Basic(), block2=Basic(), block3=Basic())
    fixed = tp.route(copy.deepcopy(model), tp.Fixed(closed=("block2",)), example=x)
    closed = tp.route(model, tp.GatedBlocks(targets=(1, 0, 1)), example=x)
    for training in (True, False):
        assert torch.equal(closed.train(training)(x)[0], fixed.train(training)(x)[0])


def test_a_target_of_0_has_no_part_in_the_loss() -> None:
    net, method, x = gated(targets=(0.5, 0, 1))
    assert [type(d) for d in net.deciders.values()] == [tp.Gate, Switch]
    assert method.target_rates(net) == {"block1": 0.5}
    torch.manual_seed(0)
    found = losses(method, net, x, torch.zeros(4, dtype=torch.long), functional.cross_entropy, alone)
    torch.manual_seed(0)
    rate = net(x)[1]["block1"].open.float().mean().item()
    assert found["rate"].item() == pytest.approx((rate - 0.5) ** 2)


@pytest.mark.parametrize(
    ("start", "expected"),
    [(None, (0.8699, 0.8699, 0.8699)), (0.3, (0.3, 0.3, 0.3)), ("target", (0.2, 0.5, 0.9))],
)
def test_gates_start_with_the_probability_that_is_asked_for(start: Any, expected: tuple[float, ...]) -> None:
    net, _, x = gated(targets=(0.2, 0.5, 0.9), start=start)
    _, trace = net.eval()(x)
    for decision, wanted in zip(trace.values(), expected, strict=True):
        assert torch.sigmoid(decision.score).mean().item() == pytest.approx(wanted, abs=0.002)


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        (None, ["block1", "block2", "block3"]),
        (("block2",), ["block2"]),
        (("block[13]",), ["block1", "block3"]),
        (("block1", ".*3"), ["block1", "block3"]),
    ],
)
def test_sites_choose_the_blocks_to_gate(sites: tuple[str, ...] | None, expected: list[str]) -> None:
    net, method, x = gated(sites=sites)
    assert list(net.deciders) == expected
    found = losses(method, net, x, torch.zeros(4, dtype=torch.long), functional.cross_entropy, alone)
    rates = [net(x)[1][s].open.float().mean().item() for s in expected]
    assert found["rate"].item() == pytest.approx(sum((r - 0.6) ** 2 for r in rates))


def test_knobs_reach_the_gates() -> None:
    net, _, _ = gated(hidden=5, norm=False, inference="expected")
    for gate in net.deciders.values():
        assert isinstance(gate, tp.Gate)
        assert gate.fc1.out_features == 5
        assert isinstance(gate.norm, nn.Identity)
        assert gate.inference == "expected"


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"targets": "resnet5O"}, RouteError, "Did you mean .*'resnet50'"),
        ({"targets": (0.5, -0.1)}, BudgetError, r"\[0, 1\]"),
        ({"targets": (0.5, 1.5)}, BudgetError, r"\[0, 1\]"),
        ({"targets": (float("nan"),)}, BudgetError, r"\[0, 1\]"),
        ({"targets": ()}, BudgetError, r"\[0, 1\]"),
        ({"start": 1.0}, RouteError, "above 0 and below 1, 'target' or None"),
        ({"start": "targets"}, RouteError, "'target' or None"),
        ({"start": float("nan")}, RouteError, "'target' or None"),
        ({"budget": tp.Budget(macs=0.5)}, BudgetError, r"Budget\(open=0\.6\)"),
        ({"budget": 0.6}, BudgetError, r"got 0\.6; write GatedBlocks\(budget=Budget\(open=0\.6\)\)"),
        ({"budget": tp.Budget(ms=5.0)}, BudgetError, r"Budget\(open=0\.6\)"),
        ({"reduction": "max"}, RouteError, "'sum'.*'mean'"),
    ],
)
def test_a_knob_out_of_range_is_refused_before_any_model(given: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        tp.GatedBlocks(**given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"targets": (0.5, 0.5)}, "2 blocks, the model has 3.*block1 ... block3"),
        ({"targets": "resnet50"}, "16 blocks, the model has 3"),
        ({"sites": ("blok.",)}, "'blok.' matches no site.*Did you mean 'block"),
        ({"sites": ("block(",)}, "regular expression"),
    ],
)
def test_a_method_that_does_not_fit_the_model_is_refused(given: Any, said: str) -> None:
    with pytest.raises(RouteError, match=said):
        gated(**given)


# The paper's networks.


@pytest.fixture(scope="module")
def resnets() -> dict[str, Callable[[], nn.Module]]:
    torch.manual_seed(0)
    made = {"resnet50": resnet50(), "resnet101": resnet101()}
    return {name: lambda model=model: copy.deepcopy(model) for name, model in made.items()}  # type: ignore[misc]


@pytest.mark.parametrize(("t", "blocks"), [(0.4, 10.7), (0.5, 11.5), (0.6, 12.3), (0.7, 13.1)])
def test_the_papers_resnet50_schedule_executes_its_expected_number_of_blocks(t: float, blocks: float) -> None:
    method = tp.GatedBlocks(budget=tp.Budget(open=t), targets="resnet50")
    assert sum(method.rates([str(i) for i in range(16)])) == pytest.approx(blocks)


@pytest.mark.parametrize(("name", "blocks", "gates"), [("resnet50", 16, 10), ("resnet101", 33, 25)])
def test_the_papers_schedules_fit_torchvisions_networks(
    name: str, blocks: int, gates: int, resnets: dict[str, Callable[[], nn.Module]]
) -> None:
    net = tp.route(resnets[name](), tp.GatedBlocks(targets=name), example=torch.randn(1, 3, 64, 64))
    assert len(net.sites) == blocks == len(SCHEDULES[name])
    assert len(net.deciders) == gates
    with torch.no_grad():
        _, trace = net.train()(torch.randn(2, 3, 64, 64))
    for (site, decision), rate in zip(trace.items(), SCHEDULES[name], strict=True):
        assert (site.replace(".", "/") in net.deciders) == (rate != 1)
        assert (decision.whole == (True,)) == (rate == 1)


def _count(model: nn.Module, side: int) -> int:
    return count_params(tp.route(model, tp.GatedBlocks(), example=torch.zeros(1, 3, side, side)))


def test_gated_resnet110_of_cifar_has_the_published_codes_parameters() -> None:
    assert _count(cifar_resnet(110, "B"), 8) == 1_766_630


@pytest.mark.parametrize(("name", "parameters"), [("resnet50", 25_768_264), ("resnet101", 45_040_314)])
def test_gated_imagenet_resnets_have_the_published_codes_parameters(
    name: str, parameters: int, resnets: dict[str, Callable[[], nn.Module]]
) -> None:
    assert _count(resnets[name](), 32) == parameters


def test_resnet50_costs_what_it_is_known_to_and_an_eighth_of_it_always_runs(
    resnets: dict[str, Callable[[], nn.Module]],
) -> None:
    layout = tp.route(resnets["resnet50"](), example=torch.randn(1, 3, 224, 224)).layout
    assert layout.plain.macs == 4_089_184_256
    stem, head = 112 * 112 * 64 * 3 * 49, 2048 * 1000
    shortcuts = 56 * 56 * 64 * 256 + 28 * 28 * 256 * 512 + 14 * 14 * 512 * 1024 + 7 * 7 * 1024 * 2048
    assert layout.fixed.macs == stem + head + shortcuts
    assert layout.fixed.macs == pytest.approx(480e6, rel=0.01)
    bottleneck = 218_365_952
    assert {u.cost.macs for u in layout.units[1:]} >= {bottleneck}


# Learning.


class Adds(nn.Module):
    """A residual block whose branch is fixed by hand: it adds one channel, four times, to the last one."""

    def __init__(self, source: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4, 4, 1, bias=False)
        self.mix.weight.data.zero_()
        self.mix.weight.data[3, source] = 4.0
        self.mix.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.mix(x)
        return y


class Guided(nn.Module):
    """Channels: a flag, two hints, and the logit they are added to."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Adds(1)
        self.second = Adds(2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x))[:, 3].mean((1, 2))
        return y


def _flagged(count: int, draw: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Where the flag is up the first hint tells the class and the second lies; elsewhere the other way round."""
    flag = torch.rand(count, generator=draw) < 0.5
    y = (torch.rand(count, generator=draw) < 0.5).float()
    truth = 2 * y - 1
    first = torch.where(flag, truth, -truth)
    x = torch.stack([flag.float(), first, -first, torch.zeros(count)], 1)
    return x[:, :, None, None].expand(-1, -1, 2, 2), y, flag


@pytest.mark.timeout(120)
def test_gates_learn_to_open_the_block_that_helps_and_to_shut_the_one_that_harms() -> None:
    draw = torch.Generator().manual_seed(0)
    method = tp.GatedBlocks(budget=tp.Budget(open=0.5), norm=False)
    torch.manual_seed(0)
    net = tp.route(Guided(), method, example=_flagged(2, draw)[0]).train()
    optimizer = torch.optim.SGD(net.deciders.parameters(), lr=0.2, momentum=0.9)
    for _ in range(300):
        x, y, _ = _flagged(64, draw)
        found = losses(method, net, x, y, functional.binary_cross_entropy_with_logits, alone)
        optimizer.zero_grad()
        sum(found.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    x, y, flag = _flagged(1000, draw)
    with torch.no_grad():
        logits, trace = net.eval()(x)
    first, second = (trace[s].open[:, 0] for s in ("first", "second"))
    assert first[flag].float().mean() > 0.95
    assert second[~flag].float().mean() > 0.95
    assert first[~flag].float().mean() < 0.05
    assert second[flag].float().mean() < 0.05
    assert ((logits > 0) == y.bool()).float().mean() > 0.95


def test_before_learning_every_block_runs_and_the_hints_cancel() -> None:
    x, _, _ = _flagged(100, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    net = tp.route(Guided(), tp.GatedBlocks(norm=False), example=x).eval()
    with torch.no_grad():
        logits, trace = net(x)
    assert all(d.open.all() for d in trace.values())
    assert not logits.any()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"inference": "max"}, "inference='max'; choose one of argmax, sample, expected"),
        ({"reduction": "max"}, "reduction='max'; choose 'sum'"),
        ({"hidden": 0}, "hidden=0: a gate's hidden layer"),
        ({"hidden": True}, "hidden=True: a gate's hidden layer"),
        ({"weight": float("nan")}, "weight=nan: the weight of a loss"),
        ({"weight": -1.0}, "weight=-1.0: the weight of a loss"),
    ],
)
def test_what_means_nothing_is_refused_when_it_is_said(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RouteError, match=re.escape(said)):
        tp.GatedBlocks(**given)
