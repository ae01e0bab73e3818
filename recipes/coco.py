"""Adaptive depth's rows on COCO (Table 4): Faster R-CNN and Mask R-CNN with FPN on a ResNet-50 of 2^4 depths.

    python recipes/coco.py --data DIR/coco --weights runs/imagenet_depth_resnet50/weights.safetensors
    python recipes/coco.py --data DIR/coco --weights ... --masks
    python recipes/coco.py --data DIR/coco --weights runs/resnet50/weights.safetensors --plain

The weights are those of a run on ImageNet: of ``imagenet_depth_resnet50``, with ``--plain`` of the same recipe and
``--method none``; or the authors' file of their ResNet50-ADN. DIR/coco holds train2017/, val2017/ and annotations/.
Killed and started again, it goes on.

Follows the text: 12 epochs of train2017 from ImageNet's weights, Algorithm 1. What the text leaves out is Detectron's
usual schedule of these detectors: 16 images a step, 517 steps of warm-up, learning rate 0.02 divided by 10 after 8 and
11 epochs (Lin et al., 2017, whom the text follows, divide once), weight decay 1e-4, images of 800 by at most 1333
pixels, norms that keep ImageNet's statistics, stem and first stage not trained. Departs: features of
stages are compared, not those of the pyramid, as the text says; one process trains (on several GPUs, not yet).
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import torch
import tyro
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from torchpaths import AdaptiveDepth, Routed, route
from torchpaths.detection import CocoSet, Recipe, train
from torchpaths.errors import RunError
from torchpaths.models import read_weights
from torchpaths.models.authors import translated
from torchpaths.models.checkpoints import unwrapped

BODY = "model.backbone.body."
"""What stands before the names of a network's own weights in a detector."""


@dataclass(frozen=True)
class Options:
    """What to train and on what.

    Attributes:
        data: folder with train2017/, val2017/ and annotations/.
        weights: weights.safetensors of a run on ImageNet, or the authors' file.
        out: run folder.
        masks: Mask R-CNN; otherwise Faster R-CNN.
        plain: the detector on its own, without depths.
        batch: images of a step.
        sides: shorter side of an image, and most of the longer one, in pixels.
    """

    data: pathlib.Path
    weights: pathlib.Path
    out: pathlib.Path = pathlib.Path("runs/coco")
    masks: bool = False
    plain: bool = False
    batch: int = 16
    sides: tuple[int, int] = (800, 1333)


def recipe_of(options: Options) -> Recipe:
    """How both detectors are trained."""
    return Recipe(
        None if options.plain else AdaptiveDepth(),
        epochs=12,
        batch=options.batch,
        lr=0.02 * options.batch / 16,
        weight_decay=1e-4,
        schedule="step",
        milestones=(8, 11),
        warmup=0.07,  # 517 of COCO's 7,392 steps
        eval_every=12,
    )


def detector(options: Options, recipe: Recipe, classes: int, weights: dict[str, Tensor]) -> Routed:
    """The detector, routed, its backbone filled with weights of a run on ImageNet.

    Args:
        options: gives the kind of detector and its sides.
        recipe: gives the method.
        classes: with the background.
        weights: by name, as a run's file or one of adaptive depth's authors has them.

    Raises:
        RunError: for weights of another network.
    """
    torch.manual_seed(recipe.seed)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    make = MaskRCNN if options.masks else FasterRCNN
    model: nn.Module = make(backbone, classes, min_size=options.sides[0], max_size=options.sides[1])
    net = route(model, recipe.method, example=[torch.rand(3, 64, 96)] * 2)
    weights = unwrapped(weights, {})
    theirs = translated(weights)
    weights = weights if theirs is None else theirs.tensors
    own = {name: value for name, value in net.state_dict().items() if name.startswith(BODY)}
    given = {BODY + name: value for name, value in weights.items()}
    second = [name for name in given if ".skipped." in name and name not in own]
    if options.plain and second:
        raise RunError(
            f"these weights have {len(second)} tensors of second norms for which the plain detector has no place, "
            f"{second[0].removeprefix(BODY)} first; leave out --plain, or give weights of a plain network."
        )
    kept = {name: value for name, value in given.items() if name in own and value.shape == own[name].shape}
    if own.keys() - kept.keys():
        first = sorted(own.keys() - kept.keys())[0]
        depths = "--method none" if options.plain else "AdaptiveDepth"
        raise RunError(
            f"these weights lack {len(own.keys() - kept.keys())} of the backbone's {len(own)} tensors, {first} first; "
            f"give those of a run of imagenet_depth_resnet50 with {depths}."
        )
    net.load_state_dict(kept, strict=False)
    return net


def main(options: Options) -> None:
    sets = (
        CocoSet(options.data / "annotations" / f"instances_{split}.json", options.data / split, masks=options.masks)
        for split in ("train2017", "val2017")
    )
    data, test = sets
    recipe = recipe_of(options)
    net = detector(options, recipe, len(data.classes), dict(read_weights(options.weights)))
    train(net, recipe, data, test, options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
