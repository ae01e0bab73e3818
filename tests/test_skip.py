"""Skipping answers as masking does, does only opened work, and writes into nobody's tensors."""

from __future__ import annotations

import copy
import pickle
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import laws
import torchpaths as tp
from torchpaths.costs import count_macs
from torchpaths.deciders.gate import Inference
from torchpaths.errors import CallError, PathError
from torchpaths.skips.network import Skipping, skipping
from toys import TOYS, toy


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


def gated(name: str, inference: Inference = "argmax") -> tuple[tp.Routed, Tensor]:
    """A toy whose gates open about half, differently for each image, and a batch of 6."""
    model, x = toy(name)
    x = torch.cat([x, torch.randn(2, *x.shape[1:], generator=torch.Generator().manual_seed(1))])
    net = tp.route(model, tp.GatedBlocks(inference=inference), example=x)
    for i, gate in enumerate(net.deciders.values()):
        assert isinstance(gate, tp.Gate)
        nn.init.normal_(gate.fc2.weight, std=3.0, generator=torch.Generator().manual_seed(i))
    for site in net.sites.values():
        assert site.decider is not None
        score = net(x)[1][site.name].score
        assert score is not None
        site.decider.threshold = float(score.flatten().sort().values[2:4].mean())  # no image's own score
    return net, x


def always(fast: Skipping) -> Skipping:
    """Gathers whatever it costs."""
    fast.prices.limit = lambda kind, batch, for_all, gathering: batch  # type: ignore[method-assign]
    return fast


def never(fast: Skipping) -> Skipping:
    """Runs a block for all images if any opens it."""
    fast.prices.limit = lambda kind, batch, for_all, gathering: 0  # type: ignore[method-assign]
    return fast


