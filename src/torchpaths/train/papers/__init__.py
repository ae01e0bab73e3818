"""The recipes of the four papers' rows: a function for each network, by name in `PAPERS`.

Each says which of the paper's text and the authors' code it follows, and where it departs from both. docs/reproduce.md
lists the rows with their commands.
"""

from __future__ import annotations

from collections.abc import Callable

from torchpaths.train.papers import coded, depth, filters, gates
from torchpaths.train.recipe import Recipe

PAPERS: dict[str, Callable[..., Recipe]] = {
    f.__name__: f
    for f in (
        gates.cifar10_resnet110,
        gates.imagenet_gated_resnet50,
        gates.imagenet_gated_resnet101,
        depth.imagenet_depth_resnet50,
        depth.imagenet_depth_resnet50_v2,
        depth.imagenet_depth_mobilenet_v2,
        depth.imagenet_depth_vit_b_16,
        depth.imagenet_depth_vit_b_32,
        depth.imagenet_depth_swin_t,
        coded.cifar10_coded_resnext29,
        coded.cifar100_coded_resnext29,
        coded.imagenet_coded_resnext50,
        filters.cifar10_filters,
        filters.cifar100_filters,
        filters.imagenet_filters_resnet18,
        filters.imagenet_filters_vgg16,
    )
}
"""Recipes by name."""
