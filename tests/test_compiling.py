"""Where compiling meets calls: other threads, parts compiled by themselves, parts left out of a compiled whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from block_toys import Basic, Chain, chain
from torchpaths.models import cifar_resnet


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def network(method: tp.Method | None = None) -> tuple[tp.Routed, Tensor]:
    model, x = chain(0, block1=Basic(), block2=Basic(), block3=Basic())
    return tp.route(model, method, example=x).eval(), x


def test_what_another_thread_compiles_does_not_touch_calls() -> None:
    net, x = network()
    shut = ~tp.Path.full(net)
    want = net(x, shut)[0]
    done, wrong = threading.Event(), []

    def compiling() -> None:
        for _ in range(3):
            torch.compile(nn.Sequential(*(nn.Linear(8, 8) for _ in range(12))), backend="eager")(torch.randn(2, 8))
            torch._dynamo.reset()
        done.set()

    def serving() -> None:
        while not done.is_set():
            y, trace = net(x, shut)
            if len(trace) != 3 or not torch.equal(y, want):
                wrong.append(len(trace))

    threads = [threading.Thread(target=work) for work in (compiling, serving, serving)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert net.slot.call is None
    assert not net.slot.running


@pytest.mark.parametrize("first", ["outside any call", "in a call"])
def test_a_model_compiled_inside_obeys_each_call_whatever_it_met_first(first: str) -> None:
    net, x = network()
    full, shut = tp.Path.full(net), ~tp.Path.full(net)
    want = {path: net(x, path)[0] for path in (full, shut)}
    net.model.compile(backend="eager")
    if first == "outside any call":
        torch.testing.assert_close(net.model(x), want[full])
    for path in (shut, full, shut):
        y, trace = net(x, path)
        torch.testing.assert_close(y, want[path])
        assert [trace[site].whole for site in net.sites] == [path[site] for site in net.sites]
    torch.testing.assert_close(net.model(x), want[full])


class Left(Chain):
    """A chain one of whose blocks is left out when the whole is compiled."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.compiler.disable(self.block1)(self.stem(x))  # type: ignore[no-untyped-call]
        y: Tensor = self.head(self.block2(x).mean((2, 3)))
        return y


def test_a_part_that_is_left_out_of_a_compiled_whole_sees_the_call() -> None:
    torch.manual_seed(0)
    model, x = Left(block1=Basic(), block2=Basic()).eval(), torch.randn(4, 3, 8, 8)
    net = tp.route(model, example=x)
    shut = ~tp.Path.full(net)
    want = net(x, shut)[0]
    y, trace = torch.compile(net, backend="eager")(x, shut)
    torch.testing.assert_close(y, want)
    assert set(trace) == {"block1", "block2"}
    assert net.slot.call is None


def test_features_are_compared_also_where_the_model_inside_is_compiled() -> None:
    torch.manual_seed(0)
    method = tp.AdaptiveDepth()
    x, y = torch.randn(4, 3, 8, 8), torch.tensor([0, 1, 2, 3])
    net = tp.route(cifar_resnet(20, classes=4), method, example=x).train()
    want = tp.Objective(net, method)(x, y)
    net.model.compile(backend="eager")
    found = tp.Objective(net, method)(x, y)
    assert set(found) == set(want) == {"task", "outputs", "features"}
