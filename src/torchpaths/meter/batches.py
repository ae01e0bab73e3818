"""Which batches a network that decides is measured on: of small ones several, since images differ in what they open."""

from __future__ import annotations

import torch
from torch import Tensor

from torchpaths.errors import MeasureError

IMAGES = 16
"""Images that times are over, at least."""


def in_batches(images: Tensor, batch: int) -> tuple[Tensor, ...]:
    """Batches that hold `IMAGES` images together or, if they are larger, one.

    Args:
        images: ``[image, ...]``; taken in order, from the start again where they do not reach.
        batch: images in a batch.

    Raises:
        MeasureError: for no images, or a batch below 1.
    """
    if batch < 1 or len(images) == 0:
        raise MeasureError(f"batches of {batch} from {len(images)} images: give at least one image and a batch of 1.")
    count = max(1, IMAGES // batch)
    rows = torch.arange(count * batch, device=images.device) % len(images)
    return torch.split(images[rows], batch)
