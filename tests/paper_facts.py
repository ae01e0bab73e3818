"""What the papers and their authors' code have of each recipe: fields, and augmentation."""

from __future__ import annotations

from typing import Any

CROPS = {"crop": (0.08, 1.0), "whole": True, "flip": 0.5}
PLAIN = {**CROPS, "policy": None, "erase": 0.0, "jitter": 0.0, "interpolation": "bilinear"}
STEPS = {"optimizer": "sgd", "momentum": 0.9, "nesterov": False, "schedule": "step", "warmup": 0, "smoothing": 0}
STRONG = {
    "schedule": "cosine",
    "schedule_by": "epoch",
    "cutmix": 1.0,
    "ema_every": 32,
    "ema_ramp": False,
    "batch": 1024,
}
SIZES = {"size": 224, "resize": 256, "train_size": None}
VIT = {
    **STRONG,
    **SIZES,
    "optimizer": "adamw",
    "epochs": 300,
    "lr": 7.5e-4,
    "weight_decay": 0.2,
    "no_decay": (),
    "warmup": 30,
    "clip": 1.0,
    "precision": "fp16",
    "ema_hold": 30,
    "mixup": 0.2,
    "repeats": 3,
}

FACTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # recipe: fields, augmentation
    "cifar10_resnet110": (
        {
            **STEPS,
            "epochs": 350,
            "batch": 256,
            "lr": 0.1,
            "weight_decay": 5e-4,
            "milestones": (150, 250),
            "no_decay": (),
        },
        {"pad": 4, "flip": 0.5, "crop": None, "policy": None},
    ),
    "imagenet_gated_resnet50": (
        {**STEPS, **SIZES, "epochs": 100, "batch": 256, "lr": 0.1, "weight_decay": 1e-4, "milestones": (30, 60, 90)},
        PLAIN,
    ),
    "imagenet_gated_resnet101": (
        {**STEPS, **SIZES, "epochs": 100, "batch": 256, "lr": 0.1, "weight_decay": 1e-4, "milestones": (30, 60, 90)},
        PLAIN,
    ),
    "imagenet_depth_resnet50": (
        {
            **STEPS,
            **SIZES,
            "epochs": 150,
            "batch": 256,
            "lr": 0.1,
            "weight_decay": 1e-4,
            "milestones": (60, 100, 140),
            "no_decay": ("norms", "biases"),
            "ema": None,
            "mixup": 0.0,
        },
        PLAIN,
    ),
    "imagenet_depth_resnet50_v2": (
        {
            **STRONG,
            "optimizer": "sgd",
            "epochs": 600,
            "lr": 0.5,
            "weight_decay": 2e-5,
            "mixup": 0.2,
            "repeats": 4,
            "size": 224,
            "resize": 232,
            "train_size": 176,
            "no_decay": ("norms", "biases"),
            "smoothing": 0.1,
            "precision": "fp16",
        },
        {**CROPS, "policy": "ta_wide", "erase": 0.1, "erase_fill": "zero", "interpolation": "bilinear"},
    ),
    "imagenet_depth_mobilenet_v2": (
        {
            **STEPS,
            **SIZES,
            "epochs": 300,
            "lr": 0.1,
            "weight_decay": 1e-5,
            "milestones": (150, 225, 285),
            "no_decay": ("norms", "biases"),
        },
        PLAIN,
    ),
    "imagenet_depth_vit_b_16": (VIT, {**CROPS, "policy": "ra", "erase": 0.0}),
    "imagenet_depth_vit_b_32": (VIT, {**CROPS, "policy": "ra", "erase": 0.0}),
    "imagenet_depth_swin_t": (
        {
            **STRONG,
            **SIZES,
            "optimizer": "adamw",
            "epochs": 300,
            "lr": 1e-3,
            "weight_decay": 0.05,
            "warmup": 20,
            "clip": 5.0,
            "bicubic": True,
            "precision": "fp16",
            "no_decay": ("norms", "biases", "embeddings"),
        },
        {**CROPS, "interpolation": "bicubic", "policy": "ta_wide", "erase": 0.25},
    ),
    "cifar10_coded_resnext29": (
        {
            "epochs": 300,
            "batch": 512,
            "accumulate": 8,
            "lr": 0.1,
            "weight_decay": 5e-4,
            "nesterov": True,
            "schedule": "cosine",
            "schedule_by": "epoch",
            "final_lr": 1e-5,
            "warmup": 0,
            "precision": "bf16",
            "smoothing": 0,
            "no_decay": (),
            "mean": (0.4914, 0.4822, 0.4465),
            "std": (0.2023, 0.1994, 0.2010),
        },
        {"policy": "rand-m4-n3", "pad": 4, "flip": 0.5, "erase": 0.0},
    ),
    "cifar100_coded_resnext29": (
        {"epochs": 300, "batch": 512, "mean": (0.5071, 0.4867, 0.4408), "std": (0.2673, 0.2564, 0.2762)},
        {"policy": "rand-m2-n1", "pad": 4, "flip": 0.5},
    ),
    "imagenet_coded_resnext50": (
        {
            "epochs": 250,
            "batch": 1536,
            "lr": 0.6,
            "warmup": 5,
            "cooldown": 10,
            "train_size": 160,
            "size": 224,
            "weight_decay": 1e-4,
            "smoothing": 0.1,
            "final_lr": 1e-5,
            "schedule": "cosine",
        },
        {
            **CROPS,
            "policy": "rand-m7-n2-mstd0.5",
            "jitter": 0.0,
            "erase": 0.4,
            "erase_count": 3,
            "erase_fill": "normal",
        },
    ),
    "cifar10_filters": (
        {**STEPS, "epochs": 200, "batch": 128, "lr": 0.1, "weight_decay": 1e-4, "milestones": (100, 150)},
        {"pad": 4, "flip": 0.5},
    ),
    "cifar100_filters": (
        {**STEPS, "epochs": 200, "batch": 128, "lr": 0.1, "weight_decay": 1e-4, "milestones": (100, 150)},
        {"pad": 4, "flip": 0.5},
    ),
    "imagenet_filters_resnet18": (
        {**STEPS, **SIZES, "epochs": 30, "batch": 256, "lr": 0.001, "milestones": (10, 20)},
        PLAIN,
    ),
    "imagenet_filters_vgg16": ({**STEPS, "epochs": 30, "batch": 64, "lr": 0.001, "milestones": (10, 20)}, PLAIN),
}
