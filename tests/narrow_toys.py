"""Networks whose gates leave some filters always shut and some always open, for the tests of narrowing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import torchpaths as tp
from torchpaths import deciders
from torchpaths.filtering import FilterStates, filter_states
from torchpaths.methods.base import Method
from toys import made, toy

FILTERS = tp.GatedFilters()
INNER = tp.GatedFilters(sites=(r"layer\d.\d.conv\d",))
"""Inside blocks alone, so that shortcuts run whatever gates of blocks say."""


class Chain(nn.Module):
    """Convolutions, with norms and without, flattened into linear layers, as VGG."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()),
            *(nn.Conv2d(12, 10, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        )
        self.classifier = nn.Sequential(nn.Linear(90, 20), nn.ReLU(), nn.Linear(20, 5))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return y


class Grouped(nn.Module):
    """Two groups of channels between convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.reduce = nn.Conv2d(4, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, groups=2)
        self.mix = nn.Conv2d(8, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.mix(self.grouped(self.reduce(self.stem(x)))).mean((2, 3)))
        return y


def tilt(net: tp.Routed, seed: int = 0, slope: float = 0.3) -> None:
    """Gates of which each opens some filters for every image, some for none and some for part of them."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for gate in net.deciders.modules():
            if isinstance(gate, deciders.FilterGate):
                count = gate.fc2.out_features
                gate.fc2.weight.normal_(0, slope, generator=draw)
                gate.fc2.bias.copy_(torch.linspace(-1.2, 1.2, count)[torch.randperm(count, generator=draw)])
            if isinstance(gate, tp.Gate):
                gate.fc2.weight.normal_(0, 2, generator=draw)
                gate.fc2.bias.zero_()


def gated(
    model: nn.Module | str,
    method: Method | Sequence[Method] = FILTERS,
    images: int = 24,
    slope: float = 0.3,
    side: int = 12,
) -> tuple[tp.Routed, Tensor]:
    """A routed network, tilted, in double precision, in evaluation; and images for it."""
    if isinstance(model, str):
        model, x = toy(model)
        shape = x.shape[1:]
    else:
        shape = torch.Size((3, side, side))
    draw = torch.Generator().manual_seed(7)
    x = torch.randn(images, *shape, generator=draw, dtype=torch.float64)
    net = tp.route(model.double(), method, example=x[:2]).eval()
    tilt(net, slope=slope)
    return net, x


def chain() -> nn.Module:
    """`Chain` with weights by chance."""
    return made(Chain, 12)[0]


def counted(net: tp.Routed, x: Tensor) -> FilterStates:
    """How often each filter opens for images, in batches."""
    return filter_states(net, [(part, torch.zeros(len(part), dtype=torch.long)) for part in torch.split(x, 10)])


def narrowed(
    model: nn.Module | str, method: Method | Sequence[Method] = FILTERS, images: int = 24, slope: float = 0.3
) -> tuple[tp.Routed, tp.Routed, FilterStates, Tensor]:
    """A network, the same narrowed, the states of its filters, and the images they were counted on."""
    net, x = gated(model, method, images, slope)
    states = counted(net, x)
    return net, tp.narrow(net, states, method), states, x
