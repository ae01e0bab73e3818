"""Weights that several units share are counted once, as long as one of those is open, however units nest."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.errors import PathError
from torchpaths.layout import Layout
from torchpaths.ties import Tie


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(4, 4)
        self.g = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.f(x)
        y: Tensor = x + self.g(x)
        return y


class Outer(nn.Module):
    """A head of its own and four blocks, each of two sums."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Block() for _ in range(4)))
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.blocks(x))
        return y


def across(model: Outer) -> None:
    """Two weights shared by blocks, and one by both sums of a block."""
    first, *others = (block for block in model.blocks)
    for block in others[:2]:
        block.get_submodule("f").weight = first.get_submodule("f").weight
    others[1].get_submodule("g").weight = others[2].get_submodule("g").weight
    first.get_submodule("g").bias = first.get_submodule("f").bias


def with_head(model: Outer) -> None:
    """A weight that is also the head's, which always runs."""
    for block in model.blocks[:2]:
        block.get_submodule("g").weight = model.head.weight


def routed(tie: Any, method: Any = None) -> tp.Routed:
    torch.manual_seed(0)
    model = Outer()
    tie(model)
    return tp.route(model.eval(), method, example=torch.randn(2, 4))


@pytest.mark.parametrize("tie", [across, with_head])
def test_the_cost_of_every_path_is_what_is_cut_out(tie: Any) -> None:
    net = routed(tie)
    names = list(net.sites)
    for opened in itertools.islice(itertools.product([True, False], repeat=len(names)), 0, None, 7):
        path = tp.Path(dict(zip(names, ([o] for o in opened), strict=True)))
        assert path.cost(net).params == sum(p.numel() for p in tp.plain(net, path).parameters()), opened
    assert tp.Path.full(net).cost(net).params == sum(p.numel() for p in net.model.parameters())


def test_gains_are_differences_of_costs_and_files_say_the_same() -> None:
    layout = routed(across).layout
    draw = np.random.default_rng(0)
    for opened in draw.random((8, len(layout.units))) < 0.5:
        both = np.stack([np.where(np.eye(len(opened), dtype=bool), way, opened) for way in (True, False)])
        costs = layout.costs(both)
        assert (layout.gains(opened) == costs[0] - costs[1]).all()
    again = Layout.from_json(json.loads(json.dumps(layout.to_json())))
    assert again.ties == layout.ties
    assert len(layout.ties) == 3
    assert (again.costs(both) == costs).all()


def test_depths_of_blocks_that_share_a_layer_cost_what_they_are() -> None:
    net = routed(across, [tp.AdaptiveDepth(features="none", norms=False), tp.GatedBlocks()])
    for chosen in ((True, True), (False, True), (True, False), (False, False)):
        kinds = {name: chosen[site.kind == "block"] for name, site in net.sites.items()}
        path = tp.Path({name: [kinds[name]] * len(site.units) for name, site in net.sites.items()})
        cost = net.layout.undecided().cost(path.opened(net.layout)[0])
        assert cost.params == sum(p.numel() for p in tp.plain(net, path).parameters())


@pytest.mark.parametrize(
    "ties", [[[16, [0, 99], [1]]], [[16]], [[1.5, [0]]], [[16, 0]], [["x", [0]]], [[16, []]], [[]]]
)
def test_other_ties_in_a_file_are_refused(ties: Any) -> None:
    data = {**routed(across).layout.to_json(), "ties": ties}
    with pytest.raises(PathError):
        Layout.from_json(json.loads(json.dumps(data)))


def test_a_tie_of_nobody_is_refused() -> None:
    with pytest.raises(PathError, match="not among these 2 units"):
        Tie(3, ((2,), (0,))).check(2)


def tied_filters(*ties: tuple[str, str]) -> nn.Module:
    """Convolutions behind one another and in residual blocks, with weights shared by pairs of modules."""
    torch.manual_seed(0)

    class Convs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(4, 4, 3, padding=1)
            self.b = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + self.b(self.a(x).relu())
            return y

    layers = [nn.Conv2d(4, 4, 3, padding=1) for _ in range(4)]
    model = nn.Sequential(*layers, Convs(), Convs(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    for one, other in ties:
        model.get_submodule(other).weight = model.get_submodule(one).weight
    return model.eval()


@pytest.mark.parametrize(
    "ties",
    [
        [("1", "2")],
        [("1", "2"), ("1", "3")],
        [("0", "2")],
        [("4.a", "5.a")],
        [("4.a", "4.b"), ("4.a", "5.b")],
        [("1", "4.a"), ("0", "5.b")],
    ],
)
@pytest.mark.parametrize("sites", [None, ("2", r"[45]\.a")])
def test_filters_of_layers_that_share_weights_cost_what_is_cut_out(ties: list[tuple[str, str]], sites: Any) -> None:
    net = tp.route(tied_filters(*ties), [tp.GatedBlocks(), tp.Filters(sites)], example=torch.randn(2, 4, 6, 6))
    layout = net.layout.undecided()
    assert layout.fixed.params >= 0
    assert layout.cost(np.ones(len(layout.units), bool)) == layout.plain
    for seed in range(24):
        draw = np.random.default_rng(seed)
        path = {}
        for name, site in net.sites.items():
            opened = draw.random(len(site.units)) < draw.choice([0.3, 1.0])
            opened[0] |= site.kind == "filters"
            path[name] = opened.tolist()
        cost = layout.cost(tp.Path(path).opened(net.layout)[0])
        assert cost.params == sum(p.numel() for p in tp.plain(net, tp.Path(path)).parameters())
        both = np.stack([np.concatenate(list(path.values()))] * 2)
        both[0, seed % len(layout.units)], both[1, seed % len(layout.units)] = True, False
        gained = layout.costs(both)
        assert (layout.gains(both[0])[seed % len(layout.units)] == gained[0] - gained[1]).all()
    again = Layout.from_json(json.loads(json.dumps(net.layout.to_json())))
    assert again.ties == net.layout.ties
