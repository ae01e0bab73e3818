"""A menu of compiled paths: what it gives, what it compiles and what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import torchpaths as tp
from laws import random_path
from toys import toy


class Counting:
    """A back end of torch.compile that runs graphs as they are and counts them."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, example: list[Tensor]) -> Callable[..., Any]:
        self.graphs += 1
        return graph.forward


@pytest.fixture(scope="module")
def routed() -> tuple[tp.Routed, Tensor]:
    torch._dynamo.reset()
    model, x = toy("own/cifar_resnet20")
    return tp.route(model, tp.GatedBlocks(), example=x).eval(), x


def paths_of(net: tp.Routed, count: int) -> list[tp.Path]:
    return [random_path(net, seed=seed) for seed in range(count)]


def test_more_paths_than_torch_compile_allows_for_one_class_compile_once_each(routed: tuple[tp.Routed, Tensor]) -> None:
    net, x = routed
    backend = Counting()
    paths = paths_of(net, 12)
    assert len({*paths}) == 12 > torch._dynamo.config.recompile_limit
    menu = tp.compiled(net, paths, backend=backend)
    assert backend.graphs == 0, "compiled when first run, not before"
    menu.warm_up(x)
    assert backend.graphs == 12
    for path in [*paths, *paths[::-1], paths[3], paths[3], paths[7]]:
        torch.testing.assert_close(menu(x, path), net(x, path)[0], rtol=1e-5, atol=1e-5)
    assert backend.graphs == 12


def test_weights_changed_in_place_are_seen_and_compile_nothing(routed: tuple[tp.Routed, Tensor]) -> None:
    net, x = routed
    backend = Counting()
    paths = paths_of(net, 2)
    menu = tp.compiled(net, paths, backend=backend)
    menu.warm_up(x)
    before = menu(x, paths[0])
    with torch.no_grad():
        for tensor in (*net.model.parameters(), *net.model.buffers()):
            if tensor.is_floating_point():
                tensor.mul_(1.1)
    after = menu(x, paths[0])
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, net(x, paths[0])[0], rtol=1e-5, atol=1e-5)
    assert backend.graphs == 2


def test_batches_of_sizes_met_before_compile_nothing(routed: tuple[tp.Routed, Tensor]) -> None:
    net, x = routed
    backend = Counting()
    menu = tp.compiled(net, paths_of(net, 2), backend=backend, dynamic=False)
    for batch in (x, x[:1]):
        menu.warm_up(batch)
    assert backend.graphs == 4
    for batch in (x[:1], x, x[:1]):
        for path in menu.paths:
            torch.testing.assert_close(menu(batch, path), net(batch, path)[0], rtol=1e-5, atol=1e-5)
    assert backend.graphs == 4


def test_it_shares_weights_evaluates_and_leaves_the_network_in_training(routed: tuple[tp.Routed, Tensor]) -> None:
    net, x = routed
    path = tp.Path.full(net)
    menu = tp.compiled(net, [path], backend=Counting())
    expected = net(x, path)[0]
    statistics = net.model.get_buffer("bn1.running_mean").clone()
    net.train()
    y = menu(x, path)
    assert net.training
    net.eval()
    assert not y.requires_grad
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(net.model.get_buffer("bn1.running_mean"), statistics)


def test_equal_paths_count_once(routed: tuple[tp.Routed, Tensor]) -> None:
    net, _ = routed
    one, two = paths_of(net, 2)
    assert tp.compiled(net, [one, two, one]).paths == (one, two)


def test_a_path_that_is_not_on_the_menu_is_refused_with_the_nearest(routed: tuple[tp.Routed, Tensor]) -> None:
    net, x = routed
    full = tp.Path.full(net)
    menu = tp.compiled(net, [~full, full], backend=Counting())
    site = next(iter(net.sites))
    other = tp.Path({**full, site: [False]})
    with pytest.raises(tp.errors.PathError, match=rf"not among the 2 .* number 1 is nearest .* at '{site}'\. "):
        menu(x, other)
    with pytest.raises(tp.errors.PathError, match=r"names site 'layer9'"):
        menu(x, tp.Path({"layer9": [True]}))
    with pytest.raises(tp.errors.PathError, match=r"4 samples, each its own, .* path\[0\]"):
        menu(x, random_path(net, 4))


def test_a_menu_needs_paths_that_choose_everything(routed: tuple[tp.Routed, Tensor]) -> None:
    net, _ = routed
    with pytest.raises(tp.errors.PathError, match="menu of no paths"):
        tp.compiled(net, [])
    with pytest.raises(tp.errors.PathError, match=r"leaves 8 sites to decide"):
        tp.compiled(net, [tp.Path({next(iter(net.sites)): [True]})])
    with pytest.raises(tp.errors.PathError, match=r"each its own"):
        tp.compiled(net, [random_path(net, 4)])
