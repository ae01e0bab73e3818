"""ConvNet-AIG's rows (Veit and Belongie, ECCV 2018, Tables 1 and 2)."""

from __future__ import annotations

from pathlib import Path

from torchpaths.budget import Budget
from torchpaths.data import Augment
from torchpaths.methods.gated_blocks import GatedBlocks
from torchpaths.train.papers.common import CIFAR10_MEAN, CIFAR10_STD, IMAGENET, imagenet
from torchpaths.train.recipe import Recipe


def cifar10_resnet110(data: Path = Path("data/cifar10"), target: float = 0.7) -> Recipe:
    """ConvNet-AIG 110 from scratch, and its plain twin. Paper, Table 1: 5.76 % error at 82 % of the layers; plain
    6.61 %.

    Follows the text: 350 epochs, batch 256, SGD with momentum 0.9, weight decay 5e-4 on everything, learning rate 0.1
    divided by 10 at epochs 150 and 250 (the code runs 349 and divides at 149 and 249), padding of 4 and flips, target
    0.7. Follows the code: projection shortcuts, rate loss averaged over blocks with weight 2, normalisation. Departs
    from both: bf16, He-normal initialisation, the last incomplete batch is left out (195 steps for 196), and gates take
    the likelier side in evaluation, where the code draws (``--method.inference sample``). ``expected`` scales by each
    image's probability, which is our reading of the paper's "*".

    Args:
        data: folder with train.parquet and test.parquet, or CIFAR's own.
        target: share of blocks to open.
    """
    return Recipe(
        model="cifar_resnet110b",
        data=str(data),
        method=GatedBlocks(budget=Budget(open=target), reduction="mean", weight=2.0),
        epochs=350,
        batch=256,
        lr=0.1,
        weight_decay=5e-4,
        schedule="step",
        milestones=(150, 250),
        augment=Augment(pad=4, flip=0.5),
        mean=CIFAR10_MEAN,
        std=CIFAR10_STD,
        precision="bf16",
        channels_last=True,
        twin=True,
    )


def imagenet_gated_resnet50(data: Path = IMAGENET, target: float = 0.7) -> Recipe:
    """ConvNet-AIG 50 from scratch. Paper, Table 2: 24.75, 24.42, 24.22 and 23.82 % error for targets 0.4 to 0.7; plain
    (``--method none``) 23.87 %.

    Follows the text: 100 epochs, batch 256, SGD with momentum 0.9, weight decay 1e-4 on everything, learning rate 0.1
    divided by 10 every 30 epochs, 256/224. Follows the authors' README and code: random boxes of the image (the text:
    as He et al.), the targets of single blocks, rate loss averaged over blocks with weight 1, the stride on the 3x3
    convolution. Departs from the code: blocks with target 1 are really open, gates take the likelier side in
    evaluation, and epochs count from 0, where the code's last is the 99th and its rate falls one epoch earlier.

    Args:
        data: folder with ``train/<class>/`` and ``val/<class>/``.
        target: of the blocks that have no target of their own in the README's schedule.
    """
    return _imagenet(data, "resnet50", target)


def imagenet_gated_resnet101(data: Path = IMAGENET, target: float = 0.5) -> Recipe:
    """ConvNet-AIG 101 from scratch, its first eight blocks always open. Paper, Table 2: 23.02 and 22.63 % error for
    targets 0.3 and 0.5; plain (``--method none``) 22.63 %. Otherwise as `imagenet_gated_resnet50`.

    Args:
        data: folder with ``train/<class>/`` and ``val/<class>/``.
        target: of the other 25 blocks.
    """
    return _imagenet(data, "resnet101", target)


def _imagenet(data: Path, network: str, target: float) -> Recipe:
    method = GatedBlocks(budget=Budget(open=target), targets=network, reduction="mean", weight=1.0)
    return imagenet(
        data,
        model=f"torchvision/{network}",
        method=method,
        epochs=100,
        batch=256,
        lr=0.1,
        weight_decay=1e-4,
        milestones=(30, 60, 90),
    )
