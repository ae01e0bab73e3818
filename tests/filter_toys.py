"""Small networks with filters that open by rules one can follow, for the tests of their analyses."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.models import BasicBlock


class Chain(nn.Module):
    """Images of four channels that say what happens. ``first`` hands them on, ``second`` gives six filters."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, 4, 1, bias=False)
        self.second = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.third = nn.Conv2d(6, 5, 1)
        self.fc = nn.Linear(5, classes)
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(4)[..., None, None])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.third(self.second(self.first(x))).mean((2, 3)))
        return y


def follow(net: tp.Routed, site: str, rule: Tensor, threshold: float = 0.5) -> None:
    """Let a site's filter n open where ``rule[n] @ channel means`` is above a threshold.

    Args:
        net: a routed network whose layer's input is not negative.
        site: the layer.
        rule: ``[unit, channel]``.
        threshold: see above.
    """
    gate: Any = net.deciders[site.replace(".", "/")]
    units, channels = rule.shape
    # The squeezed layer is as wide as its input here, so it hands on what it gets.
    gate.fc1 = nn.Linear(channels, channels)
    gate.fc2 = nn.Linear(channels, units)
    with torch.no_grad():
        gate.fc1.weight.copy_(torch.eye(channels))
        gate.fc1.bias.zero_()
        gate.fc2.weight.copy_(rule)
        gate.fc2.bias.fill_(-threshold)


RULE = torch.tensor(
    [[9.0, 9, 9, 9], [0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 1, 0]]
)  # fmt: skip
"""Of `chain`'s second layer: filter 0 opens for all images with anything in them, 1 for none, 2 to 4 for one channel
each, 5 for two of them."""


def chain() -> tp.Routed:
    """`Chain` whose second layer follows `RULE`."""
    torch.manual_seed(0)
    net = tp.route(Chain(), tp.GatedFilters(sites=("second",)), example=torch.rand(2, 4, 6, 6)).eval()
    follow(net, "second", RULE)
    return net


def said(*channels: tuple[int, ...], side: int = 6) -> Tensor:
    """Images in which these channels are 1 and others 0, but for the last, which is always 1."""
    x = torch.zeros(len(channels), 4, side, side)
    x[:, 3] = 1
    for image, ones in zip(x, channels, strict=True):
        image[list(ones)] = 1
    return x


def images() -> tuple[Tensor, Tensor]:
    """Seven images of three classes: class 0 has channel 0, class 1 channel 1, class 2 channel 2 or nothing."""
    x = said((0,), (0,), (1,), (0, 1), (2,), (), (2,))
    return x, torch.tensor([0, 0, 1, 1, 2, 2, 2])


OPEN = torch.tensor(
    [
        [1, 0, 1, 0, 0, 0],
        [1, 0, 1, 0, 0, 0],
        [1, 0, 0, 1, 0, 1],
        [1, 0, 1, 1, 0, 1],
        [1, 0, 0, 0, 1, 1],
        [1, 0, 0, 0, 0, 0],
        [1, 0, 0, 0, 1, 1],
    ],
    dtype=torch.bool,
)
"""What `images` open in `chain`, by hand."""


class Blocks(nn.Module):
    """Two residual blocks behind a stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.block1 = BasicBlock(8, 8, 1, "A")
        self.block2 = BasicBlock(8, 16, 2, "B")
        self.fc = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(self.block2(self.block1(self.stem(x))).mean((2, 3)))
        return y


def blocks(method: tp.Method | list[tp.Method] | None = None, seed: int = 0) -> tp.Routed:
    """`Blocks` with gates that differ from image to image."""
    torch.manual_seed(seed)
    net = tp.route(Blocks(), method or tp.GatedFilters(), example=torch.randn(2, 3, 12, 12)).eval()
    gates: dict[str, Any] = dict(net.deciders.items())
    for gate in gates.values():
        nn.init.normal_(gate.fc2.weight, std=3.0)
        nn.init.normal_(gate.fc2.bias, std=0.5)
    for name in ("block1", "block2") if "block1" in net.sites else ():
        scores = net(noise(64)[0])[1][name].score  # half of the images shall pass
        assert scores is not None
        with torch.no_grad():
            gates[name].fc2.bias[1] -= scores.median()
    return net


def noise(count: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Images whose brightness goes with the class, and labels of four classes."""
    made = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % 4
    return torch.randn(count, 3, 12, 12, generator=made) + y.view(-1, 1, 1, 1), y


def cut(x: Tensor, y: Tensor, *sizes: int) -> list[tuple[Tensor, Tensor]]:
    """In batches of these sizes."""
    return list(zip(torch.split(x, list(sizes)), torch.split(y, list(sizes)), strict=True))
