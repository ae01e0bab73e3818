"""Vision models of transformers, made small from their configurations, random weights: family -> how it is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

SIZES: dict[str, Any] = {"image_size": 32, "patch_size": 8}
WIDTHS = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2}
VIT = {**SIZES, **WIDTHS, "intermediate_size": 64}
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "vit": ("ViTForImageClassification", "ViTConfig", VIT),
    "deit": ("DeiTForImageClassification", "DeiTConfig", VIT),
    "dinov2": ("Dinov2ForImageClassification", "Dinov2Config", {**SIZES, **WIDTHS, "mlp_ratio": 2}),
    "beit": ("BeitForImageClassification", "BeitConfig", {**VIT, "use_relative_position_bias": True}),
    "swin": (
        "SwinForImageClassification",
        "SwinConfig",
        {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
    ),
    "segformer": (
        "SegformerForImageClassification",
        "SegformerConfig",
        {
            "num_encoder_blocks": 2,
            "depths": [2, 2],
            "sr_ratios": [2, 1],
            "hidden_sizes": [16, 32],
            "patch_sizes": [7, 3],
            "strides": [4, 2],
            "num_attention_heads": [1, 2],
            "mlp_ratios": [2, 2],
        },
    ),
    "clip": ("CLIPVisionModelWithProjection", "CLIPVisionConfig", {**VIT, "projection_dim": 16}),
    "convnext": (
        "ConvNextForImageClassification",
        "ConvNextConfig",
        {"num_stages": 2, "hidden_sizes": [16, 32], "depths": [2, 2]},
    ),
    "resnet": (
        "ResNetForImageClassification",
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 2], "layer_type": "basic"},
    ),
}
X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
"""What they take."""


def make(family: str) -> nn.Module:
    """One of them in evaluation mode, no branch scaled to nothing."""
    import transformers

    kind, config, numbers = FAMILIES[family]
    labels = {} if family == "clip" else {"num_labels": 5}
    torch.manual_seed(0)
    model: nn.Module = getattr(transformers, kind)(getattr(transformers, config)(**numbers, **labels)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lambda" in name or "scale" in name:
                parameter.fill_(0.5)
            elif parameter.dim() > 1:
                parameter.normal_(std=0.2)
    return model
