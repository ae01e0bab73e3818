"""MACs and parameters, against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

import torchpaths as tp
from block_toys import WIDTH, chain
from skip_laws import always
from torchpaths.costs import count_macs, count_params
from torchpaths.errors import PathError
from toys import toy


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (1, 3, 10, 6), 10 * 6 * 8 * 3 * 9),
        (nn.Conv2d(4, 8, 3, stride=2), (1, 4, 9, 9), 4 * 4 * 8 * 4 * 9),
        (nn.Conv2d(4, 8, 3, padding=1, groups=4), (1, 4, 5, 5), 5 * 5 * 8 * 1 * 9),
        (nn.Conv2d(6, 6, 5, padding=2, groups=6), (1, 6, 4, 4), 4 * 4 * 6 * 25),
        (nn.Conv1d(4, 8, 3), (1, 4, 10), 8 * 8 * 4 * 3),
        (nn.Linear(7, 5), (1, 7), 7 * 5),
        (nn.Linear(7, 5), (1, 11, 7), 11 * 7 * 5),
        (nn.Conv2d(3, 8, 3), (2, 3, 5, 5), 2 * 3 * 3 * 8 * 3 * 9),
        (nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), (1, 3, 4, 4), 0),
    ],
    ids=["conv", "stride", "groups", "depthwise", "1-d", "linear", "tokens", "batch of 2", "nothing that multiplies"],
)
def test_macs_are_those_counted_by_hand(layer: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    x = torch.randn(shape)
    assert count_macs(lambda: layer.eval()(x)) == macs


def test_attention_costs_its_projections_and_two_products() -> None:
    width, heads, tokens = 16, 4, 9
    layer = nn.MultiheadAttention(width, heads, batch_first=True).eval()
    x = torch.randn(1, tokens, width)
    projections, products = 4 * tokens * width * width, 2 * tokens * tokens * width
    assert count_macs(lambda: layer(x, x, x, need_weights=False)) == projections + products
    assert count_macs(lambda: layer(x, x, x, need_weights=True)) == projections + products
    q = torch.randn(1, heads, tokens, 4)
    assert count_macs(lambda: functional.scaled_dot_product_attention(q, q, q)) == products


def test_counting_leaves_fused_attention_as_it_was_also_after_an_error() -> None:
    def fail() -> None:
        raise RuntimeError("stop")

    for enabled in (True, False):
        torch.backends.mha.set_fastpath_enabled(enabled)
        count_macs(lambda: None)
        with pytest.raises(RuntimeError, match="stop"):
            count_macs(fail)
        assert torch.backends.mha.get_fastpath_enabled() == enabled
    torch.backends.mha.set_fastpath_enabled(True)


def test_shared_parameters_count_once() -> None:
    layer = nn.Linear(3, 4)
    assert count_params(nn.Sequential(layer, nn.ReLU(), layer)) == 16


def test_a_networks_layout_is_its_cost_by_hand() -> None:
    model, x = chain()
    net = tp.route(model, example=x)
    block, stem, head = 64 * WIDTH * WIDTH * 9, 64 * WIDTH * 3 * 9, WIDTH * 5
    assert net.layout.plain.macs == stem + 2 * block + head
    assert net.layout.fixed.macs == stem + head
    assert net.layout.plain.params == count_params(model)
    assert tp.cost(net, x[:1]) == net.layout.plain
    closed = ~tp.Path.full(net)
    assert tp.cost(net, x[:1], closed) == closed.cost(net) == net.layout.fixed


def test_gates_cost_their_linear_layers_and_parameters() -> None:
    model, x = chain()
    plain = tp.route(model, example=x).layout
    gated = tp.route(chain()[0], tp.GatedBlocks(hidden=8), example=x).layout
    gate = tp.Cost(WIDTH * 8 + 8 * 2, WIDTH * 8 + 8 + 2 * 8 + 8 * 2 + 2)
    assert gated.fixed - plain.fixed == gate + gate
    assert gated.plain == plain.plain
    assert gated.fingerprint == plain.fingerprint


def test_deciders_that_score_one_image_by_products_with_vectors_are_counted() -> None:
    model, x = toy("torchvision/resnet")
    net = tp.route(model, tp.GatedFilters(), example=x).eval()
    fast = always(tp.skipping(net))
    with torch.no_grad():
        _, trace = fast(x[:1])
    assert count_macs(lambda: fast(x[:1])) == int(tp.Path.of(trace).macs(net))


def test_cost_is_of_one_image() -> None:
    model, x = chain()
    net = tp.route(model, example=x)
    with pytest.raises(PathError, match=r"batch of 4; give x\[:1\]"):
        tp.cost(net, x)
    with pytest.raises(PathError, match="leaves 1 sites"):
        tp.cost(net, x[:1], tp.Path({"block1": True}))
    with pytest.raises(PathError, match="per-sample"):
        tp.cost(net, x[:1], tp.Path({"block1": torch.ones(1, 1, dtype=torch.bool), "block2": True}))


@pytest.mark.parametrize("training", [True, False])
def test_cost_leaves_every_modules_training_flag_and_statistics_as_they_were(training: bool) -> None:
    model, x = chain()
    net = tp.route(model, example=x).train(training)
    net.get_submodule("model.block1").train(not training)
    flags = {n: m.training for n, m in net.named_modules()}
    buffers = {n: b.clone() for n, b in net.named_buffers()}
    tp.cost(net, x[:1])
    assert {n: m.training for n, m in net.named_modules()} == flags
    assert all(torch.equal(b, buffers[n]) for n, b in net.named_buffers())
