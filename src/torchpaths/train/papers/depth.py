"""Adaptive depth's rows (Kang and Lee): Table 1 of the 2023 text, and the README of the authors' code, which implements
the NeurIPS 2024 version.

The README gives a command for each network; what it leaves to torchvision's training script is that script's default.
All train from scratch, super-net and base-net by Algorithm 1 with alpha 0.5. Where text and code differ, features of
all stages are compared, as the text says; the code compares none unless asked, as the README's commands do not, so that
rows whose numbers are the README's compare none. The temperature is the code's, 1. ``--method none`` trains the network
on its own, and with ``--model`` the network of the base-net's depth.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torchpaths.data import Augment
from torchpaths.methods.adaptive_depth import AdaptiveDepth
from torchpaths.train.papers.common import IMAGENET, imagenet
from torchpaths.train.recipe import Recipe

_BARE = ("norms", "biases")


def imagenet_depth_resnet50(data: Path = IMAGENET) -> Recipe:
    """ResNet-50 of 2^4 depths. Paper, Table 1: 77.6 and 76.1 %; on their own 76.7 and, ``--model resnet50_base``,
    75.0 %.

    Follows text and README: 150 epochs, batch 256, SGD with momentum 0.9, learning rate 0.1 divided by 10 at epochs 60,
    100 and 140, weight decay 1e-4, none on norms and biases, random boxes of the image as the code has them, 256/224.

    Args:
        data: folder with ``train/<class>/`` and ``val/<class>/``.
    """
    return imagenet(
        data,
        model="torchvision/resnet50",
        method=AdaptiveDepth(),
        epochs=150,
        batch=256,
        lr=0.1,
        weight_decay=1e-4,
        no_decay=_BARE,
        milestones=(60, 100, 140),
    )


def imagenet_depth_resnet50_v2(data: Path = IMAGENET) -> Recipe:
    """ResNet-50 by torchvision's recipe of its second weights. README: 80.5 % with everything, 78.4 % without what can
    be skipped.

    Follows README and code: 600 epochs, batch 1024, learning rate 0.5 along a cosine, five epochs of warm-up from 1 %,
    weight decay 2e-5, none on norms and biases, TrivialAugment, erasing 0.1, mixup 0.2, cutmix 1, each image four
    times, crops of 176 pixels, an average of the weights every 32 steps, fp16, 232/224. Smoothing 0.1 is of
    torchvision's recipe, which the README says it trains by; its own command leaves it out (``--smoothing 0``). An
    epoch begins and ends a step apart from theirs where steps do not divide by 32.

    Args:
        data: folder with ``train/<class>/`` and ``val/<class>/``.
    """
    epochs, batch = 600, 1024
    return imagenet(
        data,
        model="torchvision/resnet50",
        method=AdaptiveDepth(features="none"),
        resize=232,
        train_size=176,
        augment=_augment(policy="ta_wide", erase=0.1),
        repeats=4,
        epochs=epochs,
        batch=batch,
        lr=0.5,
        weight_decay=2e-5,
        no_decay=_BARE,
        schedule="cosine",
        schedule_by="epoch",
        warmup=5,
        warmup_from=0.01,
        smoothing=0.1,
        mixup=0.2,
        cutmix=1.0,
        precision="fp16",
        **_average(batch, epochs, warmup=5),
    )


def imagenet_depth_mobilenet_v2(data: Path = IMAGENET) -> Recipe:
    """MobileNetV2 of 2^5 depths. Paper, Table 1: 72.7 and 70.7 %; README: 72.5 and 70.6 %. On their own 72.1 and,
    ``--model mobilenet_v2_base``, 70.7 %.

    Follows README and code: 300 epochs, learning rate 0.1 divided by 10 at epochs 150, 225 and 285, weight decay 1e-5,
    none on norms and biases, second norms at both ends, dropout 0.2, batch 256 (four processes of 64).

    Args:
        data: folder with ``train/<class>/`` and ``val/<class>/``.
    """
    return imagenet(
        data,
        model="torchvision/mobilenet_v2",
        method=AdaptiveDepth(ends=True),
        epochs=300,
        batch=256,
        lr=0.1,
        weight_decay=1e-5,
        no_decay=_BARE,
        milestones=(150, 225, 285),
    )


def imagenet_depth_vit_b_16(data: Path = IMAGENET) -> Recipe:
    """ViT-b/16 of 2^4 depths. README: 81.4 % with everything, 80.6 % without what can be skipped.

    Follows README and code: 300 epochs, batch 1024, AdamW, learning rate 7.5e-4 along a cosine, 30 epochs of warm-up
    from 3.3 %, weight decay 0.2 on everything, smoothing 0.11, RandAugment of magnitude 9, mixup 0.2, cutmix 1, each
    image three times, gradients clipped to 1, an average of the weights every 32 steps, fp16.

    Args:
        data: folder with ``train/<class>/`` and ``val/<class>/``.
    """
    return _vit(data, "vit_b_16", AdaptiveDepth(features="none"))


def imagenet_depth_vit_b_32(data: Path = IMAGENET) -> Recipe:
    """ViT-b/32 of 2^4 depths. Paper, Table 1: 76.4 and 73.2 %; on their own 75.9 and, ``--model vit_b_32_base``,
    73.1 % (which the paper made by taking the MLPs of four blocks out, and this by taking the blocks out).

    Follows the text in that it is DeiT's recipe (section 4.1), whose numbers the text leaves out: they are those of
    `imagenet_depth_vit_b_16`. torchvision's own recipe of the plain network has batch 4096, learning rate 3e-3, weight
    decay 0.3 and the policy ``imagenet``.

    Args:
        data: folder with ``train/<class>/`` and ``val/<class>/``.
    """
    return _vit(data, "vit_b_32", AdaptiveDepth())


def _vit(data: Path, network: str, method: AdaptiveDepth) -> Recipe:
    epochs, batch = 300, 1024
    return imagenet(
        data,
        model=f"torchvision/{network}",
        method=method,
        augment=_augment(policy="ra"),
        repeats=3,
        epochs=epochs,
        batch=batch,
        optimizer="adamw",
        lr=7.5e-4,
        weight_decay=0.2,
        clip=1.0,
        schedule="cosine",
        schedule_by="epoch",
        warmup=30,
        warmup_from=0.033,
        smoothing=0.11,
        mixup=0.2,
        cutmix=1.0,
        precision="fp16",
        channels_last=False,
        **_average(batch, epochs, warmup=30),
    )


def imagenet_depth_swin_t(data: Path = IMAGENET) -> Recipe:
    """Swin-T of 2^4 depths. README: 81.6 % with everything, 78.0 % without what can be skipped.

    Follows README and code: 300 epochs, batch 1024, AdamW, learning rate 1e-3 along a cosine to 1e-5, 20 epochs of
    warm-up from 1 %, weight decay 0.05, none on norms, biases and embeddings, smoothing 0.1, TrivialAugment, erasing
    0.25, mixup 0.8, cutmix 1, each image four times, gradients clipped to 5, stochastic depth 0.1, bicubic, an average
    of the weights every 32 steps, fp16. Evaluation is 256/224, as in the README's command for it.

    Args:
        data: folder with ``train/<class>/`` and ``val/<class>/``.
    """
    epochs, batch = 300, 1024
    return imagenet(
        data,
        model="swin_t",
        method=AdaptiveDepth(features="none"),
        bicubic=True,
        augment=_augment(policy="ta_wide", erase=0.25, interpolation="bicubic"),
        repeats=4,
        epochs=epochs,
        batch=batch,
        optimizer="adamw",
        lr=1e-3,
        weight_decay=0.05,
        no_decay=(*_BARE, "embeddings"),
        clip=5.0,
        schedule="cosine",
        schedule_by="epoch",
        final_lr=1e-5,
        warmup=20,
        warmup_from=0.01,
        smoothing=0.1,
        mixup=0.8,
        cutmix=1.0,
        precision="fp16",
        channels_last=False,
        **_average(batch, epochs, warmup=20),
    )


def _augment(**more: Any) -> Augment:
    return Augment(crop=(0.08, 1.0), whole=True, flip=0.5, erase_fill="zero", **more)


def _average(batch: int, epochs: int, warmup: float, decay: float = 0.99998, every: int = 32) -> dict[str, Any]:
    """torchvision's average: its decay is one for a batch of one image in one epoch, and held during the warm-up."""
    share = min(1.0, (1 - decay) * batch * every / epochs)
    return {"ema": 1 - share, "ema_every": every, "ema_hold": warmup, "ema_ramp": False}
