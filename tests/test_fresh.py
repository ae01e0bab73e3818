"""A skipping network never answers from yesterday: whatever it remembers is tied to what it was made of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import prune

import torchpaths as tp
from block_toys import Basic, chain
from torchpaths.skips.network import skipping


def gated(seed: int = 0) -> tuple[tp.Routed, Tensor]:
    """A network whose gates decide differently for each image of its batch."""
    model, x = chain(seed, block1=Basic(), block2=Basic(), block3=Basic())
    net = tp.route(model, tp.GatedBlocks(), example=x).eval()
    draw = torch.Generator().manual_seed(seed)
    for site in net.sites:
        gate = net.deciders[site]
        assert isinstance(gate, tp.Gate)
        gate.fc2.weight.data.normal_(0, 3, generator=draw)
        gate.fc2.bias.data.zero_()
        score = net(x)[1][site].score
        assert score is not None
        gate.fc2.bias.data[0] = float(score.detach().median()) + 1e-3  # half of the images open it
    return net, x


def opened(net: tp.Routed, x: Tensor) -> list[list[bool]]:
    return [decision.open.flatten().tolist() for decision in net(x)[1].values()]


def check_same(fast: tp.Routed, net: tp.Routed, x: Tensor) -> None:
    """Batches and single images, the network's own decisions and a path."""
    with torch.no_grad():
        for images in (x, x[:1]):
            assert opened(fast, images) == opened(net, images)
            torch.testing.assert_close(fast(images)[0], net(images)[0], rtol=1e-4, atol=1e-5)
            full = tp.Path.full(net)
            torch.testing.assert_close(fast(images, full)[0], net(images, full)[0], rtol=1e-4, atol=1e-5)


def other_state(net: tp.Routed) -> dict[str, Tensor]:
    """Weights with which every decision and output is another."""
    return {k: (-v if v.is_floating_point() and not k.endswith("running_var") else v).clone() for k, v in
            net.state_dict().items()}  # fmt: skip


def halved(net: tp.Routed) -> None:
    net.get_parameter("deciders.block2.fc2.weight").data = -net.get_parameter("deciders.block2.fc2.weight").data


def another_gate_layer(net: tp.Routed) -> None:
    torch.manual_seed(7)
    gate: Any = net.deciders["block2"]
    gate.fc2 = nn.Linear(16, 2)
    nn.init.normal_(gate.fc2.weight, std=3)


def another_gate(net: tp.Routed) -> None:
    torch.manual_seed(8)
    gate = tp.Gate(4)
    nn.init.normal_(gate.fc2.weight, std=3)
    net.deciders["block2"] = gate.eval()
    net.sites["block2"].decider = gate


def another_layer(net: tp.Routed) -> None:
    torch.manual_seed(9)
    block: Any = net.model.get_submodule("block2")
    block.conv = nn.Conv2d(4, 4, 1)


def another_forward(net: tp.Routed) -> None:
    conv: Any = net.model.get_submodule("block2.conv")
    conv.forward = lambda x: 2 * x


def another_padding(net: tp.Routed) -> None:
    conv: Any = net.model.get_submodule("block2.conv")
    conv.weight = nn.Parameter(conv.weight[:, :, 1:2, 1:2].detach().clone())
    conv.padding = (0, 0)


def another_epsilon(net: tp.Routed) -> None:
    norm: Any = net.model.get_submodule("block2.bn")
    norm.eps = 1.0


def pruned(net: tp.Routed) -> None:
    prune.l1_unstructured(net.model.get_submodule("block2.conv"), "weight", amount=0.5)  # type: ignore[no-untyped-call]


def hooked(net: tp.Routed) -> None:
    net.model.get_submodule("block2.conv").register_forward_hook(lambda _, x, y: y + 1)


def hooked_new_layer(net: tp.Routed) -> None:
    another_layer(net)
    hooked(net)


def assigned(net: tp.Routed) -> None:
    net.load_state_dict(other_state(net), assign=True)


def loaded(net: tp.Routed) -> None:
    net.load_state_dict(other_state(net))


CHANGES: list[Callable[[tp.Routed], None]] = [
    assigned, loaded, halved, another_gate_layer, another_gate, another_layer, another_forward, another_padding,
    another_epsilon, pruned, hooked, hooked_new_layer,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_after_a_call_is_what_the_next_one_answers_from(change: Callable[[tp.Routed], None]) -> None:
    net, x = gated()
    fast = skipping(net)
    check_same(fast, net, x)
    before = fast(x)[0], opened(fast, x)
    fresh = copy.deepcopy(net)  # first, since ``fast`` shares its weights with ``net``
    change(fast)
    change(fresh)
    check_same(fast, fresh, x)
    assert not torch.allclose(before[0], fast(x)[0]) or before[1] != opened(fast, x), "the change shows"


def test_weights_for_one_call_are_that_calls() -> None:
    net, x = gated()
    fast = skipping(net)
    fast(x)
    other = other_state(net)
    fresh = copy.deepcopy(net)
    fresh.load_state_dict(other)
    with torch.no_grad():
        y, trace = functional_call(fast, other, (x,))
        want, expected = fresh(x)
        torch.testing.assert_close(y, want, rtol=1e-4, atol=1e-5)
        assert all(torch.equal(trace[s].open, expected[s].open) for s in expected)
    check_same(fast, net, x)


def test_another_dtype_is_noticed_and_so_is_the_way_back() -> None:
    net, x = gated()
    fast = skipping(copy.deepcopy(net))
    check_same(fast, net, x)
    fast.double()
    check_same(fast, copy.deepcopy(net).double(), x.double())
    fast.float()
    check_same(fast, net, x)


def test_weights_written_through_data_count_after_eval() -> None:
    net, x = gated()
    fast = skipping(net)
    fast(x)
    for gate in net.deciders.parameters():
        gate.data.neg_()
    check_same(fast.eval(), net, x)


@pytest.mark.parametrize("count", [1, 4])
def test_after_a_call_with_gradients_on_it_is_copied_and_used_as_ever(count: int) -> None:
    net, x = gated()
    fast = skipping(net)
    fast(x[:count])
    check_same(copy.deepcopy(fast), net, x)
    front = tp.front(fast, [(x, torch.tensor([0, 1, 2, 3]))], batch=())
    assert front.points
    small = tp.extract(fast, tp.Path({site: [True] for site in net.sites}))
    torch.testing.assert_close(small(x), net(x, tp.Path.full(net))[0], rtol=1e-4, atol=1e-5)
