"""The CIFAR residual networks of He et al., "Deep Residual Learning for Image Recognition" (2015), section 4.2.

Of torchpaths, and complete in itself: a copy of this file goes with networks that are cut out.

Depth 6n + 2: a 3x3 convolution, three stages of n basic blocks (16, 32, 64 channels; stride 1, 2, 2), global average
pooling, one linear layer. timm and torchvision have only the ImageNet form, and both ConvNet-AIG and network decoupling
report on this one.

Two shortcuts where the shape changes: A takes every second pixel and pads with zero channels, without parameters (He et
al.'s choice on CIFAR); B projects with a 1x1 convolution and batch normalisation (ConvNet-AIG's). Every shortcut is a
child module, so a block's forward reads ``relu(branch(x) + shortcut(x))`` and can be split at its sum.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from torch import Tensor, nn
from torch.nn import functional

Shortcut: TypeAlias = Literal["A", "B"]


class PadShortcut(nn.Module):
    """Shortcut A: every ``stride``-th pixel, zero channels added equally before and after.

    Args:
        pad: zero channels on each side.
        stride: subsampling in both directions.
    """

    def __init__(self, pad: int, stride: int) -> None:
        super().__init__()
        self.pad = pad
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` -> ``[B, C + 2 pad, ceil(H / stride), ceil(W / stride)]``."""
        return functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.pad, self.pad))

    def extra_repr(self) -> str:
        return f"pad={self.pad}, stride={self.stride}"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each with batch normalisation, around a shortcut; ReLU after the first and after the sum.

    Args:
        inputs: channels of the input.
        outputs: channels of the output.
        stride: of the first convolution and the shortcut.
        shortcut: "A" or "B" where the shape changes; the identity elsewhere.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module
        if stride == 1 and inputs == outputs:
            self.shortcut = nn.Identity()
        elif shortcut == "A":
            self.shortcut = PadShortcut((outputs - inputs) // 2, stride)
        else:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        # Not in place: where the branch is left out, the sum is the block's own input.
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, H, W]`` -> ``[B, outputs, H / stride, W / stride]``."""
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out = out + self.shortcut(x)
        y: Tensor = self.relu2(out)
        return y


class CifarResNet(nn.Module):
    """Modules are named as in the published weights: conv1 bn1 layer1 layer2 layer3 linear. He initialisation."""

    def __init__(self, blocks: tuple[int, int, int], shortcut: Shortcut, classes: int, channels: int) -> None:
        """
        Args:
            blocks: of each stage; (n, n, n) in the paper.
            shortcut: "A" without parameters, "B" a projection, where the shape changes.
            classes: width of the last layer.
            channels: of the images; 3 for RGB, 1 for grey.
        """
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.layer1 = _stage(16, 16, 1, blocks[0], shortcut)
        self.layer2 = _stage(16, 32, 2, blocks[1], shortcut)
        self.layer3 = _stage(32, 64, 2, blocks[2], shortcut)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(64, classes)
        # He et al., "Delving Deep into Rectifiers" (2015), eq. 10; batch normalisation starts as the identity already.
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, channels, H, W]`` -> logits ``[B, classes]``. Any size from 4 x 4; 32 x 32 in the paper."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(self.flatten(self.pool(x)))
        return logits


def _stage(inputs: int, outputs: int, stride: int, blocks: int, shortcut: Shortcut) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1, shortcut) for _ in range(blocks - 1)))
