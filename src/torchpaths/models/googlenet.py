"""GoogLeNet for CIFAR, which network decoupling reports on: 6.17 M parameters and 1.52 G MACs in its Table 1.

Of torchpaths, and complete in itself: a copy of this file goes with networks that are cut out.

The nine inceptions are those of Szegedy et al., "Going Deeper with Convolutions" (2015), Table 1, with the changes of
Ioffe and Szegedy, "Batch Normalization" (2015), section 4.2: batch normalisation behind each convolution, and two 3x3
convolutions in the place of each 5x5. For images of 32 x 32 the stem is one 3x3 convolution to as many channels as the
original's stem ends with, and the resolution is halved twice, in front of (4a) and of (5a). There are no auxiliary
classifiers and no dropout. The paper says no more of its network than the two numbers, and 6.26 M parameters for 100
classes: this one has 6,166,250 and 6,258,500, and 1,521.8 M MACs. timm and torchvision have only the ImageNet form.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor, nn

Widths: TypeAlias = tuple[int, int, int, int, int, int]
"""Channels in an inception, in the columns of the original's Table 1: 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool."""

Stages: TypeAlias = tuple[tuple[Widths, ...], tuple[Widths, ...], tuple[Widths, ...]]

STEM = 192
"""Channels of the first convolution."""

TABLE_1: Stages = (
    (
        (64, 96, 128, 16, 32, 32),
        (128, 128, 192, 32, 96, 64),
    ),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    (
        (256, 160, 320, 32, 128, 128),
        (384, 192, 384, 48, 128, 128),
    ),
)
"""The inceptions (3a) and (3b), (4a) to (4e), (5a) and (5b)."""


class Inception(nn.Module):
    """Four branches from one input, their outputs side by side: 1x1; 1x1 and 3x3; 1x1 and two 3x3; max-pooling and 1x1.

    Args:
        inputs: channels of the input.
        widths: of the branches' convolutions; both 3x3 convolutions of the third branch have the 5x5's.

    Attributes:
        outputs: channels of the output.
    """

    def __init__(self, inputs: int, widths: Widths) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = widths
        self.branch1 = nn.Sequential(*_layers(inputs, one, 1))
        self.branch2 = nn.Sequential(*_layers(inputs, reduce3, 1), *_layers(reduce3, three, 3))
        self.branch3 = nn.Sequential(*_layers(inputs, reduce5, 1), *_layers(reduce5, five, 3), *_layers(five, five, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), *_layers(inputs, pool, 1))
        self.outputs = one + three + five + pool

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, H, W]`` -> ``[B, outputs, H, W]``."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class CifarGoogLeNet(nn.Module):
    """Modules are named after Table 1: conv1 bn1 inception3 inception4 inception5 fc. He initialisation."""

    def __init__(self, stem: int, stages: Stages, classes: int, channels: int) -> None:
        """
        Args:
            stem: channels of the first convolution; `STEM` in the paper.
            stages: the inceptions at full, half and a quarter of the resolution; `TABLE_1` in the paper.
            classes: width of the last layer.
            channels: of the images; 3 for RGB, 1 for grey.
        """
        super().__init__()
        self.conv1, self.bn1, self.relu = _layers(channels, stem, 3)
        self.inception3, outputs = _stage(stem, stages[0])
        self.maxpool3 = nn.MaxPool2d(3, 2, padding=1)
        self.inception4, outputs = _stage(outputs, stages[1])
        self.maxpool4 = nn.MaxPool2d(3, 2, padding=1)
        self.inception5, outputs = _stage(outputs, stages[2])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(outputs, classes)
        # He et al., "Delving Deep into Rectifiers" (2015), eq. 10; batch normalisation starts as the identity already.
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, channels, H, W]`` -> logits ``[B, classes]``. Any size; 32 x 32 in the paper."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.maxpool3(self.inception3(x))
        x = self.maxpool4(self.inception4(x))
        logits: Tensor = self.fc(self.flatten(self.avgpool(self.inception5(x))))
        return logits


def _layers(inputs: int, outputs: int, size: int) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
    # The norm takes each convolution's bias away again; without them there would be 6.16 M parameters, not the paper's.
    return nn.Conv2d(inputs, outputs, size, padding=size // 2), nn.BatchNorm2d(outputs), nn.ReLU()


def _stage(inputs: int, widths: tuple[Widths, ...]) -> tuple[nn.Sequential, int]:
    """Inceptions one after the other, and the channels that the last one gives."""
    made = []
    for each in widths:
        made.append(Inception(inputs, each))
        inputs = made[-1].outputs
    return nn.Sequential(*made), inputs
