"""A detector small enough to be trained in a test, and small sets in COCO's layout."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.resnet import BasicBlock
from torchvision.ops import MultiScaleRoIAlign

import torchpaths as tp

SIDE = 64
WIDTH = 16


class Body(nn.Module):
    """Two stages of two residual blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 5, 4, 2), nn.BatchNorm2d(WIDTH), nn.ReLU())
        down = nn.Sequential(nn.Conv2d(WIDTH, 2 * WIDTH, 1, 2), nn.BatchNorm2d(2 * WIDTH))
        self.layer1 = nn.Sequential(BasicBlock(WIDTH, WIDTH), BasicBlock(WIDTH, WIDTH))
        self.layer2 = nn.Sequential(BasicBlock(WIDTH, 2 * WIDTH, 2, down), BasicBlock(2 * WIDTH, 2 * WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer2(self.layer1(self.stem(x)))
        return y


def detector(masks: bool = False, classes: int = 4, seed: int = 0) -> nn.Module:
    """Faster R-CNN or Mask R-CNN with a feature pyramid, for images of 64 x 64."""
    torch.manual_seed(seed)
    backbone = BackboneWithFPN(Body(), {"layer1": "0", "layer2": "1"}, [WIDTH, 2 * WIDTH], WIDTH)
    settings: dict[str, Any] = {
        "min_size": SIDE,
        "max_size": SIDE,
        "rpn_anchor_generator": AnchorGenerator(((12,), (24,), (36,)), ((0.5, 1.0, 2.0),) * 3),
        "box_roi_pool": MultiScaleRoIAlign(["0", "1"], 4, 2),
        "box_head": TwoMLPHead(WIDTH * 16, 32),
        "box_predictor": FastRCNNPredictor(32, classes),
        "rpn_pre_nms_top_n_train": 100,
        "rpn_post_nms_top_n_train": 50,
        "rpn_pre_nms_top_n_test": 100,
        "rpn_post_nms_top_n_test": 50,
        "rpn_batch_size_per_image": 64,
        "box_batch_size_per_image": 32,
    }
    if not masks:
        plain: nn.Module = FasterRCNN(backbone, **settings)
        return plain
    masked: nn.Module = MaskRCNN(
        backbone,
        mask_roi_pool=MultiScaleRoIAlign(["0", "1"], 8, 2),
        mask_head=MaskRCNNHeads(WIDTH, (WIDTH,), 1),
        mask_predictor=MaskRCNNPredictor(WIDTH, WIDTH, classes),
        **settings,
    )
    return masked


def routed(method: tp.AdaptiveDepth | None, masks: bool = False, classes: int = 4, seed: int = 0) -> tp.Routed:
    """The same, routed: adaptive, or plain for None."""
    return tp.route(detector(masks, classes, seed), method, example=[torch.rand(3, SIDE, SIDE)] * 2)


def pictures(*sizes: tuple[int, int], seed: int = 0) -> dict[int, NDArray[np.uint8]]:
    """Random images 10, 20, ... of (height, width)."""
    rng = np.random.default_rng(seed)
    return {10 * (i + 1): rng.integers(0, 256, (*size, 3), dtype=np.uint8) for i, size in enumerate(sizes)}


COCO: dict[str, Any] = {
    "images": [
        {"id": 10, "file_name": "a.png", "height": 30, "width": 40},
        {"id": 20, "file_name": "b.png", "height": 50, "width": 20},
        {"id": 30, "file_name": "sub/c.png", "height": 30, "width": 30},
    ],
    "categories": [{"id": 18, "name": "dog"}, {"id": 3, "name": "car"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 10,
            "category_id": 18,
            "bbox": [5, 6, 10, 12],
            "area": 120,
            "iscrowd": 0,
            "segmentation": [[5, 6, 15, 6, 15, 18, 5, 18]],
        },
        {
            "id": 2,
            "image_id": 20,
            "category_id": 3,
            "bbox": [0, 0, 20, 25],
            "area": 500,
            "iscrowd": 1,
            "segmentation": {"size": [50, 20], "counts": [0, *[25] * 40]},
        },
        {
            "id": 7,
            "image_id": 20,
            "category_id": 3,
            "bbox": [2.5, 10, 8, 30.5],
            "area": 200,
            "iscrowd": 0,
            "segmentation": [[2.5, 10, 10.5, 10, 2.5, 40.5]],
        },
    ],
}
"""Three images, one of them without objects; two categories, ids neither contiguous nor in order; one crowd."""

SIZES = ((30, 40), (50, 20), (30, 30))


def coco(**changes: Any) -> dict[str, Any]:
    """A copy of `COCO`; ``annotations__0__bbox=[...]`` replaces a field of an entry, None takes it away."""
    made = copy.deepcopy(COCO)
    for place, value in changes.items():
        where: Any = made
        *way, last = place.split("__")
        for step in way:
            where = where[int(step) if step.isdigit() else step]
        key: Any = int(last) if last.isdigit() else last
        if value is None:
            del where[key]
        else:
            where[key] = value
    return made
