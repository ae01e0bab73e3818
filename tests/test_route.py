"""Routing a model: what it takes, what it leaves alone, and what it says when it cannot."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import torchpaths as tp
from block_toys import WIDTH, Basic, Plain, chain
from torchpaths.errors import RouteError


def test_pretrained_weights_stay_bit_for_bit_under_their_own_keys() -> None:
    model, x = chain()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    parameters = {n: id(p) for n, p in model.named_parameters()}
    net = tp.route(model, tp.GatedBlocks(), example=x)
    assert list(net.model.state_dict()) == list(before)
    assert all(torch.equal(v, before[k]) for k, v in net.model.state_dict().items())
    assert {n: id(p) for n, p in net.model.named_parameters()} == parameters
    fresh, _ = chain(seed=1)
    fresh.load_state_dict(net.model.state_dict())  # and back into the plain network
    with torch.no_grad():
        assert torch.equal(fresh(x), net(x, tp.Path.full(net))[0])


@pytest.mark.parametrize("training", [True, False])
def test_every_modules_training_flag_stays_as_it_was(training: bool) -> None:
    model, x = chain()
    model.train(training)
    model.get_submodule("block1").train(not training)  # e.g. a frozen part
    flags = {n: m.training for n, m in model.named_modules()}
    net = tp.route(model, tp.GatedBlocks(), example=x)
    assert {n: m.training for n, m in net.model.named_modules()} == flags
    assert net.training == net.deciders.training == training


def test_frozen_parameters_stay_frozen() -> None:
    model, x = chain()
    model.block1.requires_grad_(False)
    net = tp.route(model, tp.GatedBlocks(), example=x)
    frozen = {n for n, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {f"model.block1.{n}" for n in ("conv.weight", "conv.bias", "bn.weight", "bn.bias")}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_another_precision_is_routed_and_answers_in_it(dtype: torch.dtype) -> None:
    model, x = chain()
    model, x = model.to(dtype), x.to(dtype)
    original = copy.deepcopy(model)
    net = tp.route(model, tp.GatedBlocks(), example=x)
    with torch.no_grad():
        assert torch.equal(net(x, tp.Path.full(net))[0], original(x))
        y, trace = net(x)
    assert y.dtype == dtype
    assert {d.z.dtype for d in trace.values()} == {torch.float32}
    net.train()(x)[0].float().square().mean().backward()
    gate = net.deciders["block1"]
    assert isinstance(gate, tp.Gate)
    assert gate.fc1.weight.dtype == torch.float32
    assert gate.fc2.weight.grad is not None


def test_without_an_example_a_timm_model_is_counted_at_the_size_it_asks_for() -> None:
    model = timm.create_model("test_resnet", num_classes=5).eval()
    config = timm.get_pretrained_cfg("test_resnet")
    assert config is not None
    size = config.input_size
    assert size[1] != 224
    net = tp.route(model)
    assert net.layout.plain.macs == tp.cost(net, torch.zeros(1, *size)).macs


def test_without_an_example_a_model_that_says_nothing_is_counted_at_224() -> None:
    model, _ = chain()
    net = tp.route(model)
    assert net.layout.plain.macs == tp.cost(net, torch.zeros(1, 3, 224, 224)).macs


def test_an_example_of_several_images_counts_one() -> None:
    (model, x), (other, _) = chain(), chain()
    assert tp.route(model, example=x).layout == tp.route(other, example=x[:1]).layout


def test_routing_twice_is_refused() -> None:
    model, x = chain()
    net = tp.route(model, example=x)
    for again in (net, model, nn.Sequential(model)):
        with pytest.raises(RouteError, match="routed already"):
            tp.route(again, tp.GatedBlocks(), example=x)


@pytest.mark.parametrize("method", [tp.GatedBlocks, "GatedBlocks"], ids=str)
def test_what_is_no_method_is_refused(method: Any) -> None:
    model, x = chain()
    with pytest.raises(RouteError, match=r"method=.*GatedBlocks.*: give a method, an instance such as"):
        tp.route(model, method, example=x)
    tp.route(model, example=x)  # it was left as it was


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 3), (3, 8), (2, 3, 0, 8)])
def test_an_example_the_model_does_not_take_is_named_by_its_shape(shape: tuple[int, ...]) -> None:
    model, _ = chain()
    with pytest.raises(RouteError, match="Chain does not take the example") as error:
        tp.route(model, example=torch.zeros(shape))
    assert str(shape) in str(error.value)
    assert "example=x" in str(error.value)


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x).relu()
        return y


def test_a_network_without_residual_blocks_is_refused_with_the_reasons() -> None:
    model, x = chain(stage1=Stage(), stage2=Plain())
    with pytest.raises(RouteError, match="no residual block found in Chain") as error:
        tp.route(model, example=x)
    said = str(error.value)
    assert "stage1: it holds no sum" in said
    assert "stage2: it holds no sum" in said
    assert "residuals={" in said


def test_a_network_of_torchs_own_modules_has_nothing_to_give_reasons_for() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    with pytest.raises(RouteError, match=r"no residual block found in Sequential\.") as error:
        tp.route(model, example=torch.zeros(1, 3, 8, 8))
    assert "tried" not in str(error.value)


def test_a_block_may_bear_the_name_of_a_method_of_modules() -> None:
    model, x = chain(keys=Basic(), block=Basic())
    net = tp.route(model, tp.GatedBlocks(), example=x)
    assert list(net.sites) == ["keys", "block"]
    assert net(x)[1]["keys"].score is not None


def test_without_a_method_every_unit_is_open_until_a_path_closes_it() -> None:
    model, x = chain()
    net = tp.route(model, example=x)
    _, trace = net(x)
    assert all(d.whole == (True,) for d in trace.values())
    assert not list(net.deciders.parameters())
    assert net.layout.fixed + sum((u.cost for u in net.layout.units), tp.Cost(0, 0)) == net.layout.plain


@pytest.mark.parametrize("given", [{}, {"method": tp.GatedBlocks()}, {"method": tp.RandomDrop(0.5)}])
def test_a_routed_network_trains_like_any_module(given: dict[str, Any]) -> None:
    model, x = chain()
    net = tp.route(model, example=x, **given).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    torch.manual_seed(0)
    for _ in range(3):
        optimizer.zero_grad()
        net(x)[0].square().mean().backward()
        optimizer.step()
    # A bias before batch normalisation has no effect in training, gradient or not.
    still = {n for n, p in net.named_parameters() if torch.equal(p, before[n])}
    assert still <= {"model.block1.conv.bias", "model.block2.conv.bias"} | {n for n in before if ".fc1." in n}
