"""torchvision's Faster R-CNN and Mask R-CNN with FPN on ResNet-50, cut down for small images and one core.

The backbone is the whole ResNet-50, with BatchNorm. Pyramid and heads are half and a quarter as wide as torchvision's,
anchors are for images of about a hundred pixels, and fewer of them and
of the proposals are looked at, since an image holds one object or a few.
"""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision.models import resnet50
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor

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
    if not masks:
        return FasterRCNN(backbone, **settings)
    return MaskRCNN(
        backbone,
        mask_head=MaskRCNNHeads(PYRAMID, (PYRAMID,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(PYRAMID, PYRAMID, classes),
        **settings,
    )
