"""Training batches as a pure function of (seed, epoch): a run that was cut off goes on with the very next one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from torchpaths.detection.coco import CocoSet, collate
from torchpaths.train.seed import mixed

Batch: TypeAlias = tuple[list[Tensor], list[dict[str, Tensor]]]
"""Images and their targets, as a detector takes them."""


def batches(data: CocoSet, size: int, *, seed: int, epoch: int, start: int = 0, flip: bool = True) -> Iterator[Batch]:
    """The batches of an epoch in a random order; an incomplete last one is left out.

    Args:
        data: images and objects.
        size: images in a batch.
        seed: of the run.
        epoch: from 0.
        start: batches to leave out at the beginning; they are not read.
        flip: mirror images left to right, with probability 1/2.
    """
    rng = np.random.default_rng(mixed(seed, epoch))
    order = rng.permutation(len(data))
    mirrored = rng.random(len(data)) < (0.5 if flip else 0.0)
    for i in range(start, len(data) // size):
        chosen = order[i * size : (i + 1) * size].tolist()
        yield collate([mirror(*data[n]) if mirrored[n] else data[n] for n in chosen])


def mirror(image: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """An image ``[C, H, W]`` and its target, left to right."""
    width = image.shape[-1]
    changed = dict(target)
    changed["boxes"] = torch.stack(
        (width - target["boxes"][:, 2], target["boxes"][:, 1], width - target["boxes"][:, 0], target["boxes"][:, 3]), 1
    )
    if "masks" in target:
        changed["masks"] = target["masks"].flip(-1)
    return image.flip(-1), changed
