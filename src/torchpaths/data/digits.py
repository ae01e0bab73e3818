"""scikit-learn's own scans of handwritten digits: 1,797 grey images of 8 x 8 pixels, on every machine, no download."""

from __future__ import annotations

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from torchpaths.data.decode import Form
from torchpaths.data.images import ImageSet
from torchpaths.data.scaling import UNCUT, Scaling


def digits(
    split: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    scaling: Scaling = UNCUT,
) -> ImageSet:
    """The digits, every fifth image of each class for testing: 1,442 for training, 355 for testing.

    Neighbours come from the same writers, so every fifth is an even sample of them. The 17 grey levels are spread over
    0 to 255.

    Args:
        split: "train", anything else is the test split.
        size: scale the images to this side.
        channels: 3 repeats the grey channel.
        scaling: with ``size``, how they are.
    """
    data = load_digits()
    labels = np.asarray(data.target, dtype=np.int64)
    nth = np.empty(len(labels), dtype=np.int64)
    for label in range(10):
        members = np.flatnonzero(labels == label)
        nth[members] = np.arange(len(members))
    chosen = np.flatnonzero((nth % 5 != 4) if split == "train" else (nth % 5 == 4))
    pixels = np.round(np.asarray(data.images) * (255 / 16)).astype(np.uint8)[chosen]
    form = Form(size or 8, size or 8, channels or 1, scale=size is not None, scaling=scaling)
    images = np.stack([form(Image.fromarray(p), f"digits, image {i}") for i, p in zip(chosen, pixels, strict=True)])
    return ImageSet("digits", split, tuple(map(str, data.target_names)), labels[chosen], images)
