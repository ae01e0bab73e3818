"""block_targets: which blocks are closed, which are gated and at what rate, from what their removal costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from test_shrink import blocks
from torchpaths.errors import BudgetError, RouteError


def test_cheap_blocks_are_closed_the_next_gated_and_dear_ones_left_open() -> None:
    net, x = blocks(0.5, 0.001, 2.0, 0.01, 0.05, 4.0, 0.1, 3.0)
    targets = tp.block_targets(net, [x], tp.Budget(macs=0.75))  # of eight blocks alike, two
    order = sorted(range(8), key=[0.5, 0.001, 2.0, 0.01, 0.05, 4.0, 0.1, 3.0].__getitem__)
    assert targets[order[0]] == 0.0
    assert [0 < targets[i] < 1 for i in order[1:3]] == [True, True]
    assert all(targets[i] == 1.0 for i in order[4:])
    assert len({t for t in targets if 0 < t < 1}) == 1


@pytest.mark.parametrize("share", [0.55, 0.7, 0.8, 0.95])
def test_the_mean_over_images_meets_the_budget(share: float) -> None:
    net, x = blocks(0.5, 0.001, 2.0, 0.01, 0.05, 4.0, 0.1, 3.0)
    targets = tp.block_targets(net, [x], tp.Budget(macs=share))
    whole = net.layout.plain.macs
    left_out = sum((1 - t) * unit.cost.macs for t, unit in zip(targets, net.layout.units, strict=True))
    assert whole - left_out == pytest.approx(share * whole, abs=2)
    method = tp.GatedBlocks(targets=targets, start="target")
    assert method.rates(list(net.layout.sites)) == list(targets)


@pytest.mark.parametrize(
    ("budget", "error", "said"),
    [
        (tp.Budget(macs=0.2), BudgetError, r"more than all blocks.*shrink\(net, images, budget\)"),
        (tp.Budget(macs=1.0), BudgetError, "no less than the whole network's"),
        (tp.Budget(open=0.5), BudgetError, r"Budget\(macs=0\.75\)"),
        (tp.Budget(ms=5), BudgetError, r"Budget\(macs=0\.75\)"),
    ],
)
def test_a_budget_that_gates_cannot_meet_is_refused(budget: tp.Budget, error: type[Exception], said: str) -> None:
    net, x = blocks(0.5, 0.001, 2.0, 0.01)
    with pytest.raises(error, match=said):
        tp.block_targets(net, [x], budget)


def test_targets_are_for_blocks() -> None:
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3))
    x: Tensor = torch.randn(2, 3, 12, 12)
    net = tp.route(model, tp.Filters(), example=x)
    with pytest.raises(RouteError, match="for residual blocks, and this network has filter"):
        tp.block_targets(net, [x], tp.Budget(macs=0.75))
