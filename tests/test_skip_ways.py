"""A layer that leaves filters out, in each way in which it may: which is taken, and that none is another answer."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import torchpaths as tp
from channel_toys import stir
from torchpaths.costs import count_macs
from torchpaths.deciders import FilterGate
from torchpaths.places.channels.weights import zeros
from torchpaths.skips import channels, ways
from torchpaths.skips.folded import Folded, placed
from torchpaths.skips.prices import Prices
from torchpaths.skips.rates import EXACT, Rates, Way
from torchpaths.skips.ways import way
from toys import made, toy

WAYS = [Way(rows, columns, unfold) for rows in (True, False) for columns in (True, False) for unfold in (True, False)]


def rated(**parts: Any) -> Rates:
    return Rates(**{"compute": (1.0, None), "rows": 0.0, "columns": 0.0, "place": 0.0, "mask": 0.0, **parts})


def test_what_takes_least_is_chosen() -> None:
    free = rated()
    assert free.best(0.5, 0.5) == Way(rows=True, columns=True)
    assert free.best(1.0, 1.0).unfold is False
    assert rated(compute=(1.0, 0.9)).best(0.5, 0.5).unfold
    assert not rated(compute=(1.0, 1.1)).best(0.5, 0.5).unfold
    dear_rows, dear_columns = rated(rows=2.0), rated(columns=2.0)
    assert dear_rows.best(0.5, 0.5) == Way(rows=False, columns=True)
    assert dear_columns.best(0.5, 0.5) == Way(rows=True, columns=False)
    assert rated(rows=0.5).best(0.5, 1.0).rows, "saves 0.5, costs 0.25"
    assert not rated(rows=0.5).best(0.8, 1.0).rows, "saves 0.2, costs 0.4"
    assert rated(rows=0.5, mask=0.3).best(0.8, 1.0).rows, "and 0.3 to mask"
    assert not rated(columns=0.5).best(1.0, 0.8).columns
    assert rated(columns=0.5, place=0.5).best(1.0, 0.8).columns


@pytest.mark.parametrize("order", ["channels_last", "contiguous"])
@pytest.mark.parametrize(
    "layer",
    [
        functools.partial(nn.Conv2d, 6, 8, 3, padding=1),
        functools.partial(nn.Conv2d, 6, 8, (3, 5), padding=(0, 2), stride=(2, 1), bias=False),
        functools.partial(nn.Conv2d, 6, 8, 1, stride=2),
        functools.partial(nn.Conv2d, 6, 8, 3, padding="same"),
        functools.partial(nn.Conv2d, 6, 8, 3, dilation=2),
        functools.partial(nn.Linear, 6, 8),
    ],
)
def test_a_layer_gives_the_same_in_every_way(layer: Any, order: str) -> None:
    torch.manual_seed(0)
    one = layer().double()
    linear = isinstance(one, nn.Linear)
    norm = (nn.BatchNorm1d if linear else nn.BatchNorm2d)(8).double().eval()
    norm.running_mean.normal_()  # type: ignore[union-attr]
    norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    rows, columns = torch.tensor([1, 2, 5]), torch.tensor([0, 3, 4, 5])
    full = torch.randn(1, 6).double() if linear else torch.randn(1, 6, 7, 9).double()
    shut = torch.ones(6, dtype=torch.bool).index_fill(0, columns, False)
    full[:, shut] = 0
    x = full[:, columns]
    if not linear and order == "channels_last":
        x, full = (t.contiguous(memory_format=torch.channels_last) for t in (x, full))
    expected = norm(one(full))
    folded = Folded(one, norm)
    with torch.no_grad():
        for own in (None, rows):
            for among in (None, columns):
                for unfold in (False, True) if folded.unfolds else (False,):
                    y = folded(full if among is None else x, own, among, unfold)
                    laws.close(y, expected if own is None else expected[:, own], 1e-12)
                    assert linear or order == "contiguous" or not y.is_contiguous()
        laws.close(placed(x, columns, 6, 1), full)


@pytest.mark.parametrize("chosen", WAYS)
@pytest.mark.parametrize("network", ["torchvision/narrow", "timm/narrow"])
def test_a_network_answers_as_its_mask_in_whatever_way_its_layers_compute(
    network: str, chosen: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = toy(network)
    net = tp.route(model, tp.GatedFilters(), example=x)
    stir(net)
    seen = 0

    def always(folded: Folded, x: Tensor, rows: Tensor | None, columns: Tensor | None, prices: Prices) -> Way:
        nonlocal seen
        seen += rows is not None or columns is not None
        return chosen if folded.unfolds else Way(chosen.rows, chosen.columns)

    monkeypatch.setattr(channels, "way", always)
    fast = tp.skipping(net)
    with torch.no_grad():
        for image in torch.split(x, 1):
            y, trace = fast(image)
            expected, masked = net(image)
            laws.close(y, expected, 1e-4)
            assert tp.Path.of(trace) == tp.Path.of(masked)
    assert seen > len(x)


def test_each_kind_of_layer_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    x, prices = torch.randn(1, 4, 8, 8), Prices()
    first, second = Folded(nn.Conv2d(4, 6, 3), None), Folded(nn.Conv2d(4, 6, 3), None)
    asked: list[object] = []
    monkeypatch.setattr(ways, "fastest", lambda run: float(asked.append(run) is None))  # type: ignore[func-returns-value]
    with torch.no_grad():
        for folded in (first, second, first):
            way(folded, x, torch.tensor([0, 2]), None, prices)
        assert len(asked) == 6
        way(first, x[..., :6, :6], None, None, prices)
        assert len(asked) == 12
        prices.exact = True
        assert way(first, torch.randn(1, 4, 5, 5), torch.tensor([0, 2]), None, prices) is EXACT
    assert len(asked) == 12


def test_what_is_only_tried_is_not_counted() -> None:
    model, x = toy("torchvision/narrow")
    net = tp.route(model, tp.GatedFilters(), example=x)
    stir(net)
    for images in (x[:1], x):
        fast = tp.skipping(net)
        first, second = (count_macs(functools.partial(fast, images)) for _ in range(2))
        assert first == second


def test_a_hook_that_writes_weights_while_a_call_runs_is_noticed() -> None:
    model, x = toy("torchvision/narrow")
    net = tp.route(model, tp.GatedFilters(), example=x)
    stir(net)
    fast = tp.skipping(net)
    with torch.no_grad():
        for _ in range(2):
            fast(x[:1])

        def halve(module: nn.Module, inputs: object, output: object) -> None:
            fast.model.get_parameter("layer1.1.conv1.weight").data.mul_(0.5)

        handle = fast.model.get_submodule("layer1.0").register_forward_hook(halve)
        y, _ = fast(x[:1])
        handle.remove()
        laws.close(y, net(x[:1])[0], 1e-4)
        laws.close(fast(x[:1])[0], y, 1e-4)


@pytest.mark.parametrize("multiple", [1, 3, 4, 16])
@pytest.mark.parametrize("shift", [-9.0, -1.0, 0.0, 9.0])
def test_a_gate_decides_for_a_single_image_as_for_a_batch(multiple: int, shift: float) -> None:
    torch.manual_seed(1)
    gate = FilterGate(8, 12, multiple=multiple).eval()
    gate.fc2.weight.data.normal_()
    gate.fc2.bias.data.fill_(shift)
    features = torch.randn(20, 8)
    features[0] = -9.0  # nothing behind the ReLU: all scores are one
    gate.fc1.weight.data.abs_()
    with torch.no_grad():
        features[1, 2] = float("nan")
        together = gate(features)
        for i in range(len(features)):
            alone = gate.single(features[i : i + 1])
            assert torch.equal(alone.open, together.open[i : i + 1])
            torch.testing.assert_close(alone.score, together.score[i : i + 1], equal_nan=True)
            assert alone.whole in (None, tuple(alone.open[0].tolist()))


def test_what_is_closed_before_a_layer_that_reads_nothing_leaves_its_bias() -> None:
    model, x = made(lambda: nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1), nn.Conv2d(5, 2, 1)), 8)
    net = tp.route(model, tp.Filters(), example=x)
    site = next(iter(net.sites))
    path = tp.Path({site: [False] * len(net.sites[site].units)})
    with torch.no_grad():
        laws.close(tp.skipping(net)(x[:1], path)[0], net(x[:1], path)[0])
        assert zeros(nn.Conv2d(3, 4, 1), x, 4).shape == (len(x), 4, *x.shape[2:])


@pytest.mark.parametrize("method", [tp.GatedBlocks(), tp.GatedFilters()])
@pytest.mark.parametrize("change", ["assigned", "a buffer", "a parameter", "another type"])
def test_what_the_network_gets_in_place_of_its_tensors_skips_too(method: tp.Method, change: str) -> None:
    model, x = toy("torchvision/narrow")
    net = tp.route(model, method, example=x).eval()
    stir(net)
    fast = tp.skipping(net)
    with torch.no_grad():
        fast(x), fast(x[:1])
        if change == "assigned":
            other = {k: v * 1.5 if v.is_floating_point() else v for k, v in net.state_dict().items()}
            net.load_state_dict(other, assign=True)
        elif change == "another type":
            net, x = net.double(), x.double()
        else:
            layer: Any = net.model.get_submodule("layer1.0.bn1" if change == "a buffer" else "layer1.0.conv1")
            if change == "a buffer":
                layer.running_mean = layer.running_mean + 5
            else:
                layer.weight = nn.Parameter(2 * layer.weight)
        for images in (x, x[:1]):
            y, trace = fast(images)
            expected, masked = net(images)
            laws.close(y, expected, 1e-4)
            assert tp.Path.of(trace) == tp.Path.of(masked)
