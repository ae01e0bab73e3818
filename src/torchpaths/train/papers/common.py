"""What the papers' recipes share: data sets, their normalisation, and the usual training on ImageNet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchpaths.data import Augment
from torchpaths.train.recipe import Recipe

IMAGENET = Path("data/imagenet")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4867, 0.4408), (0.2673, 0.2564, 0.2762)
"""As the authors of the papers wrote them."""

CROPS = Augment(crop=(0.08, 1.0), whole=True, flip=0.5)
"""Szegedy et al.'s (2015), as the authors' codes and torchvision have it: a random box of the image as it is stored,
mirrored half of the time."""


def imagenet(data: Path, **fields: Any) -> Recipe:
    """Training on ImageNet as is usual, evaluation on the centre of 224 pixels of images whose shorter side has 256.

    Args:
        data: folder with ``train/<class>/`` and ``val/<class>/``.
        **fields: of the recipe.
    """
    usual: dict[str, Any] = {
        "data": str(data),
        "channels": 3,
        "size": 224,
        "resize": 256,
        "augment": CROPS,
        "mean": IMAGENET_MEAN,
        "std": IMAGENET_STD,
        "workers": 8,
        "channels_last": True,
    }
    return Recipe(**{**usual, **fields})
