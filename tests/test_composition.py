"""Methods together keep every law: depth, gates and channels inside one another, in any order."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import laws
import torchpaths as tp
from channel_toys import FilterGate, ToyBranches, ToyFilters
from test_laws import stir
from torchpaths.methods.base import Method
from toys import toy

DEPTH, GATES, FILTERS, BRANCHES = tp.AdaptiveDepth(), tp.GatedBlocks(), ToyFilters(), ToyBranches(4)
TOGETHER: dict[str, list[Method]] = {
    "depth + gates": [DEPTH, GATES],
    "gates + depth": [GATES, DEPTH],
    "gates + filters": [GATES, FILTERS],
    "filters + depth": [FILTERS, DEPTH],  # doubled norms and filters claim the same norms
    "depth + gates + filters": [DEPTH, GATES, FILTERS],
    "branches + gates + depth": [BRANCHES, GATES, DEPTH],
}
NETWORK = {"depth + gates": "timm/narrow", "gates + filters": "timm/narrow"}
"""What a combination is tested on, if not on blocks of torchvision."""

Make = Callable[[str], tuple[tp.Routed, nn.Module, Tensor]]


def make(name: str, network: str | None = None, seed: int = 0) -> tuple[tp.Routed, nn.Module, Tensor]:
    """A network of several methods that looks at its images, the original, and five images; in double precision, so
    that no order of summation turns a decision."""
    original, x = toy(network or NETWORK.get(name, "torchvision/narrow"), seed)
    original, x = original.double(), torch.cat([x, x[:1].flip(3)]).double()
    net = tp.route(copy.deepcopy(original), TOGETHER[name], example=x)
    stir(net)
    return net, original, x


@pytest.mark.parametrize("name", TOGETHER)
def test_laws(name: str) -> None:
    net, original, x = make(name)
    laws.check_full_path_is_the_original(net, original, x)
    laws.check_forced_is_reported(net, x)
    laws.check_leaving_out_is_masking(net, x)
    laws.check_samples_do_not_touch_each_other(net, x)
    laws.check_nothing_is_left_after_a_call(net, x)
    laws.check_cost_is_what_runs(net, x)
    laws.check_replaying_a_trace_gives_the_same_output(net, x)
    laws.check_copies_are_the_same(net, x)
    laws.check_state_dict_round_trip(net, make(name, seed=1)[0], x)


@pytest.mark.parametrize("name", TOGETHER)
def test_skipping_is_masking_and_runs_what_its_paths_cost(name: str) -> None:
    net, _, x = make(name)
    laws.check_skipping_is_masking(net, x)
    laws.check_macs_are_those_that_run(net, x)


@pytest.mark.parametrize("name", TOGETHER)
def test_a_cut_network_is_the_forced_one(name: str) -> None:
    net, _, x = make(name)
    laws.check_cut_is_forced(net, x)


@pytest.mark.parametrize("name", ["depth + gates + filters", "branches + gates + depth"])
def test_threads_and_inner_calls_do_not_meet(name: str) -> None:
    net, _, x = make(name)
    for shared in (net, laws.always(tp.skipping(net))):
        laws.check_threads_do_not_meet(shared, x)
        laws.check_a_call_within_a_call(shared, x)
