"""Small stand-ins for the tests of training: a residual network without batch statistics and a method without noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.methods.base import Losses, Mean, Method, Task, Terms
from torchpaths.methods.blocks import plan_blocks
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.routed import Routed
from torchpaths.routing import route
from torchpaths.trace import Decider, Decision, Inputs, Trace
from torchpaths.train.recipe import Recipe

PROBABILITIES = "probabilities"
"""Where `Level` keeps what it needs of the output: terms see a trace only."""


class ToyBlock(nn.Module):
    """``relu(x + conv(x))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.conv(x) + x)
        return out


class ToyNet(nn.Module):
    """Two residual blocks, no batch normalisation: samples do not touch each other."""

    def __init__(self, channels: int = 1, classes: int = 3, width: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.block1 = ToyBlock(width)
        self.block2 = ToyBlock(width)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.flatten(self.pool(self.block2(self.block1(self.stem(x))))))
        return out


@dataclass(frozen=True)
class Level(Method):
    """Pulls the batch's mean class probabilities to a level: a loss without noise that is no mean over samples."""

    target: float = 0.25
    weight: float = 3.0

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        return plan_blocks(model, example, residuals, lambda names, widths: [None] * len(names))

    def terms(self, net: Routed, trace: Trace, y: Any, mean: Mean, heads: nn.Module | None) -> Losses:
        """Of what the network measured of itself."""
        level = mean("level", trace[PROBABILITIES].z.mean(0))
        return {"level": self.weight * (level - self.target).square().sum()}

    def passes(self, net: Routed, x: Tensor, y: Any, task: Task, terms: Terms) -> Iterator[Losses]:
        logits, trace = net(x)
        probabilities = logits.softmax(1)
        yield {"task": task(logits, y), **terms({**trace, PROBABILITIES: Decision(probabilities > 0.5, probabilities)})}


@dataclass(frozen=True)
class Twice(Level):
    """Two passes, of images and of their negatives, that ask for a mean under one name."""

    def passes(self, net: Routed, x: Tensor, y: Any, task: Task, terms: Terms) -> Iterator[Losses]:
        for sign, of in ((1, ""), (-1, "negative_")):
            logits, trace = net(sign * x)
            measured = logits.softmax(1)
            yield {
                f"{of}task": task(logits, y),
                **terms({**trace, PROBABILITIES: Decision(measured > 0, measured)}, of),
            }


class Soft(Decider):
    """Scales by what it sees, without noise, and leaves everything open."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, 1)

    def forward(self, features: Tensor) -> Decision:
        z = torch.sigmoid(self.linear(features.to(self.linear.weight.dtype)))
        return Decision(torch.ones_like(z, dtype=torch.bool), z)


@dataclass(frozen=True)
class Softly(Method):
    """`Soft` before every residual sum."""

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        return plan_blocks(model, example, residuals, lambda names, widths: [Soft(width) for width in widths])


class SiteHead(nn.Module):
    """Scores of classes from a site's decision; counts how often it was asked."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, classes)
        self.asked: Tensor
        self.register_buffer("asked", torch.zeros((), dtype=torch.long))

    def forward(self, z: Tensor) -> Tensor:
        if self.training:
            self.asked += 1
        scores: Tensor = self.linear(z.to(self.linear.weight.dtype))
        return scores


@dataclass(frozen=True)
class Labelled(Method):
    """Class heads on the decisions of every block, whoever takes them: what the losses alone need. One of its terms is
    no mean over samples."""

    weight: float = 2.0

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        return plan_blocks(model, example, residuals)

    def heads(self, net: Routed, classes: int) -> nn.Module:
        return nn.ModuleDict({site.replace(".", "/"): SiteHead(classes) for site in net.sites})

    def terms(self, net: Routed, trace: Trace, y: Any, mean: Mean, heads: nn.Module | None) -> Losses:
        assert isinstance(heads, nn.ModuleDict)
        scores = torch.stack([heads[site.replace(".", "/")](made.z) for site, made in trace.items()]).sum(0)
        spread = mean("spread", scores.softmax(1).mean(0)).square().sum()
        return {"labels": nn.functional.cross_entropy(scores, y), "spread": self.weight * spread}


@dataclass(frozen=True)
class Burst(Method):
    """A loss that becomes NaN, in the manner of an exploding run, once the weights have moved for ``after`` steps."""

    after: int = 3

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        return plan_blocks(model, example, residuals, lambda names, widths: [None] * len(names))

    def passes(self, net: Routed, x: Tensor, y: Any, task: Task, terms: Terms) -> Iterator[Losses]:
        logits, _ = net(x)
        # Batch normalisation counts the training passes, which makes this a function of the step alone.
        counted = next(b for name, b in net.named_buffers() if name.endswith("num_batches_tracked"))
        factor = torch.where(counted > self.after, torch.nan, 0.0)
        yield {"task": task(logits, y), "burst": factor * logits.square().mean()}


def toy(method: Method | None = None, double: bool = True, seed: int = 0) -> Routed:
    """A routed toy network; double precision unless told otherwise."""
    torch.manual_seed(seed)
    net = route(ToyNet(), method, example=torch.zeros(2, 1, 6, 6))
    return net.double() if double else net


def batch(size: int = 8, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Noise images, float64 ``[size, 1, 6, 6]``, and labels of three classes."""
    made = torch.Generator().manual_seed(seed)
    x = torch.randn(size, 1, 6, 6, generator=made, dtype=torch.float64)
    return x, torch.randint(0, 3, (size,), generator=made)


def tiny(**changes: object) -> Recipe:
    """A run of the smallest kind: ResNet-20 on digits for one epoch in 5 steps."""
    fields = {
        "model": "cifar_resnet20",
        "data": "digits",
        "epochs": 1,
        "batch": 256,
        "lr": 0.05,
        "device": "cpu",
        "checkpoint_minutes": None,
    }
    return Recipe(**{**fields, **changes})  # type: ignore[arg-type]


class NormedBlock(nn.Module):
    """``x + relu(norm(conv(x)))``."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.norm(self.conv(x)).relu()
        return out


def small_net(classes: int, channels: int) -> nn.Module:
    """Four blocks that train in no time, as a model by name has to be made."""
    width = 8
    stem, norm = nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width)
    blocks = [NormedBlock(width) for _ in range(4)]
    return nn.Sequential(stem, norm, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def brief(**changes: Any) -> Recipe:
    """A run of it on digits, once it is known as "small"."""
    return tiny(**{"model": "small", "batch": 720, **changes})
