"""torchvision's Faster R-CNN and Mask R-CNN with FPN on ResNet-50, cut down for small images and one core.

The backbone is the whole ResNet-50, with BatchNorm. Pyramid and heads are half and a quarter as wide as torchvision's,
anchors are for images of about a hundred pixels, and fewer of them and of the proposals are looked at, since an image
holds one object or a few.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

from torchpaths import AdaptiveDepth, Routed, route
from torchpaths.detection import Recipe

Name: TypeAlias = Literal["adaptive", "plain"]
METHODS: dict[Name, AdaptiveDepth | None] = {"adaptive": AdaptiveDepth(), "plain": None}
"""Network -> how it is trained."""

PYRAMID = 128
HEAD = 256
SIZES = ((12, 16), (24, 32), (48, 64), (80, 96), (112, 128))
"""Of anchors, in pixels, for each level of the pyramid."""


def small_detector(classes: int, sides: tuple[int, int], *, masks: bool) -> nn.Module:
    """A detector with random weights.

    Args:
        classes: with the background.
        sides: shorter side to which images are brought, and most of the longer one, in pixels.
        masks: whether it is a Mask R-CNN.
    """
    stages = {f"layer{i + 1}": str(i) for i in range(4)}
    backbone = BackboneWithFPN(resnet50(weights=None), stages, [256, 512, 1024, 2048], PYRAMID)
    settings: dict[str, Any] = {
        "min_size": sides[0],
        "max_size": sides[1],
        "rpn_anchor_generator": AnchorGenerator(SIZES, ((0.5, 1.0, 2.0),) * 5),
        "rpn_fg_iou_thresh": 0.5,  # few anchors fit an object better than that where the grid has a dozen cells
        "rpn_batch_size_per_image": 64,
        "rpn_pre_nms_top_n_train": 300,
        "rpn_post_nms_top_n_train": 150,
        "rpn_pre_nms_top_n_test": 150,
        "rpn_post_nms_top_n_test": 75,
        "box_head": TwoMLPHead(PYRAMID * 7 * 7, HEAD),
        "box_predictor": FastRCNNPredictor(HEAD, classes),
        "box_batch_size_per_image": 32,
        "box_detections_per_img": 20,
    }
    model: nn.Module
    if not masks:
        model = FasterRCNN(backbone, **settings)
        return model
    model = MaskRCNN(
        backbone,
        mask_head=MaskRCNNHeads(PYRAMID, (PYRAMID,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(PYRAMID, PYRAMID, classes),
        **settings,
    )
    return model


def small_recipe(name: Name, epochs: int, eval_every: int) -> Recipe:
    """The recipe that both networks of a record share."""
    return Recipe(
        METHODS[name],
        epochs=epochs,
        batch=4,
        lr=0.01,
        weight_decay=1e-4,
        schedule="cosine",
        warmup=1,
        eval_every=eval_every,
        checkpoint_minutes=5,
        device="cpu",
    )


def routed(recipe: Recipe, classes: int, sides: tuple[int, int], *, masks: bool) -> Routed:
    """A small detector before training, routed as its recipe says; further arguments as `small_detector`."""
    torch.manual_seed(recipe.seed)
    model = small_detector(classes, sides, masks=masks)
    return route(model, recipe.method, example=[torch.rand(3, *sides)] * 2)
