"""ResNeXt for CIFAR and ImageNet as in Table 1 of Avranas and Kountouris, "Towards Disentangling Information Paths with
Coded ResNeXt" (2022): plain networks, which `torchpaths.CodedPaths` turns into coded ones.

Of torchpaths, and complete in itself: a copy of this file goes with networks that are cut out.

A block is the aggregated bottleneck of Xie et al., "Aggregated Residual Transformations for Deep Neural Networks"
(2017), Fig. 3c: 1x1 convolution to N x d channels, 3x3 in N groups with the stride, 1x1 to C channels, each with batch
normalisation. torchvision has its ImageNet form, with four stages and a bias in the last layer; the paper has three on
CIFAR, and the authors' code no bias anywhere. Modules are named as in torchvision. As in that code convolutions start
He-normal by their outputs, and the last norm of each block at zero: a block starts as its shortcut. There the last
convolution of a coded block is grouped, so its weights start smaller by the root of N; the energy normalisation hides
that from the forward pass, but SGD turns such weights N times faster at the start.
"""

from __future__ import annotations

from torch import Tensor, nn


class Bottleneck(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolutions around a shortcut; ReLU after the first two and after the sum.

    Args:
        inputs: channels of the input.
        width: channels in between, of all groups together.
        outputs: channels of the output.
        groups: branches N.
        stride: of the 3x3 convolution and the shortcut.
    """

    def __init__(self, inputs: int, width: int, outputs: int, groups: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, H, W]`` -> ``[B, outputs, H / stride, W / stride]``."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        y: Tensor = self.relu(out + self.downsample(x))
        return y


class ResNeXt(nn.Module):
    """Modules are named as in torchvision: conv1 bn1 layer1 layer2 ... fc."""

    def __init__(
        self,
        blocks: tuple[int, ...],
        groups: int,
        width: int,
        stem: int,
        outputs: int,
        large: bool,
        classes: int,
        channels: int,
    ) -> None:
        """
        Args:
            blocks: of each stage; from the second on the first of them halves the resolution.
            groups: branches N of every block.
            width: channels d of a branch in the first stage; twice as many in each further one.
            stem: channels of the first convolution.
            outputs: channels of the first stage; twice as many in each further one.
            large: a 7x7 convolution with stride 2 and max-pooling before the first stage, for ImageNet's images;
                otherwise 3x3 with stride 1.
            classes: width of the last layer, which has no bias.
            channels: of the images; 3 for RGB, 1 for grey.
        """
        super().__init__()
        size, stride = (7, 2) if large else (3, 1)
        self.conv1 = nn.Conv2d(channels, stem, size, stride, padding=size // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1) if large else nn.Identity()
        self.stages = [f"layer{i + 1}" for i in range(len(blocks))]
        inputs = stem
        for i, (name, count) in enumerate(zip(self.stages, blocks, strict=True)):
            middle, out = groups * width << i, outputs << i
            made = [
                Bottleneck(out if b else inputs, middle, out, groups, 2 if i and not b else 1) for b in range(count)
            ]
            self.add_module(name, nn.Sequential(*made))
            inputs = out
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(inputs, classes, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, Bottleneck):
                nn.init.zeros_(module.bn3.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, channels, H, W]`` -> logits ``[B, classes]``; 32 x 32 in the paper on CIFAR, 160 on ImageNet."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.fc(self.flatten(self.avgpool(x)))
        return logits
