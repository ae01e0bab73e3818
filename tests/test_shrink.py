"""Fixed and shrink: blocks that are closed for good, and which."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import torchpaths as tp
from torchpaths.errors import BudgetError, CallError, DataError, RouteError
from torchpaths.methods.distil import divergence
from toys import toy

NETWORK = "torchvision/narrow"


class Block(nn.Module):
    """``x + weight * conv(x)``: how much it does is known."""

    def __init__(self, weight: float, inner: int = 0) -> None:
        super().__init__()
        if inner:
            self.conv: Any = nn.Sequential(nn.Conv2d(4, inner, 3, padding=1), nn.Conv2d(inner, 4, 3, padding=1))
        else:
            self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.weight * self.conv(x)
        return y


def blocks(*weights: float) -> tuple[tp.Routed, Tensor]:
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model = nn.Sequential(*map(Block, weights), head).eval()
    x = torch.randn(6, 4, 8, 8)
    return tp.route(model, example=x), x


def test_the_block_that_changes_the_output_least_is_closed_first() -> None:
    net, x = blocks(0.5, 0.01, 2.0, 0.1)
    told: list[Any] = []
    found = tp.shrink(net, [x[:4], (x[4:], None)], tp.Budget(open=0.25), progress=told.append)
    assert [step.unit for step in found.steps] == ["1", "3", "0"]
    assert told == list(found.steps)
    assert found.path == tp.Path({"0": [False], "1": [False], "2": [True], "3": [False]})
    assert found.steps[0].divergence < found.steps[1].divergence < found.steps[2].divergence


def test_what_it_costs_and_how_far_it_is_from_the_whole_network_is_told() -> None:
    net, x = blocks(0.5, 0.01, 2.0, 0.1)
    found = tp.shrink(net, [x], tp.Budget(macs=0.6))
    with torch.no_grad():
        apart = divergence(net(x)[0], net(x, found.path)[0])
    assert found.steps[-1].divergence == pytest.approx(float(apart), rel=1e-4)
    assert found.steps[-1].macs == found.path.macs(net) <= 0.6 * net.layout.plain.macs
    assert len(found.steps) == 2, "one block less is not enough, three less are not needed"


def test_all_are_tried_again_after_each_step() -> None:
    """Two blocks undo each other, so that one alone is dear, and cheap without the other."""
    net, x = blocks(1.0, 1.0, 0.9)
    with torch.no_grad():
        for name, sign in (("0", 1.0), ("1", -1.0)):
            conv: Any = net.model.get_submodule(name).conv
            conv.weight.zero_()
            conv.bias.copy_(sign * torch.tensor([9.0, 0, 0, 0]))
        head: Any = net.model.get_submodule("3.2")
        head.weight.normal_()
    found = tp.shrink(net, [x], tp.Budget(open=0.1))
    assert found.steps[0].unit == "2"
    assert found.steps[-1].divergence < found.steps[1].divergence


def test_small_blocks_are_opened_again_where_the_last_one_left_room_for_them() -> None:
    """Within the budget are a small block and not the large one, which is closed last."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    x = torch.randn(6, 4, 8, 8)
    net = tp.route(nn.Sequential(Block(0.01), Block(0.1), Block(4.0, 40), head).eval(), example=x)
    told: list[Any] = []
    found = tp.shrink(net, [x], tp.Budget(macs=0.07), progress=told.append)
    assert [step.unit for step in told] == ["0", "1", "2"]
    left = {unit: tp.Path({"0": [unit == "0"], "1": [unit == "1"], "2": [False]}) for unit in "01"}
    with torch.no_grad():
        far = {unit: float(divergence(net(x)[0], net(x, path)[0])) for unit, path in left.items()}
    assert found.path == left[min(far, key=far.__getitem__)], "of the two that have room the better one"
    assert [step.unit for step in found.steps] == [max(far, key=far.__getitem__), "2"]
    assert found.steps[-1].macs == found.path.macs(net) <= 0.07 * net.layout.plain.macs
    assert found.steps[-1].divergence == pytest.approx(min(far.values()), rel=1e-4)


