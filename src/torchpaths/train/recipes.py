"""Recipes: typed functions that give a `Recipe`. Any field can be overridden with `resolve`, or on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torchpaths.budget import Budget
from torchpaths.data import Augment
from torchpaths.errors import RunError, near
from torchpaths.methods.adaptive_depth import AdaptiveDepth
from torchpaths.methods.base import Method
from torchpaths.methods.coded_paths import CodedPaths
from torchpaths.methods.gated_blocks import GatedBlocks
from torchpaths.methods.gated_filters import GatedFilters
from torchpaths.train.distil import START, Distil
from torchpaths.train.papers import PAPERS
from torchpaths.train.papers.common import IMAGENET_MEAN, IMAGENET_STD
from torchpaths.train.recipe import Recipe

_CODED = CodedPaths()


def digits(target: float = 0.6) -> Recipe:
    """The demo: a gated ResNet-20 on scikit-learn's own 8 x 8 scans of digits, and its plain twin. No download; about a
    minute on two cores.

    Args:
        target: share of blocks to open.
    """
    return Recipe(
        model="cifar_resnet20",
        data="digits",
        method=GatedBlocks(budget=Budget(open=target)),
        epochs=28,
        batch=64,
        lr=0.1,
        weight_decay=5e-4,
        nesterov=True,
        schedule="cosine",
        warmup=2,
        # Images this small keep one core busy; a second thread would mostly wait, and crawl where cores are shared.
        threads=1,
        augment=Augment(pad=1),
        eval_every=5,
        log_every=20,
        twin=True,
    )


def cifar10_resnet56(
    data: Path = Path("data/cifar10"),
    weights: Path = Path("data/weights/cifar10_resnet56.safetensors"),
    target: float = 0.6,
    epochs: int = 10,
    method: Method | None = None,
) -> Recipe:
    """Gates for a trained ResNet-56 (shortcut A), by fine-tuning on CIFAR-10.

    Normalisation is the one the weights were trained with. The rate loss is the paper's sum over blocks: with the
    authors' mean, ten epochs at this learning rate are too few for the rates to reach their target.

    Args:
        data: folder with train.parquet and test.parquet.
        weights: of the plain network.
        target: share of blocks to open.
        epochs: passes over the 50,000 images.
        method: another way of deciding, e.g. ``RandomDrop(0.6)`` as the control; None for gates at ``target``.
    """
    return Recipe(
        model="cifar_resnet56",
        data=str(data),
        weights=weights,
        method=method or GatedBlocks(budget=Budget(open=target)),
        epochs=epochs,
        batch=128,
        lr=0.02,
        weight_decay=1e-4,
        nesterov=True,
        schedule="cosine",
        augment=Augment(pad=4, flip=0.5),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        precision="bf16",
        channels_last=True,
    )


def cifar10_adaptive_depth(
    data: Path = Path("data/cifar10"),
    model: str = "cifar_resnet20",
    epochs: int = 20,
    method: Method | None = None,
) -> Recipe:
    """A CIFAR ResNet of 2^3 depths, from scratch as in the paper (there 150 epochs of ImageNet).

    Args:
        data: folder with train.parquet and test.parquet.
        model: ``cifar_resnet20`` can shrink to ``cifar_resnet14``, ``cifar_resnet32`` to ``cifar_resnet20``.
        epochs: passes over the 50,000 images; each is one of the super-net and one of the base-net.
        method: `AdaptiveDepth` with other knobs; None for its defaults.
    """
    return Recipe(
        model=model,
        data=str(data),
        method=method or AdaptiveDepth(),
        epochs=epochs,
        batch=128,
        lr=0.1,
        weight_decay=5e-4,
        nesterov=True,
        schedule="cosine",
        warmup=1,
        augment=Augment(pad=4, flip=0.5),
        precision="bf16",
        channels_last=True,
    )


def cifar10_coded_paths(
    data: Path = Path("data/cifar10"),
    model: str = "resnext20_10x4d",
    epochs: int = 30,
    method: Method | None = _CODED,
) -> Recipe:
    """A coded ResNeXt for CIFAR-10 from scratch, by the optimizer and schedule of the paper's authors (there 300
    epochs, batch 512 and RandAugment).

    Args:
        data: folder with train.parquet and test.parquet.
        model: ``resnext20_10x4d``, small enough for a CPU, or ``resnext29_10x11d``, the paper's.
        epochs: passes over the 50,000 images.
        method: None for the plain network, its twin.
    """
    return Recipe(
        model=model,
        data=str(data),
        method=method,
        epochs=epochs,
        batch=128,
        lr=0.1,
        weight_decay=5e-4,
        nesterov=True,
        schedule="cosine",
        final_lr=1e-5,
        augment=Augment(pad=4, flip=0.5),
        precision="bf16",
        channels_last=True,
    )


def cifar10_gated_filters(
    data: Path = Path("data/cifar10"),
    weights: Path = Path("data/weights/cifar10_resnet56.safetensors"),
    sparse: float = 1e-3,
    mutual: float = 0.005,
    epochs: int = 30,
    method: Method | None = None,
) -> Recipe:
    """Gates for the filters of a trained ResNet-56 (shortcut A), by fine-tuning on CIFAR-10.

    The paper trains 200 epochs from a learning rate of 0.1 that falls twice, with ``sparse`` from 0.0001 to 0.0002.
    What closes a filter adds up over the steps; the learning rates of 30 epochs here add up to a fourteenth of the
    paper's, so ``sparse`` is larger. The norms' statistics are measured anew at the end, which the paper does not do
    and which was worth three points (`torchpaths.update_bn`).

    Args:
        data: folder with train.parquet and test.parquet.
        weights: of the plain network.
        sparse: weight of the number of open filters; the larger, the fewer.
        mutual: weight of the mutual information of filters and classes.
        epochs: passes over the 50,000 images.
        method: another way of deciding; None for gates.
    """
    return Recipe(
        model="cifar_resnet56",
        data=str(data),
        weights=weights,
        method=method or GatedFilters(mutual=mutual, sparse=sparse),
        epochs=epochs,
        update_bn=40,
        batch=128,
        lr=0.05,
        weight_decay=1e-4,
        schedule="cosine",
        augment=Augment(pad=4, flip=0.5),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        precision="bf16",
        channels_last=True,
    )


def finetune(
    data: Path = Path("images"),
    model: str = "timm/resnet34.a1_in1k",
    weights: Path | None = None,
    target: float = 0.7,
    epochs: int = 6,
    method: Method | None = None,
) -> Recipe:
    """Gates for a trained network of timm or torchvision, or your own, on a folder of your images.

    Gates learn in few epochs at a learning rate that leaves trained weights nearly where they are; the network that
    training starts from teaches, which keeps its accuracy. Crops are gentler than for training from scratch. What the
    model decides, as the size of images and their normalisation, is filled in when training begins.

    Args:
        data: folder with ``train/<class>/`` and ``val/<class>/`` (or ``test``), or with ``<class>/`` alone, of which a
            fifth of the images is kept for testing.
        model: "timm/NAME.TAG", "torchvision/NAME:TAG", both with a default for the tag, "hf-hub:user/model", or a name
            of `torchpaths.models.MODELS`.
        weights: safetensors, .pth or .pth.tar, in place of what the model's name stands for.
        target: share of blocks to open.
        epochs: passes over the training images.
        method: another way of deciding; None for gates at ``target``.
    """
    return Recipe(
        model=model,
        data=str(data),
        weights=weights,
        method=method or GatedBlocks(budget=Budget(open=target)),
        finetune=True,
        channels=3,
        holdout=0.2,
        workers=4,
        epochs=epochs,
        batch=32,
        lr=0.01,
        weight_decay=1e-4,
        nesterov=True,
        schedule="cosine",
        warmup=0.5,
        distil=Distil(START),
        channels_last=True,
        augment=Augment(flip=0.5, crop=(0.35, 1.0)),
        log_every=20,
    )


RECIPES: dict[str, Callable[..., Recipe]] = {
    f.__name__: f
    for f in (
        digits,
        cifar10_resnet56,
        cifar10_adaptive_depth,
        cifar10_coded_paths,
        cifar10_gated_filters,
        finetune,
    )
} | PAPERS
"""Recipes by name: those here, and those of the papers' rows."""


def resolve(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by name, with some of its function's arguments or of its fields changed.

    Args:
        name: one of `RECIPES`.
        overrides: argument or field -> value; arguments (``target``) first, since fields follow from them.

    Raises:
        RunError: for an unknown recipe or field (with near names), or a value out of range.
    """
    if name not in RECIPES:
        raise RunError(f"there is no recipe {name!r}. {near(name, RECIPES)}")
    make = RECIPES[name]
    changes = dict(overrides or {})
    arguments = {k: changes.pop(k) for k in list(changes) if k in inspect.signature(make).parameters}
    return make(**arguments).override(changes)
