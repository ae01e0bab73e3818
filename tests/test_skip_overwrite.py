"""Norms and ReLUs of a block write over what the layer before them made, if nobody else reads it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from laws import close
from skip_laws import always
from torchpaths.skips.overwrite import overwriting


class Chain(nn.Module):
    """A residual block: ``x + branch(x)``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Identity()
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.relu(self.drop(self.norm(self.conv(x))))
        return y


class ReadTwice(Chain):
    """Its norm's input goes into the sum as well."""

    def forward(self, x: Tensor) -> Tensor:
        made = self.conv(x)
        y: Tensor = x + (self.relu(self.norm(made)) + made)
        return y


class ReadAsView(Chain):
    """Somebody has a view of its norm's input."""

    def forward(self, x: Tensor) -> Tensor:
        made = self.conv(x)
        seen = made.flatten(2)
        y: Tensor = x + (seen.view_as(x) + self.norm(made))
        return y


class ReadBehindIdentity(Chain):
    """What an identity handed on is the ReLU's input, and goes into the sum as well."""

    def forward(self, x: Tensor) -> Tensor:
        made = self.norm(self.conv(x))
        y: Tensor = x + (self.relu(self.drop(made)) + made)
        return y


class NotItsOwn(Chain):
    """Its first layer is a ReLU of what the block was given."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.norm(self.conv(self.relu(self.drop(x))))
        return y


def routed(block: type[Chain]) -> tuple[tp.Routed, Tensor, tp.Path]:
    """Three blocks in a row, images, and a path that opens them for some of these."""
    torch.manual_seed(0)
    x = torch.randn(5, 4, 6, 6)
    net = tp.route(nn.Sequential(block(), block(), block()), tp.GatedBlocks(), example=x).eval()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-0.5, 0.5)  # type: ignore[union-attr]
            norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return net, x, tp.Path({site: torch.arange(5).view(5, 1) % 3 != i % 3 for i, site in enumerate(net.sites)})


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


def convolved(net: tp.Routed, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, list[Tensor]]:
    """A skipping network, and what its convolutions give, as it is when the call has ended."""
    given: list[Tensor] = []
    plain = torch.conv2d

    def noting(*args: Any) -> Tensor:
        given.append(plain(*args))
        return given[-1]

    monkeypatch.setattr(torch, "conv2d", noting)
    return always(tp.skipping(net)), given


@pytest.mark.parametrize("block", [Chain, ReadTwice, ReadAsView, ReadBehindIdentity, NotItsOwn])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_answers_stay_those_of_the_masked_network(
    block: type[Chain], order: torch.memory_format, dtype: torch.dtype
) -> None:
    net, x, path = routed(block)
    net, x = net.to(dtype), x.to(dtype).contiguous(memory_format=order)
    fast = always(tp.skipping(net))
    for images, chosen in ((x, path), (x[:1], path[0]), (x, tp.Path.full(net))):
        given = images.clone()
        close(fast(images, chosen)[0], net(images, chosen)[0])
        assert torch.equal(images, given)


@pytest.mark.parametrize(("block", "over"), [(Chain, True), (NotItsOwn, True), (ReadTwice, False), (ReadAsView, False)])
def test_what_a_convolution_gave_is_written_over_unless_others_read_it(
    block: type[Chain], over: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x, path = routed(block)
    fast, given = convolved(net, monkeypatch)
    fast(x, path)
    conv = net.model[0]._place.block.conv  # type: ignore[index]
    rows = path[next(iter(net.sites))].flatten()
    taken = x[rows].relu() if block is NotItsOwn else x[rows]
    assert torch.allclose(given[0], conv(taken), atol=1e-5) != over


def test_what_the_part_gives_itself_is_kept() -> None:
    source = "def forward(self, x):\n    made = conv(x);  x = None\n    norm = norm(made)\n    return made"
    layers = {"conv": nn.Conv2d(1, 1, 1), "norm": nn.BatchNorm2d(1)}
    assert overwriting(source, layers, layers) == (source, {})


def test_the_statistics_of_a_norm_are_only_read() -> None:
    net, x, path = routed(Chain)
    fast = always(tp.skipping(net))
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    expected = fast(x, path)[0]
    assert torch.equal(fast(x, path)[0], expected)
    assert all(torch.equal(buffer, before[name]) for name, buffer in net.named_buffers())


def test_a_norm_that_is_put_into_training_again_sees_the_images_that_are_there() -> None:
    net, x, _ = routed(Chain)
    fast, full = always(tp.skipping(net)), tp.Path.full(net)
    evaluated = fast(x, full)[0]
    for model in (net.model, fast.model):
        next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).train()
    trained = fast(x, full)[0]
    assert not torch.allclose(trained, evaluated, atol=1e-3)
    close(trained, net(x, full)[0])


def test_a_hook_sees_what_its_layer_gave() -> None:
    net, x, path = routed(Chain)
    fast = always(tp.skipping(net))
    fast(x, path)
    seen: list[Tensor] = []
    conv = fast.model[0]._place.block.conv  # type: ignore[index]
    conv.register_forward_hook(lambda module, args, y: seen.append(y))
    fast(x, path)
    assert torch.equal(seen[0], torch.conv2d(x[path[next(iter(net.sites))].flatten()], conv.weight, conv.bias, 1, 1))