def test_nothing_is_closed_where_the_network_is_within_the_budget_already() -> None:
    net, x = blocks(0.5, 0.1)
    assert tp.shrink(net, [x], tp.Budget(macs=1.0)).steps == ()
    assert tp.shrink(net, [x], tp.Budget(open=1.0)).path == tp.Path.full(net)


def test_a_budget_of_milliseconds_asks_for_times() -> None:
    net, x = blocks(0.5, 0.01, 2.0, 0.1)
    asked: list[int] = []

    def ms(path: tp.Path) -> float:
        asked.append(sum(sum(opened) for opened in path.values()))
        return float(asked[-1])

    found = tp.shrink(net, [x], tp.Budget(ms=2.5), ms=ms)
    assert [step.ms for step in found.steps] == [3.0, 2.0]
    assert asked == [0, 4, 3, 2], "first whether it can be met at all"
    with pytest.raises(BudgetError, match="with every unit closed Sequential takes 1e-06 ms"):
        tp.shrink(net, [x], tp.Budget(ms=1e-9), ms=lambda path: ms(path) + 1e-6)
    with pytest.raises(BudgetError, match=r"shrink\(..., ms=function\)"):
        tp.shrink(net, [x], tp.Budget(ms=1))


def test_gates_and_modes_are_as_they_were() -> None:
    model, x = toy(NETWORK)
    net = tp.route(model, tp.GatedBlocks(), example=x).train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    found = tp.shrink(net, [x], tp.Budget(macs=0.8))
    assert net.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert set(found.path) == set(net.sites), "gates are not asked"


