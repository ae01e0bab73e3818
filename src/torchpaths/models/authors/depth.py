"""Adaptive depth: the networks of wchkang/depth (models/resnet.py, vision_transformer.py, swin_transformer.py and
mobilenetv2.py), torchvision's in which norms have second versions beside them.

A norm ``X`` of a block that always runs has its second version, for when the rest of the stage is left out, in
``X_skip``; here that is ``X.skipped``. Swin's patch embedding is called ``pre``, so the features behind it count from
0; MobileNetV2's blocks lie in stages, its layers have names, and a block's last convolution and norm are one module.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from torch import Tensor

from torchpaths.models.authors.layout import Layout, Rules, modules

SECOND = (r"_skip\.(\w+)$", r".skipped.\1")

_PLACE = r"^features\.(\d{1,4})\.(?:(\d{1,4})\.)?"
_LAYER = r"(?:conv\.(\d{1,4})\.)?(conv_layer|norm)(?=[._])"


def _same_names(tensors: Mapping[str, Tensor]) -> Rules:
    """ResNet and ViT: torchvision's names but for the second norms."""
    return (SECOND,)


def _swin(tensors: Mapping[str, Tensor]) -> Rules:
    return (
        (r"^features\.(\d{1,4})\.", lambda match: f"features.{int(match[1]) + 1}."),
        (r"^pre\.", "features.0."),
        SECOND,
    )


def _mobilenet(tensors: Mapping[str, Tensor]) -> Rules:
    places: set[tuple[int, int]] = set()
    last: dict[tuple[int, int], int] = {}
    for name in tensors:
        match = re.match(_PLACE + _LAYER, name)
        if match:
            place = int(match[1]), int(match[2] or 0)
            places.add(place)
            last[place] = max(last.get(place, 0), int(match[3] or 0))
    order = {place: number for number, place in enumerate(sorted(places))}

    def put(match: re.Match[str]) -> str:
        place = int(match[1]), int(match[2] or 0)
        layer, norm = match[3], match[4] == "norm"
        name = f"features.{order[place]}."
        if layer is None:
            return f"{name}{int(norm)}"
        if int(layer) < last[place]:
            return f"{name}conv.{layer}.{int(norm)}"
        return f"{name}conv.{int(layer) + norm}"

    return ((_PLACE + _LAYER, put), SECOND)


def _second(tensors: Mapping[str, Tensor]) -> str:
    return f"{modules(tensors, r'.*_skip')} second norms, theirs X_skip, here X.skipped"


_depth = functools.partial(Layout, "adaptive depth", "wchkang/depth", parts=_second)

DEPTH = (
    _depth(
        mark=r"layer\d+\.\d+\.bn\d_skip\.\w+",
        rules=_same_names,
        network="torchvision/resnet50 or /resnet101 (or timm's), routed with AdaptiveDepth()",
    ),
    _depth(
        mark=r"encoder\.layers\.encoder_layer_\d+\.ln_\d_skip\.\w+",
        rules=_same_names,
        network="torchvision/vit_b_16 or /vit_b_32, routed with AdaptiveDepth()",
    ),
    _depth(
        mark=r"features\.\d+\.\d+\.norm\d_skip\.\w+",
        rules=_swin,
        network="swin_t, torchvision/swin_t or /swin_v2_t, routed with AdaptiveDepth()",
    ),
    _depth(
        mark=_PLACE + r"(?:conv\.\d+\.)?conv_layer\.\w+",
        rules=_mobilenet,
        network="torchvision/mobilenet_v2, routed with AdaptiveDepth(ends=True)",
    ),
)
