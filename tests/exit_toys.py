"""Networks of coded paths whose blocks tell different classes, more or less sure of themselves."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

import torchpaths as tp
from torchpaths.methods.base import Method
from torchpaths.models.resnext import ResNeXt
from torchpaths.skips.network import Skipping
from torchpaths.surveys.exits import exit_curve

NEVER = tp.Exit(1, 2.0)
SOME = tp.Exit(2, 0.1)
FIRST = tp.Exit(1, 0.0)


class Toy(ResNeXt):
    """Five blocks, of which the last four are coded; ten classes."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__((1, 2, 2), 10, 2, 8, 16, False, 10, channels)


def coded(model: nn.Module | None = None, more: tuple[Method, ...] = ()) -> tuple[tp.Routed, Tensor]:
    """A network whose blocks tell different classes, more or less sure of themselves, and 12 images."""
    torch.manual_seed(0)
    model = Toy() if model is None else model
    for name, parameter in model.named_parameters():
        if "bn" in name and name.endswith("weight"):  # blocks start as their shortcuts, their norms at zero
            nn.init.uniform_(parameter, 0.3, 2.0)
        elif "bn" in name:
            nn.init.normal_(parameter)
    x = images(12)
    net = tp.route(model.eval(), [tp.CodedPaths(classes=10), *more], example=x).eval()
    for decider in net.deciders.values():
        if isinstance(decider, tp.Gate):
            nn.init.normal_(decider.fc2.weight, std=8.0)
    return net, x


def images(count: int, seed: int = 0) -> Tensor:
    """Blotches that differ in size, contrast and tint."""
    draw = torch.Generator().manual_seed(seed)
    sides = [(1 + i % 5 * 2, 1 + i % 4 * 2, 0.5 + i % 3) for i in range(count)]
    blotches = [functional.interpolate(torch.randn(1, 3, h, w, generator=draw) * c, size=(16, 16)) for h, w, c in sides]
    return torch.cat(blotches) + 2 * torch.randn(count, 3, 1, 1, generator=draw)


def stops_at_each(net: tp.Routed, x: Tensor) -> tuple[Skipping, Tensor]:
    """A threshold at which images stop at several blocks, and some at none."""
    curve = exit_curve(net, [(x, torch.zeros(len(x), dtype=torch.long))], agree=1)
    spread = [i for i, row in enumerate(curve.shares) if (row > 0).sum() >= 3 and row[-1] > 0]
    assert spread
    fast = tp.skipping(net, exit=tp.Exit(1, float(curve.thresholds[spread[-1]])))
    return fast, curve.shares[spread[-1]]