def test_what_cannot_be_shrunk_is_named() -> None:
    net, x = blocks(0.5, 0.1)
    with pytest.raises(BudgetError, match="what always runs"):
        tp.shrink(net, [x], tp.Budget(macs=1e-9))
    for nothing in ([], [x[:0]], ["x"]):
        with pytest.raises(DataError, match="batches of images"):
            tp.shrink(net, nothing, tp.Budget(open=0.5))
    vector = tp.route(nn.Sequential(Block(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(0)), example=x[:1])
    with pytest.raises(CallError, match="no tensor with scores for each image"):
        tp.shrink(vector, [x], tp.Budget(open=0.1))


def test_a_fixed_path_is_a_method_and_that_path() -> None:
    model, x = toy(NETWORK)
    net = tp.route(model, example=x)
    found = tp.shrink(net, [x], tp.Budget(macs=0.7))
    model, x = toy(NETWORK)
    fixed = tp.route(model, found.method, example=x).eval()
    with torch.no_grad():
        laws.close(fixed(x)[0], net(x, found.path)[0])
        assert tp.Path.of(fixed(x)[1])[0] == found.path
        small = tp.extract(fixed, found.path, example=x)
        laws.close(small(x), fixed(x)[0])


def test_blocks_that_are_fixed_do_not_train_and_the_others_do() -> None:
    model, x = toy(NETWORK)
    method = tp.Fixed(closed=("layer1.0",))
    net = tp.route(model, method, example=x).train()
    losses = tp.Objective(net, method)(x, torch.zeros(len(x), dtype=torch.long))
    sum(losses.values(), torch.zeros(())).backward()
    grads = {name: p.grad is not None for name, p in net.model.named_parameters()}
    assert not any(there for name, there in grads.items() if name.startswith("layer1.0"))
    assert all(there for name, there in grads.items() if not name.startswith("layer1.0"))


def test_gates_decide_about_what_is_left() -> None:
    model, x = toy(NETWORK)
    others = ("layer1.1", r"layer2\..*")
    net = tp.route(model, [tp.Fixed(closed=("layer1.0",)), tp.GatedBlocks(sites=others)], example=x).eval()
    trace = net(x)[1]
    assert trace["layer1.0"].whole == (False,)
    assert trace["layer1.1"].score is not None
    with pytest.raises(RouteError, match=r"Fixed and GatedBlocks both decide at site 'layer1\.0'"):
        tp.route(toy(NETWORK)[0], [tp.Fixed(closed=("layer1.0",)), tp.GatedBlocks()], example=x)


def test_a_pattern_that_matches_no_block_is_named() -> None:
    model, x = toy(NETWORK)
    with pytest.raises(RouteError, match=r"'layer1.9' matches no site. Did you mean"):
        tp.route(model, tp.Fixed(closed=("layer1.9",)), example=x)
    with pytest.raises(RouteError, match=r"closed=\('layer1.0',\)"):
        tp.Fixed(closed="layer1.0")  # type: ignore[arg-type]


class Linear(nn.Module):
    """``x + layer(x)`` of features, weights of a known size."""

    def __init__(self, size: float, shift: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        nn.init.normal_(self.layer.weight, std=size)
        nn.init.constant_(self.layer.bias, shift)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.layer(x)
        return y


def features(*parts: nn.Module) -> tuple[tp.Routed, Tensor]:
    x = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    return tp.route(nn.Sequential(*parts).eval(), example=x), x


@pytest.mark.parametrize("times", [1.0, 1e5])
@pytest.mark.parametrize("width", [1, 3])
def test_values_and_scores_of_any_size_tell_blocks_apart(width: int, times: float) -> None:
    torch.manual_seed(0)
    head = nn.Linear(4, width)
    head.weight.data.mul_(times)
    net, x = features(Linear(9.0), Linear(0.01), Linear(0.5), head)
    found = tp.shrink(net, [x], tp.Budget(open=0.34), outputs="values" if width > 1 else None)
    assert [step.unit for step in found.steps] == ["1", "2"]
    assert 0 < found.steps[0].divergence < found.steps[1].divergence


def test_labels_that_may_all_be_true_are_not_told_apart_by_a_softmax() -> None:
    """What a block adds to all scores alike leaves classes as they were, and turns every label."""
    torch.manual_seed(0)
    head = nn.Linear(4, 4, bias=False)
    nn.init.eye_(head.weight)
    net, x = features(Linear(0.2), Linear(0.0, shift=-4.0), head)
    assert [s.unit for s in tp.shrink(net, [x], tp.Budget(open=0.5)).steps] == ["1"]
    assert [s.unit for s in tp.shrink(net, [x], tp.Budget(open=0.5), outputs="labels").steps] == ["0"]


def test_probabilities_are_as_good_as_scores() -> None:
    torch.manual_seed(0)
    parts = Linear(2.0), Linear(0.1), nn.Linear(4, 3)
    net, x = features(*parts)
    likely, _ = features(*copy.deepcopy(parts), nn.Softmax(1))
    found = [tp.shrink(n, [x], tp.Budget(open=0.5)).steps[0] for n in (net, likely)]
    assert found[0].unit == found[1].unit == "1"
    assert found[0].divergence == pytest.approx(found[1].divergence, rel=1e-3)


def test_images_for_which_the_output_is_no_number_are_refused() -> None:
    net, x = blocks(0.5, 0.1)
    x[3, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="no number for some of these images; leave them out"):
        tp.shrink(net, [x], tp.Budget(open=0.5))
    tp.shrink(net, [x[:3]], tp.Budget(open=0.5))


def test_a_number_for_a_budget_and_a_network_that_is_not_routed_are_answered() -> None:
    net, x = blocks(0.5, 0.1)
    with pytest.raises(BudgetError, match=r"say of what: Budget\(macs=0.7\)"):
        tp.shrink(net, [x], 0.8)  # type: ignore[arg-type]
    with pytest.raises(CallError, match="is not routed; give shrink"):
        tp.shrink(net.model, [x], tp.Budget(open=0.8))  # type: ignore[arg-type]
