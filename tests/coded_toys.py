"""Tiny networks with branches, methods that code them, and the paper's own form of what they compute."""

from __future__ import annotations

import copy
from collections.abc import Callable

import timm.models.resnet
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import MobileNetV2
from torchvision.models.resnet import Bottleneck, ResNet

import torchpaths as tp
from torchpaths.models import ResNeXt

CLASSES = 5
PAIRS = ("1100", "1010", "1001", "0110", "0101")
"""Codewords of four branches, two for each class."""

CODED = tp.CodedPaths(classes=CLASSES, schemes=((), PAIRS))
GROUPED = tp.CodedPaths(classes=CLASSES, schemes=((), PAIRS), branches=4)


def _efficient() -> nn.Module:
    stages = [["ds_r1_k3_s1_e1_c8_se0.25"], ["ir_r2_k3_s2_e2_c8_se0.25"], ["ir_r2_k3_s2_e2_c16_se0.25"]]
    blocks = decode_arch_def(stages)  # type: ignore[no-untyped-call]
    return EfficientNet(blocks, num_classes=CLASSES, num_features=16, stem_size=8)


WITH_BRANCHES: dict[str, tuple[Callable[[], nn.Module], int, tp.CodedPaths]] = {
    "own/resnext": (lambda: ResNeXt((1, 2), 4, 2, 8, 16, False, CLASSES, 3), 12, CODED),
    "torchvision/resnext": (
        lambda: ResNet(Bottleneck, [1, 1, 1, 1], num_classes=CLASSES, groups=4, width_per_group=2),
        32,
        tp.CodedPaths(classes=CLASSES, schemes=((), PAIRS, (), PAIRS)),
    ),
    "timm/seresnext": (
        lambda: timm.models.resnet.ResNet(
            timm.models.resnet.Bottleneck,  # type: ignore[arg-type]
            (1, 1, 1, 1),
            num_classes=CLASSES,
            cardinality=4,
            base_width=16,
            channels=(8, 8, 8, 8),
            block_args={"attn_layer": "se"},
        ),
        32,
        tp.CodedPaths(classes=CLASSES, schemes=((), (), PAIRS, PAIRS)),
    ),
    "torchvision/mobilenet": (
        lambda: MobileNetV2(CLASSES, 0.25, [[1, 16, 1, 1], [2, 32, 2, 2], [2, 32, 2, 2]]),
        32,
        GROUPED,
    ),
    "timm/efficientnet": (_efficient, 32, GROUPED),
}
"""Name -> (makes the network, side of its images, how it is coded)."""


def reference(model: nn.Module, method: tp.Method, x: Tensor) -> nn.Module:
    """The network as a method computes it with everything open, in the plainest form."""
    made = copy.deepcopy(model)
    for plan in method.find(made, x):
        if plan.reference is not None:
            made.set_submodule(plan.module, plan.reference(made.get_submodule(plan.module)))
    return made
