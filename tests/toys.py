"""Tiny networks of timm, torchvision and our own, on which the laws are tested."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import timm
import timm.models.resnet
import torch
from timm.models.convnext import ConvNeXt as TimmConvNeXt
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from torchpaths.models import cifar_resnet


def _timm(name: str) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=5)


TOYS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "timm/test_resnet": (_timm("test_resnet"), 32),
    "timm/convnext": (lambda: TimmConvNeXt(num_classes=5, depths=(1, 1, 1, 1), dims=(4, 8, 8, 8)), 32),
    "timm/swin": (
        lambda: SwinTransformer(32, 2, 3, 5, embed_dim=16, depths=(2, 1), num_heads=(2, 2), window_size=4),
        32,
    ),
    "torchvision/mobilenet": (lambda: MobileNetV2(5, 0.25, [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 2, 2]]), 32),
    "torchvision/resnet": (lambda: ResNet(BasicBlock, [1, 2, 1, 1], num_classes=5), 32),
    "torchvision/vit": (
        lambda: VisionTransformer(32, 8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5),
        32,
    ),
    "torchvision/convnext": (
        lambda: ConvNeXt([CNBlockConfig(8, 16, 2), CNBlockConfig(16, None, 2)], num_classes=5),
        32,
    ),
    "own/cifar_resnet20": (lambda: cifar_resnet(20, classes=5), 32),
}
"""Name -> (makes the network, side of its images)."""


class Narrow(nn.Module):
    """Two stages of two blocks each, of 8 channels and of 16: as small as a network of all methods can be."""

    def __init__(self, block: Callable[..., nn.Module], expansion: int) -> None:
        """
        Args:
            block: a residual block of torchvision or timm, ``(inputs, planes, stride, downsample)``.
            expansion: of its planes.
        """
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.layer1 = nn.Sequential(*(block(8, 8 // expansion) for _ in range(2)))
        down = nn.Sequential(nn.Conv2d(8, 16, 1, 2, bias=False), nn.BatchNorm2d(16))
        planes = 16 // expansion
        self.layer2 = nn.Sequential(block(8, planes, stride=2, downsample=down), block(16, planes))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))
        return y


NARROW: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "torchvision/narrow": (lambda: Narrow(BasicBlock, 1), 12),
    "torchvision/narrow bottlenecks": (lambda: Narrow(partial(Bottleneck, base_width=128), 4), 12),
    "timm/narrow": (lambda: Narrow(timm.models.resnet.BasicBlock, 1), 12),
}
"""Networks whose blocks have channels that the toy methods close, as `TOYS`."""


def toy(name: str, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """A network with weights that are not the initial ones' special cases, and a batch of 4 for it."""
    return made(*{**TOYS, **NARROW}[name], seed)


def made(make: Callable[[], nn.Module], side: int, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """The same for any network: what makes it, and the side of its images."""
    torch.manual_seed(seed)
    model = make()
    for parameter in model.parameters():  # zero-initialised norms and layer scales would hide a wrong branch
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        if buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    return model.eval(), torch.randn(4, 3, side, side)