def check_same(net: tp.Routed, fast: Skipping, x: Tensor, path: tp.Path | None = None) -> None:
    expected, trace = net(x, path)
    got, reported = fast(x, path)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert list(reported) == list(trace)
    for site, decision in trace.items():
        assert torch.equal(reported[site].open, decision.open)
        torch.testing.assert_close(reported[site].z, decision.z, rtol=1e-4, atol=1e-5)
        if decision.score is not None:
            torch.testing.assert_close(reported[site].score, decision.score, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("network", TOYS)
@pytest.mark.parametrize("price", [always, never])
def test_it_answers_as_the_masked_network(network: str, price: Any) -> None:
    net, x = gated(network)
    fast = price(skipping(net))
    full = tp.Path.full(net)
    some = tp.Path(dict(list(laws.random_path(net, len(x)).items())[:1]))
    paths = [None, full, ~full, some, laws.random_path(net), *(laws.random_path(net, len(x), seed) for seed in (1, 2))]
    for path in paths:
        check_same(net, fast, x, path)
    for one in x.chunk(len(x)):
        check_same(net, fast, one)
        check_same(net, fast, one, laws.random_path(net, 1, 3))


@pytest.mark.parametrize("network", ["torchvision/resnet", "torchvision/vit"])
@pytest.mark.parametrize("inference", ["expected", "argmax"])
def test_whatever_the_gates_do_in_evaluation_is_kept(network: str, inference: Inference) -> None:
    net, x = gated(network, inference)
    check_same(net, always(skipping(net)), x)
    check_same(net, skipping(net), x[:1])


def test_a_network_that_draws_can_be_run_and_its_trace_replayed() -> None:
    model, x = toy("torchvision/resnet")
    net = tp.route(model, tp.RandomDrop(0.5), example=x)
    fast = always(skipping(net))
    torch.manual_seed(0)
    y, trace = fast(x)
    torch.testing.assert_close(net(x, tp.Path.of(trace))[0], y, rtol=1e-4, atol=1e-4)
    assert not all(bool(d.open.all()) for d in trace.values())


@pytest.mark.parametrize("network", TOYS)
def test_only_opened_work_is_done(network: str) -> None:
    net, x = gated(network)
    fast = always(skipping(net))
    deciders = sum(d.perceptron().first.numel() + 2 * d.perceptron().second.numel() for d in net.deciders.values())  # type: ignore[operator]
    for seed in range(3):
        path = laws.random_path(net, len(x), seed)
        expected = path.macs(net).sum() - deciders * len(x)  # a path asks no decider
        fast(x, path)  # the first call folds the gates
        assert count_macs(partial(fast, x, path)) == expected
        assert count_macs(partial(net, x, path)) > expected, "the masked network runs everything"


def test_a_skip_that_does_not_pay_is_declined() -> None:
    net, x = gated("torchvision/resnet")
    path = laws.random_path(net, len(x))
    assert count_macs(lambda: never(skipping(net))(x, path)) > count_macs(lambda: always(skipping(net))(x, path))


def test_prices_are_measured_once_for_each_kind_of_work() -> None:
    net, x = gated("own/cifar_resnet20")
    fast = skipping(net)
    path = tp.Path({s: torch.arange(len(x)).view(-1, 1) < 3 for s in net.sites})
    fast(x, path)
    known = dict(fast.prices.limits)
    assert len(known) == 5, "three stages of equal blocks, two blocks that change the shape"
    assert all(0 <= limit < len(x) for limit in known.values())
    fast(x, path)
    assert fast.prices.limits == known


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_order_and_precision_are_kept(order: torch.memory_format, dtype: torch.dtype) -> None:
    net, x = gated("own/cifar_resnet20")
    net, x = net.to(dtype), x.to(dtype).contiguous(memory_format=order)
    for gate in net.deciders.values():
        gate.float()
    path = laws.random_path(net, len(x))
    expected, got = net(x, path)[0], always(skipping(net))(x, path)[0]
    assert got.dtype == dtype
    torch.testing.assert_close(got, expected, rtol=0.05, atol=0.05 if dtype == torch.bfloat16 else 1e-4)


def test_images_that_are_not_contiguous_are_taken() -> None:
    net, x = gated("torchvision/resnet")
    check_same(net, always(skipping(net)), torch.cat([x, x], dim=3)[..., ::2])


def test_it_shares_weights_and_sees_them_change() -> None:
    net, x = gated("own/cifar_resnet20")
    fast = always(skipping(net))
    assert {id(p) for p in fast.parameters()} == {id(p) for p in net.parameters()}
    fast(x)
    for parameter in net.parameters():
        parameter.add_(0.01 * torch.randn_like(parameter))
    for site in net.sites.values():
        assert site.decider is not None
    check_same(net, fast, x)
    check_same(net, fast, x[:1])


def test_the_network_it_was_made_of_stays_as_it_was() -> None:
    net, x = gated("torchvision/resnet")
    expected, modules = net(x)[0], list(net.modules())
    net.train()
    fast = skipping(net)
    assert net.training
    assert not any(m.training for m in fast.modules())
    assert list(net.modules()) == modules
    assert torch.equal(net.eval()(x)[0], expected)


def test_it_runs_in_inference_mode() -> None:
    net, x = gated("torchvision/resnet")
    fast = always(skipping(net))
    expected = fast(x)[0]
    with torch.inference_mode():
        assert torch.equal(fast(x)[0], expected)
        torch.testing.assert_close(fast(x + 0)[0], expected)
        torch.testing.assert_close(fast(x[:1] + 0)[0], net(x[:1])[0], rtol=1e-4, atol=1e-4)


class Keeping(nn.Module):
    """Hands out what each block gave, as feature extractors do."""

    def __init__(self, model: nn.Module, views: bool) -> None:
        super().__init__()
        self.model = model
        self.views = views

    def forward(self, x: Tensor) -> Tensor:
        model: Any = self.model
        x = model.relu(model.norm(model.conv(x)))
        kept = []
        for stage in (model.layer1, model.layer2, model.layer3):
            for block in stage:
                x = block(x)
                kept.append(x[:, :1] if self.views else x)
        return torch.cat([k.flatten(1) for k in kept], dim=1)


@pytest.mark.parametrize("views", [False, True])
@pytest.mark.parametrize("batch", [1, 6])
def test_what_others_keep_is_not_written_into(views: bool, batch: int) -> None:
    model, x = toy("own/cifar_resnet20")
    net = tp.route(Keeping(_named(model), views), example=x)
    x = torch.cat([x, x])[:batch]
    given = x.clone()
    for seed in range(4):
        check_same(net, always(skipping(net)), x, laws.random_path(net, batch, seed))
        check_same(net, skipping(net), x, laws.random_path(net, seed=seed))
    assert torch.equal(x, given)


def _named(model: nn.Module) -> nn.Module:
    """The CIFAR network's stem under names that do not matter here."""
    stem = list(model.children())[:3]
    model.conv, model.norm, model.relu = stem[0], stem[1], nn.ReLU()
    return model


def test_hooks_on_layers_fire_and_what_they_keep_is_not_written_into() -> None:
    net, x = gated("own/cifar_resnet20")
    fast = always(skipping(net))
    path = tp.Path.full(net)
    kept: list[Tensor] = []
    layer = next(m for n, m in fast.model.named_modules() if n.endswith("bn2"))
    handle = layer.register_forward_hook(lambda module, args, y: kept.append(y))
    fast(x, path)
    [seen] = kept
    now = seen.clone()
    reference: list[Tensor] = []
    other = next(m for n, m in net.model.named_modules() if n.endswith("bn2"))
    other.register_forward_hook(lambda module, args, y: reference.append(y.clone()))
    net(x, path)
    torch.testing.assert_close(now, reference[0])
    handle.remove()
    fast(x, path)
    assert len(kept) == 1


def test_copies_and_pickles_run_on_their_own_weights() -> None:
    net, x = gated("own/cifar_resnet20")
    fast = skipping(net)
    fast(x)
    expected, _ = fast(x)
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        torch.testing.assert_close(other(x)[0], expected, rtol=1e-4, atol=1e-4)
        for parameter in other.parameters():
            parameter.zero_()
        assert not torch.equal(other(x)[0], expected)
        torch.testing.assert_close(fast(x)[0], expected, rtol=1e-4, atol=1e-4)


def test_nothing_is_left_after_a_call_that_fails() -> None:
    net, x = gated("torchvision/resnet")
    fast = skipping(net)
    with pytest.raises(RuntimeError):
        fast(x[:, :1])
    assert all(j._place.call is None for j in fast.junctions)


def test_it_runs_open_outside_a_call() -> None:
    net, x = gated("torchvision/resnet")
    torch.testing.assert_close(skipping(net).model(x), net(x, tp.Path.full(net))[0])


def test_calls_that_make_no_sense_are_refused() -> None:
    net, x = gated("torchvision/resnet")
    fast = skipping(net)
    with pytest.raises(CallError, match="evaluation only"):
        fast.train()
    with pytest.raises(CallError, match="no images"):
        fast(x[:0])
    with pytest.raises(CallError, match=r"on meta, the network is on cpu; give x\.to\('cpu'\)"):
        fast(x.to("meta"))
    with pytest.raises(PathError, match="does not have"):
        fast(x, tp.Path({"layer9.9": [True]}))
    with pytest.raises(PathError, match="was made for network 0000"):
        fast(x, tp.Path({"layer1.0": [True]}, network="0" * 16))
    with pytest.raises(PathError, match="batch of 6"):
        fast(x, laws.random_path(net, 5))
    with pytest.raises(Exception, match="cannot be compiled"):
        torch.compile(fast, backend="eager", fullgraph=True)(x)


def test_closed_blocks_of_a_chain_copy_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net, x = gated("own/cifar_resnet20")
    fast = skipping(net)
    path = tp.Path({site: [i % 3 == 0] for i, site in enumerate(net.sites)})
    fast(x, path)
    copies: list[Tensor] = []
    clone = Tensor.clone

    def counting(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        copies.append(self)
        return clone(self, *args, **kwargs)

    monkeypatch.setattr(Tensor, "clone", counting)
    fast(x, path)
    assert not copies, "what only the chain and the call refer to is handed on as it is"
