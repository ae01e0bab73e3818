"""Small blocks of every kind the search for residual sums must tell apart, and networks to put them into."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 4


class Basic(nn.Module):
    """``relu(shortcut(x) + bn(conv(x)))``, the last ReLU in place unless told otherwise."""

    def __init__(self, width: int = WIDTH, inplace: bool = True, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.bn = nn.BatchNorm2d(width)
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.relu(self.shortcut(x) + self.bn(self.conv(x)))
        return y


class PreActivation(nn.Module):
    """``s + conv(s)`` with ``s = relu(bn(x))``: something precedes both operands, nothing follows the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(WIDTH)
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        s = functional.relu(self.bn(x))
        y: Tensor = s + self.conv(s)
        return y


class Bare(nn.Module):
    """``x + conv(x)``: nothing precedes and nothing follows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.conv(x)
        return y


class Plain(nn.Module):
    """No sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x))


class Chain(nn.Module):
    """A convolution, named blocks one after the other, pooling and a linear layer."""

    block: nn.Module
    block1: nn.Module
    block2: nn.Module

    def __init__(self, **blocks: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.order = tuple(blocks)
        for name, block in blocks.items():
            self.add_module(name, block)
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for name in self.order:
            x = getattr(self, name)(x)
        y: Tensor = self.head(x.mean((2, 3)))
        return y


def chain(seed: int = 0, **blocks: nn.Module) -> tuple[Chain, Tensor]:
    """A chain in evaluation mode with statistics that are not the initial ones, and a batch of 4."""
    torch.manual_seed(seed)
    model = Chain(**(blocks or {"block1": Basic(), "block2": Basic()}))
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        if name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model.eval(), torch.randn(4, 3, 8, 8)
