"""RandomDrop: the control that looks at nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import torchpaths as tp
from block_toys import chain
from torchpaths.deciders.chance import Chance
from torchpaths.errors import BudgetError, RouteError
from torchpaths.methods.base import losses

DRAWS = 4000


def dropped(rates: float | tuple[float, ...]) -> tuple[tp.Routed, Tensor]:
    model, x = chain()
    return tp.route(model, tp.RandomDrop(rates), example=x), x


@pytest.mark.parametrize("training", [False, True])
def test_each_block_opens_at_its_own_rate_in_training_and_evaluation(training: bool) -> None:
    net, x = dropped((0.25, 0.9))
    torch.manual_seed(0)
    with torch.no_grad():
        _, trace = net.train(training)(x[:1, :, :4, :4].expand(DRAWS, -1, -1, -1))
    for site, rate in {"block1": 0.25, "block2": 0.9}.items():
        assert abs(trace[site].open.float().mean().item() - rate) < 4 * math.sqrt(rate * (1 - rate) / DRAWS)


def test_one_rate_is_for_all_blocks() -> None:
    net, _ = dropped(0.5)
    assert [d.rate for d in net.deciders.values() if isinstance(d, Chance)] == [0.5, 0.5]


def test_a_rate_of_1_is_no_decider_and_always_open() -> None:
    net, x = dropped((1.0, 0.5))
    assert list(net.deciders) == ["block2"]
    assert all(net(x)[1]["block1"].whole == (True,) for _ in range(3))
    assert not list(dropped(1.0)[0].deciders)


def test_the_same_seed_drops_the_same_blocks() -> None:
    net, x = dropped(0.5)

    def drawn(seed: int) -> tuple[Tensor, tp.Path]:
        torch.manual_seed(seed)
        with torch.no_grad():
            y, trace = net(x.repeat(8, 1, 1, 1))
        return y, tp.Path.of(trace)

    (y, path), (again, same), (_, other) = drawn(0), drawn(0), drawn(1)
    assert path == same
    assert torch.equal(y, again)
    assert path != other
    with torch.no_grad():
        assert torch.equal(net(x.repeat(8, 1, 1, 1), path)[0], y), "what was drawn can be forced"


def test_it_adds_no_parameters_and_no_macs() -> None:
    net, _ = dropped(0.5)
    assert not list(net.deciders.parameters())
    assert tp.Path.full(net).cost(net) == net.layout.plain


def test_its_loss_is_the_tasks() -> None:
    net, x = dropped(0.5)
    y = torch.tensor([0, 1, 2, 3])
    torch.manual_seed(0)
    found = losses(tp.RandomDrop(0.5), net, x, y, functional.cross_entropy, lambda _, local: local)
    torch.manual_seed(0)
    assert list(found) == ["task"]
    assert torch.equal(found["task"], functional.cross_entropy(net(x)[0], y))


def test_a_list_of_another_length_is_refused_with_both_lengths() -> None:
    model, x = chain()
    with pytest.raises(RouteError, match="3 rates, the model 2 blocks"):
        tp.route(model, tp.RandomDrop((0.5, 0.5, 0.5)), example=x)


@pytest.mark.parametrize("rates", [0.0, -0.1, 1.1, math.nan, (), (0.5, 0.0)])
def test_a_rate_lies_above_0_and_up_to_1(rates: float | tuple[float, ...]) -> None:
    with pytest.raises(BudgetError, match=r"\(0, 1\]"):
        tp.RandomDrop(rates)
