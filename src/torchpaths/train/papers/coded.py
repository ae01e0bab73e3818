"""Coded ResNeXt's rows (Avranas and Kountouris, NeurIPS 2022, Table 2). ``--method none`` trains the plain ResNeXt."""

from __future__ import annotations

from pathlib import Path

from torchpaths.data import Augment
from torchpaths.methods.coded_paths import CodedPaths
from torchpaths.train.papers.common import (
    CIFAR10_MEAN,
    CIFAR10_STD,
    CIFAR100_MEAN,
    CIFAR100_STD,
    IMAGENET,
    imagenet,
)
from torchpaths.train.recipe import Recipe


def cifar10_coded_resnext29(data: Path = Path("data/cifar10")) -> Recipe:
    """Coded ResNeXt-29 (10x11d). Paper, Table 2: 94.41 %; plain 93.66 %.

    Follows code and first version of the paper: 300 epochs, batch 512 as eight parts of 64 whose norms do not know of
    each other, SGD with Nesterov's momentum 0.9, weight decay 5e-4 on everything, learning rate 0.1 along a cosine, by
    epochs, to 1e-5 (the first version's text: 1e-4), bf16; timm's RandAugment, then crops of images padded with 4, then
    flips (the first version's text: these before RandAugment). mu 6 and p_drop 0.1 as in Table 2. Codewords are our own
    (``torchpaths codes``), at least as far apart. Where one process trains, eight micro-batches take the place of the
    TPU's eight cores; under torchrun on eight GPUs give ``--accumulate 1``.

    Args:
        data: folder with train.parquet and test.parquet, or CIFAR's own.
    """
    return _cifar(data, "resnext29_10x11d", "rand-m4-n3", CIFAR10_MEAN, CIFAR10_STD)


def cifar100_coded_resnext29(data: Path = Path("data/cifar100")) -> Recipe:
    """Coded ResNeXt-29 (20x6d). Paper, Table 2: 78.76 %; plain 76.86 %. Otherwise as `cifar10_coded_resnext29`.

    Args:
        data: folder with train.parquet and test.parquet, or CIFAR's own.
    """
    return _cifar(data, "resnext29_20x6d", "rand-m2-n1", CIFAR100_MEAN, CIFAR100_STD)


def _cifar(data: Path, model: str, policy: str, mean: tuple[float, ...], std: tuple[float, ...]) -> Recipe:
    return Recipe(
        model=model,
        data=str(data),
        method=CodedPaths(weight=6.0, drop=0.1),
        workers=4,
        epochs=300,
        batch=512,
        accumulate=8,
        lr=0.1,
        weight_decay=5e-4,
        nesterov=True,
        schedule="cosine",
        schedule_by="epoch",
        final_lr=1e-5,
        augment=Augment(policy=policy, interpolation="random", pad=4, flip=0.5),
        mean=mean,
        std=std,
        precision="bf16",
        channels_last=True,
    )


def imagenet_coded_resnext50(data: Path = IMAGENET) -> Recipe:
    """Coded ResNeXt-50 (32x4d). Paper, Table 2: 80.24 %; plain 79.50 %.

    Follows the text: 250 epochs, five of them to warm up and the last ten at the least rate, batch 1536, learning rate
    0.6, RandAugment of two operations and magnitude 7 that varies by 0.5, erasing with probability 0.4 in up to three
    boxes, crops of 160 pixels, mu 2, p_drop 0.1. As timm has it, whose process the text follows: a cosine by epochs
    from the first on, the warm-up in its place, to 1e-5; noise in erased boxes, crops scaled with either weights,
    weight decay 1e-4 and none on norms and biases, Nesterov's momentum, 224 of 256 pixels with bicubic weights, the
    warm-up from 1e-5 (the authors' code: 1e-4), smoothing 0.1 (the first version: none). timm's own command for this
    network has ``-inc1`` in its RandAugment too, of which the text says nothing (``--augment.policy
    rand-m7-mstd0.5-inc1``), and norms of 192 images. Codewords are our own (``torchpaths codes``): at distance 12 and
    8, the authors' at 10 and 6.

    Args:
        data: folder with ``train/<class>/`` and ``val/<class>/``.
    """
    return imagenet(
        data,
        model="resnext50_32x4d",
        method=CodedPaths(weight=2.0, drop=0.1),
        bicubic=True,
        train_size=160,
        augment=Augment(
            crop=(0.08, 1.0),
            whole=True,
            flip=0.5,
            interpolation="random",
            policy="rand-m7-n2-mstd0.5",
            erase=0.4,
            erase_fill="normal",
            erase_count=3,
        ),
        epochs=250,
        batch=1536,
        lr=0.6,
        weight_decay=1e-4,
        no_decay=("norms", "biases"),
        nesterov=True,
        schedule="cosine",
        schedule_by="epoch",
        warmup=5,
        warmup_from=1e-5 / 0.6,
        warmup_within=True,
        cooldown=10,
        final_lr=1e-5,
        smoothing=0.1,
        precision="bf16",
    )
