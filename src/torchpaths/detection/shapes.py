"""Made-up images of circles, rectangles and triangles, with boxes and masks in COCO's layout: a data set of no bytes.

Every image is a function of (seed, its number), so sets of different sizes begin alike, and training and test images
come from different seeds. Shapes may cover each other: a mask holds what can be seen, a box what is around it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from torchpaths.detection.coco import CocoSet
from torchpaths.detection.masks import encode

KINDS = ("circle", "rectangle", "triangle")
"""Categories 1, 2 and 3."""

VISIBLE = 0.5
"""Share of a shape that must be seen for it to stay in the image."""


def shapes(images: int, *, size: int = 96, most: int = 4, seed: int = 0) -> CocoSet:
    """A set of images with one to ``most`` shapes each.

    Args:
        images: how many.
        size: side of an image in pixels, at least 32.
        most: shapes in an image, at most; fewer where they would cover each other.
        seed: other seeds give other images.

    Raises:
        ValueError: for numbers out of range.
    """
    if images < 1 or size < 32 or most < 1:
        raise ValueError(f"shapes({images}, size={size}, most={most}): at least 1 image of 32 pixels with 1 shape.")
    arrays: dict[int, NDArray[np.uint8]] = {}
    annotations: list[dict[str, Any]] = []
    for number in range(1, images + 1):
        arrays[number], masks = _draw(np.random.default_rng((seed, number)), size, most)
        for kind, mask in masks:
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            x, y = int(columns[0]), int(rows[0])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": kind + 1,
                    "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
                    "area": int(mask.sum()),
                    "iscrowd": 0,
                    "segmentation": encode(mask),
                }
            )
    listed = [{"id": n, "file_name": f"shapes-{n}.png", "height": size, "width": size} for n in arrays]
    categories = [{"id": i, "name": name} for i, name in enumerate(KINDS, 1)]
    return CocoSet({"images": listed, "annotations": annotations, "categories": categories}, arrays)


def _draw(
    rng: np.random.Generator, size: int, most: int
) -> tuple[NDArray[np.uint8], list[tuple[int, NDArray[np.uint8]]]]:
    """An image and the masks of what can be seen in it."""
    image = rng.integers(0, 256, 3) + rng.normal(0, 12, (size, size, 3))  # one colour, and noise
    drawn: list[tuple[int, NDArray[np.uint8], int]] = []
    for _ in range(rng.integers(1, most + 1)):
        kind = int(rng.integers(len(KINDS)))
        mask = _shape(rng, kind, size)
        left = [(k, seen * (1 - mask), whole) for k, seen, whole in drawn]
        if all(seen.sum() >= VISIBLE * whole for _, seen, whole in left):
            drawn = [*left, (kind, mask, int(mask.sum()))]
            image[mask == 1] = rng.integers(0, 256, 3) + rng.normal(0, 12, (int(mask.sum()), 3))
    return image.clip(0, 255).astype(np.uint8), [(kind, seen) for kind, seen, _ in drawn]


def _shape(rng: np.random.Generator, kind: int, size: int) -> NDArray[np.uint8]:
    """A mask of one shape that lies wholly within the image."""
    w, h = (int(n) for n in rng.integers(size // 5, size // 2, 2))
    if kind == 0:
        h = w
    x, y = int(rng.integers(0, size - w)), int(rng.integers(0, size - h))
    canvas = Image.new("L", (size, size))
    pen = ImageDraw.Draw(canvas)
    match KINDS[kind]:
        case "circle":
            pen.ellipse((x, y, x + w, y + h), fill=1)
        case "rectangle":
            pen.rectangle((x, y, x + w, y + h), fill=1)
        case _:
            pen.polygon([(x, y + h), (x + w, y + h), (x + int(rng.integers(0, w + 1)), y)], fill=1)
    return np.asarray(canvas)
