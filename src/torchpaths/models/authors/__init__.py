"""Weights as the authors of the papers name them.

What a name stands for was read in their code. Names that sound alike may mean otherwise (which of a gate's scores
opens, which of two norms is the second, in which order branches lie), so tests compare what networks answer.

| file | whose |
|---|---|
| `depth` | adaptive depth: ResNet, ViT, Swin, MobileNetV2 |
| `gates` | ConvNet-AIG: ResNets for ImageNet and CIFAR |
| `coded` | Coded ResNeXt |
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from torch import Tensor

from torchpaths.models.authors.coded import CODED
from torchpaths.models.authors.depth import DEPTH
from torchpaths.models.authors.gates import GATES
from torchpaths.models.authors.layout import Layout, Translated, translate

LAYOUTS = (*DEPTH, GATES, CODED)


def layout_of(names: Collection[str], known: Collection[str] = ()) -> Layout | None:
    """The layout of a file by the names of its tensors; None for one of nobody's.

    Args:
        names: without what a wrapper put before all of them.
        known: names that the network has itself; who filled the authors' own classes needs no translation.
    """
    foreign = [name for name in names if name not in known]
    return next((layout for layout in LAYOUTS if any(re.fullmatch(layout.mark, name) for name in foreign)), None)


def translated(tensors: Mapping[str, Tensor], known: Collection[str] = ()) -> Translated | None:
    """Tensors under this library's names, if they have the layout of authors; arguments as `layout_of`."""
    layout = layout_of(tensors, known)
    return None if layout is None else translate(layout, tensors)
