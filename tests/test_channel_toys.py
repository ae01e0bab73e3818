"""Channels closed inside blocks: what the toy methods leave out, refuse and learn, and what they show of the house."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import laws
import torchpaths as tp
from channel_toys import EDGE, FilterGate, ToyBranches, ToyFilters, stir
from torchpaths.costs import count_macs
from torchpaths.deciders import Switch
from torchpaths.errors import CallError, RouteError
from torchpaths.methods.base import Method, losses, running
from torchpaths.places.channels.layer import Layer
from toys import toy

NETWORK = "torchvision/narrow"


def routed(method: Method | list[Method], network: str = NETWORK) -> tuple[tp.Routed, Tensor]:
    model, x = toy(network)
    x = x.double()
    net = tp.route(model.double(), method, example=x)
    stir(net)
    return net, x


def test_a_site_has_a_unit_for_each_filter_and_a_place_for_each_layer_it_touches() -> None:
    net, _ = routed(ToyFilters())
    assert {name: len(site.units) for name, site in net.sites.items()} == {
        "layer1.0.conv1": 8,
        "layer1.1.conv1": 8,
        "layer2.0.conv1": 16,
        "layer2.1.conv1": 16,
    }
    places = [
        (type(j._place.block), int(j._place.role.columns is not None))
        for j in net.junctions
        if isinstance(j._place, Layer)
    ]
    assert places == [(nn.Conv2d, 0), (nn.BatchNorm2d, 0), (nn.Conv2d, 1)] * 4


def test_the_cost_of_a_filter_is_its_row_its_norm_and_its_column() -> None:
    net, _ = routed(ToyFilters())
    [unit, *_] = net.sites["layer1.0.conv1"].units
    assert unit.cost == tp.Cost(2 * 8 * 9 * 144, 2 * 8 * 9 + 2)
    assert unit.kind == "filters"


def test_a_path_for_the_batch_leaves_filters_out_in_evaluation_and_masks_them_in_training() -> None:
    net, x = routed(ToyFilters())
    path, full = laws.random_path(net), tp.Path.full(net)
    assert count_macs(lambda: net(x, path)) < count_macs(lambda: net(x, full))
    net.train()
    assert count_macs(lambda: net(x, path)) == count_macs(lambda: net(x, full))
    norm = net.model.get_submodule("layer1.0.bn1")
    norm.reset_running_stats()  # type: ignore[operator]
    net(x, ~full)
    assert (norm.running_mean != 0).all(), "closed filters too keep their statistics"  # type: ignore[union-attr]


def test_a_single_image_leaves_out_what_it_closes() -> None:
    net, x = routed(ToyFilters())
    _, trace = tp.skipping(net)(x[:1])
    assert all(decision.whole is not None for decision in trace.values())
    assert not all(decision.open.all() for decision in trace.values())


def test_the_best_filter_opens_however_low_all_scores_are() -> None:
    torch.manual_seed(0)
    gate = FilterGate(4, 6)
    gate.linear.bias.data.fill_(-50.0)
    features = torch.randn(3, 4)
    for mode in (True, False):
        decision = gate.train(mode)(features)
        raw = gate.linear(features)
        assert torch.equal(decision.open, raw > raw.amax(1, keepdim=True) - EDGE)
        assert torch.equal(decision.open, decision.score > 0)


def test_every_filter_gate_gets_a_gradient_from_both_losses() -> None:
    method = ToyFilters(rate=0.3)  # no share that eight filters can have
    net, x = routed(method)
    net.train()
    y = torch.tensor([0, 1, 2, 3])
    for name in ("task", "filters"):
        found = losses(method, net, x, y, nn.functional.cross_entropy, lambda _, local: local)
        laws.check_every_decider_gets_a_gradient(net, {name: found[name]})


def test_branches_are_set_by_their_switches_and_by_paths_alike() -> None:
    net, x = routed(ToyBranches(4))
    switch = net.deciders["layer1/0/conv1"]
    assert isinstance(switch, Switch)
    with torch.no_grad():
        expected, _ = net(x, tp.Path({"layer1.0.conv1": [True, False, False, True]}))
        switch.set(True, False, False, True)
        assert torch.equal(net(x)[0], expected)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [(3, 1, 1, 1), (3, 2, 0, 1), (5, 2, 1, 2)])
def test_where_nothing_is_open_sizes_and_biases_are_those_of_the_layers(
    bias: bool, kernel: int, stride: int, padding: int, dilation: int
) -> None:
    net, _ = routed(ToyFilters())
    block = net.model.get_submodule("layer1.0")
    torch.manual_seed(0)
    for name in ("conv1", "conv2"):
        made = nn.Conv2d(8, 8, kernel, stride, padding, dilation, bias=bias).double()
        junction = block.get_submodule(name)
        junction._place.block = made  # type: ignore[union-attr]
        junction._share()  # type: ignore[operator]
    first, second = (block.get_submodule(name) for name in ("conv1", "conv2"))
    h = torch.randn(2, 8, 31, 31, dtype=torch.float64)
    closed = {"layer1.0.conv1": (False,) * 8}
    expected = second._place.block(first._place.block(h) * 0)  # type: ignore[union-attr, operator]
    narrow = first._place.cut(closed)(h)  # type: ignore[union-attr, operator]
    assert narrow.shape[1] == 8
    assert not narrow.any()
    got = second._place.cut(closed)(narrow)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_a_norm_that_trains_behind_a_convolution_that_does_not_is_named() -> None:
    net, x = routed(ToyFilters())
    path = laws.random_path(net)
    net.model.get_submodule("layer1.0.bn1").train()
    with pytest.raises(CallError, match=r"'layer1\.0\.conv1': its norm trains and its convolution does not"):
        net(x, path)
    net.model.get_submodule("layer1.0.conv1").train()
    net(x, path)


def test_a_block_that_was_skipped_does_not_enter_the_loss_of_a_site_inside_it() -> None:
    filters = ToyFilters()
    net, x = routed([tp.GatedBlocks(), filters])
    net.train()
    outer, inner = "layer1.1", "layer1.1.conv1"
    opened = torch.tensor([[True], [False], [True], [False]])
    scores: list[Tensor] = []
    net.deciders[inner.replace(".", "/")].register_forward_hook(lambda _, features, made: scores.append(made.score))
    _, trace = net(x, tp.Path({outer: opened}))
    assert trace[inner].ran is not None
    assert torch.equal(trace[inner].ran, opened[:, 0])
    assert not trace[inner].open[1::2].any()
    weights = running(net, trace, inner)
    assert weights is not None
    assert weights.tolist() == [1, 0, 1, 0]
    term = filters.terms(net, {inner: trace[inner], outer: trace[outer]}, None, lambda _, local: local, None)
    [gradient] = torch.autograd.grad(term["filters"], scores)
    assert (gradient[1::2] == 0).all()
    assert (gradient[::2] != 0).any()
    share = trace[inner].open[::2].float().mean()
    torch.testing.assert_close(term["filters"].float(), (share - 0.5).square())


def test_a_model_without_such_blocks_is_refused() -> None:
    model, x = toy("torchvision/vit")
    with pytest.raises(RouteError, match="no block of VisionTransformer begins with two plain convolutions"):
        tp.route(model, ToyFilters(), example=x)
