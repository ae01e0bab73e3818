"""What ``tp.narrow`` refuses, and says of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import torchpaths as tp
from channel_toys import ToyFilters
from narrow_toys import FILTERS, counted, gated
from torchpaths.errors import DataError, RouteError
from torchpaths.filtering import FilterStates
from torchpaths.narrowing import Left
from toys import toy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: FilterStates({"elsewhere": s.opened["layer1.0.conv1"]}, {"elsewhere": 3}), "name 'elsewhere', no"),
        (
            lambda s: FilterStates({"layer1.0.conv1": torch.ones(3, dtype=torch.long)}, {"layer1.0.conv1": 3}),
            "the states count 3 filters at 'layer1.0.conv1', which has 8",
        ),
        (
            lambda s: FilterStates({"layer1.0.conv1": torch.zeros(8, dtype=torch.long)}, {"layer1.0.conv1": 3}),
            "no filter of 'layer1.0.conv1' was open for any of the 3 images",
        ),
    ],
)
def test_states_of_another_network_are_refused(change: Callable[[FilterStates], FilterStates], message: str) -> None:
    net, x = gated("torchvision/narrow")
    with pytest.raises(RouteError, match=message):
        tp.narrow(net, change(counted(net, x)), FILTERS)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (None, "has other sites .* give the method, or methods"),
        (tp.GatedFilters(sites=("layer1.0.conv1",)), "has other sites"),
        ("GatedFilters", "method='GatedFilters': give the method"),
    ],
)
def test_another_method_is_refused(method: Any, message: str) -> None:
    net, x = gated("torchvision/narrow")
    with pytest.raises(RouteError, match=message):
        tp.narrow(net, counted(net, x), method)


def test_what_cannot_be_narrowed_is_refused() -> None:
    original, x = toy("torchvision/narrow")
    net = tp.route(original, tp.GatedBlocks(), example=x)
    empty = FilterStates({}, {})
    with pytest.raises(RouteError, match="has no site of filters"):
        tp.narrow(net, empty, tp.GatedBlocks())
    toys = tp.route(toy("torchvision/narrow")[0], ToyFilters(), example=x)
    opened = {name: torch.tensor([0, *[2] * (len(site.units) - 1)]) for name, site in toys.sites.items()}
    states = FilterStates(opened, dict.fromkeys(opened, 4))
    with pytest.raises(RouteError, match="its FilterGate cannot be narrowed, only the gates of GatedFilters can"):
        tp.narrow(toys, states, ToyFilters())


def test_a_gate_of_a_block_that_looks_at_filters_is_refused_instead_of_deciding_otherwise() -> None:
    """The stem's filters go on into a block with a projection, whose gate looks at them as they are."""
    method = [tp.GatedFilters(sites=("stem.0",)), tp.GatedBlocks()]
    original, _ = toy("torchvision/narrow")
    original.layer1 = nn.Sequential(original.get_submodule("layer2.0"))
    original.layer2 = nn.Sequential()
    net, x = gated(original, method)
    states = counted(net, x)
    assert int(states.silent["stem.0"].sum())
    with pytest.raises(RouteError, match=r"site 'layer1.0': its decider Gate\(.* looks at channels"):
        tp.narrow(net, states, method)


def test_what_is_left_is_checked() -> None:
    for units, kept in (((), ()), ((1, 0), ()), ((0, 4), ()), ((0,), (1,)), ((True,), ())):
        with pytest.raises(DataError, match=r"units|gated"):
            Left(4, units, kept)
    with pytest.raises(DataError, match="2 filters are left, not 3"):
        Left(4, (0, 1), ()).then(Left(3, (0,), ()))
    assert Left(5, (1, 2, 4), (2, 4)).then(Left(3, (0, 2), (0, 2))) == Left(5, (1, 4), (4,))
