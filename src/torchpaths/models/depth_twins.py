"""Networks that adaptive depth is compared with, of torchvision's own classes: the base-nets as networks of their own
("-Base" in the paper's Table 1), and Swin-T with the authors' stochastic depth, which torchvision's function does not
let one choose."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import nn

from torchpaths.errors import RunError


def _rgb(name: str, channels: int) -> None:
    if channels != 3:
        raise RunError(f"{name} takes RGB images, not {channels} channel(s); read them with channels=3.")


def resnet50_base(classes: int = 1000, channels: int = 3) -> nn.Module:
    """ResNet-50 without the blocks that can be left out: 2, 2, 3 and 2 blocks."""
    from torchvision.models.resnet import Bottleneck, ResNet

    _rgb("resnet50_base", channels)
    net: nn.Module = ResNet(Bottleneck, [2, 2, 3, 2], num_classes=classes)
    return net


def mobilenet_v2_base(classes: int = 1000, channels: int = 3) -> nn.Module:
    """MobileNetV2 without the blocks that can be left out."""
    from torchvision.models import MobileNetV2

    _rgb("mobilenet_v2_base", channels)
    # Expansion, channels, blocks and stride of each stage: 1, 2, 3, 4, 3, 3 and 1 blocks in the whole network.
    stages = [[1, 16, 1, 1], [6, 24, 1, 2], [6, 32, 2, 2], [6, 64, 2, 2], [6, 96, 2, 1], [6, 160, 2, 2], [6, 320, 1, 1]]
    net: nn.Module = MobileNetV2(num_classes=classes, inverted_residual_setting=stages)
    return net


def vit_b_base(patch: int, classes: int = 1000, channels: int = 3) -> nn.Module:
    """ViT-b of 8 in place of 12 blocks."""
    from torchvision.models import VisionTransformer

    _rgb(f"vit_b_{patch}_base", channels)
    net: nn.Module = VisionTransformer(
        image_size=224,
        patch_size=patch,
        num_layers=8,
        num_heads=12,
        hidden_dim=768,
        mlp_dim=3072,
        num_classes=classes,
    )
    return net


def swin_t(depths: tuple[int, ...] = (2, 2, 6, 2), classes: int = 1000, channels: int = 3) -> nn.Module:
    """Swin-T with stochastic depth 0.1."""
    from torchvision.models import SwinTransformer

    _rgb("swin_t", channels)
    net: nn.Module = SwinTransformer(
        patch_size=[4, 4],
        embed_dim=96,
        depths=list(depths),
        num_heads=[3, 6, 12, 24],
        window_size=[7, 7],
        stochastic_depth_prob=0.1,
        num_classes=classes,
    )
    return net


TWINS: dict[str, Callable[..., nn.Module]] = {
    "resnet50_base": resnet50_base,
    "mobilenet_v2_base": mobilenet_v2_base,
    "vit_b_16_base": functools.partial(vit_b_base, 16),
    "vit_b_32_base": functools.partial(vit_b_base, 32),
    "swin_t": swin_t,
    "swin_t_base": functools.partial(swin_t, (1, 1, 3, 1)),
}
