"""Every law of ``laws.py`` for every method on toy networks of timm, torchvision and our own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import laws
import skip_laws
import torchpaths as tp
from channel_toys import ToyBranches, ToyFilters, stir
from coded_toys import WITH_BRANCHES, reference
from torchpaths.methods.base import Method, losses
from toys import NARROW, TOYS, made, toy

METHODS: dict[str, Method | None] = {
    "open": None,
    "gated": tp.GatedBlocks(budget=tp.Budget(open=0.6)),
    "gated without norm": tp.GatedBlocks(norm=False),
    "random": tp.RandomDrop(0.7),
    "depth": tp.AdaptiveDepth(),
}
CHANNELS: dict[str, Method | None] = {
    "toy filters": ToyFilters(),
    "toy branches": ToyBranches(2),
    "filters": tp.GatedFilters(),
}
EVERY = {**METHODS, **CHANNELS}
COMPILED = ("timm/test_resnet", "torchvision/vit")
SHALLOW = ("timm/test_resnet", "timm/convnext")
"""Networks without a stage of two blocks."""
CASES = [(n, m) for m in METHODS for n in TOYS if m != "depth" or n not in SHALLOW]
CASES += [(n, m) for m in CHANNELS for n in (*NARROW, "timm/test_resnet")]
FILTERED = ("torchvision/mobilenet", "torchvision/vit", "timm/swin", "timm/convnext", "own/cifar_resnet20")
CASES += [(n, "filters") for n in FILTERED]


@pytest.mark.parametrize(("network", "method"), CASES)
def test_laws(network: str, method: str) -> None:
    original, x = toy(network)
    net = tp.route(copy.deepcopy(original), EVERY[method], example=x)
    stir(net)
    laws.check_all(net, original, x)
    if method != "random":  # draws in evaluation too
        laws.check_all_that_repeats(net, tp.route(toy(network, seed=1)[0], EVERY[method], example=x), x)


@pytest.mark.parametrize(("network", "method"), [case for case in CASES if case[1] != "gated without norm"])
def test_a_cut_network_is_the_forced_one(network: str, method: str) -> None:
    original, x = toy(network)
    net = tp.route(original, EVERY[method], example=x)
    stir(net)
    laws.check_cut_is_forced(net, x)


@pytest.mark.parametrize("method", ["gated", "depth", *CHANNELS])
@pytest.mark.parametrize("network", NARROW)
def test_skipping_and_threads_and_inner_calls(network: str, method: str) -> None:
    original, x = toy(network)
    x = torch.cat([x, x[:1].flip(3)]).double()
    net = tp.route(original.double(), EVERY[method], example=x)  # so that no order of summation turns a decision
    stir(net)
    skip_laws.check_skipping_is_masking(net, x)
    skip_laws.check_macs_are_those_that_run(net, x)
    if method in CHANNELS:
        skip_laws.check_one_by_one_is_together(net, x)
    for shared in (net, skip_laws.always(tp.skipping(net))):
        laws.check_threads_do_not_meet(shared, x)
        laws.check_a_call_within_a_call(shared, x)


@pytest.mark.parametrize(
    ("network", "method"),
    [
        *((network, "gated") for network in COMPILED),
        ("torchvision/vit", "depth"),
        ("torchvision/narrow", "filters"),
        ("torchvision/vit", "filters"),
    ],
)
def test_compiled_as_one_graph_it_answers_as_eager(network: str, method: str) -> None:
    original, x = toy(network)
    net = tp.route(original, EVERY[method], example=x)
    stir(net)
    laws.check_compiled_is_eager(net.eval(), x)


def with_branches(network: str) -> tuple[nn.Module, Tensor, tp.CodedPaths]:
    make, side, method = WITH_BRANCHES[network]
    return *made(make, side), method


@pytest.mark.parametrize("network", WITH_BRANCHES)
def test_laws_of_coded_paths(network: str) -> None:
    original, x, method = with_branches(network)
    net = tp.route(copy.deepcopy(original), method, example=x)
    laws.check_all(net, original, x, reference(original, method, x))
    other = with_branches(network)[0]
    for parameter in other.parameters():
        parameter.data.mul_(1.1)
    laws.check_all_that_repeats(net, tp.route(other, method, example=x), x)
    laws.check_cut_is_forced(net, x)


@pytest.mark.parametrize("network", ["own/resnext", "timm/efficientnet"])
def test_coded_paths_compile_as_one_graph(network: str) -> None:
    original, x, method = with_branches(network)
    laws.check_compiled_is_eager(tp.route(original, method, example=x).eval(), x)


@pytest.mark.parametrize("network", WITH_BRANCHES)
def test_coded_paths_skip_and_are_shared(network: str) -> None:
    original, x, method = with_branches(network)
    x = torch.cat([x, x[:1].flip(3)]).double()
    net = tp.route(original.double(), method, example=x)
    skip_laws.check_skipping_is_masking(net, x)
    skip_laws.check_macs_are_those_that_run(net, x)
    for shared in (net, skip_laws.always(tp.skipping(net))):
        laws.check_threads_do_not_meet(shared, x)
        laws.check_a_call_within_a_call(shared, x)


@pytest.mark.parametrize("network", TOYS)
def test_every_gate_gets_a_gradient_from_both_losses(network: str) -> None:
    original, x = toy(network)
    method = tp.GatedBlocks(budget=tp.Budget(open=0.6))
    net = tp.route(original, method, example=x)
    stir(net)
    net.train()
    y = torch.tensor([0, 1, 2, 3])
    for name in ("task", "rate"):
        torch.manual_seed(0)
        found = losses(method, net, x, y, cross_entropy, lambda _, local: local)
        laws.check_every_decider_gets_a_gradient(net, {name: found[name]})
