"""``CocoSet``: images and objects in COCO's layout, as torchvision's detectors take them.

Labels are 1, 2, ... in the order of category ids, whatever those are (COCO's own go from 1 to 90 with gaps); 0 is the
background. Crowds, which stand for many objects at once, are left out of training, as in Faster R-CNN's and Mask
R-CNN's reference code, and kept for evaluation, where they excuse detections. An image without objects stays: it
teaches what background is.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.detection.annotations import Instance, Json, read_annotations
from torchpaths.detection.masks import check, decode
from torchpaths.detection.pictures import open_pictures
from torchpaths.errors import DataError


class CocoSet:
    """A set of images with boxes, and masks where there are some.

    Attributes:
        name: what errors and records call it.
        classes: names by label; the first is the background.
        masks: whether objects come with masks.
    """

    def __init__(
        self,
        annotations: pathlib.Path | str | Json,
        images: pathlib.Path | str | Mapping[int, NDArray[np.uint8]],
        *,
        masks: bool | None = None,
        skip_invalid: bool = False,
    ) -> None:
        """
        Args:
            annotations: COCO's JSON file, or what it would hold.
            images: a folder that holds each ``file_name``; a Parquet file with columns ``image`` and ``image_id``; or
                arrays uint8 ``[H, W, 3]`` by image number.
            masks: read masks too; None does where the annotations have any.
            skip_invalid: leave out objects with impossible boxes, with a warning; otherwise one is an error.

        Raises:
            DataError: for annotations that are no COCO file or contradict themselves, and for images that are not
                there; see `torchpaths.detection.annotations.read_annotations`.
        """
        found = read_annotations(annotations, skip_invalid)
        self.name = found.where
        self.pictures = found.pictures
        self._places = open_pictures(images)
        self._places.check(self.pictures)
        self._instances = found.instances
        self._categories = tuple(found.categories)
        self._labels = {category: label for label, category in enumerate(self._categories, 1)}
        self.classes = ("background", *found.categories.values())
        objects = [instance for each in found.instances.values() for instance in each]
        self.masks = any(o.segmentation is not None for o in objects) if masks is None else masks
        bare = [o for o in objects if o.segmentation is None]
        if self.masks and bare:
            raise DataError(
                f"{self.name}: {len(bare)} of {len(objects)} objects have no segmentation, annotation {bare[0].id} "
                "first; add theirs, or give masks=False to read boxes alone."
            )
        if self.masks:
            for picture in self.pictures:
                for o in self._instances[picture.id]:
                    check(o.segmentation, picture.height, picture.width, f"{self.name}, annotation {o.id}")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pictures)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        """An image, float32 ``[3, H, W]`` in 0 to 1, and its target.

        The target has "boxes" ``[N, 4]`` (x0, y0, x1, y1 in pixels), "labels" int64 ``[N]`` and, in a set with masks,
        "masks" uint8 ``[N, H, W]``; crowds are left out.

        Raises:
            DataError: for an image that cannot be decoded or is of another size than its annotations say.
        """
        picture = self.pictures[i]
        pixels = self._places.read(picture)
        if pixels.shape != (picture.height, picture.width, 3):
            height, width, *_ = pixels.shape
            raise DataError(
                f"{self._places.where(picture)}: the image is {width} x {height}, its annotations in {self.name} are "
                f"for {picture.width} x {picture.height}; scale one to the other."
            )
        objects = [instance for instance in self._instances[picture.id] if not instance.crowd]
        target = {
            "boxes": torch.tensor([o.box for o in objects], dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor([self._labels[o.category] for o in objects], dtype=torch.int64),
        }
        if self.masks:
            stack = [torch.from_numpy(decode(o.segmentation, picture.height, picture.width)) for o in objects]
            target["masks"] = torch.stack(stack) if stack else torch.zeros(0, picture.height, picture.width).byte()
        return torch.tensor(pixels).permute(2, 0, 1).float() / 255, target

    def __iter__(self) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        """All images in order."""
        return (self[i] for i in range(len(self)))

    def category(self, label: int) -> int:
        """The category id of a label from 1.

        Raises:
            DataError: for a label that no category has.
        """
        if not 1 <= label <= len(self._categories):
            raise DataError(
                f"label {label} is of no category of {self.name}, which has {len(self._categories)}; make the detector "
                f"with num_classes={len(self.classes)}, the background counted."
            )
        return self._categories[label - 1]

    def label(self, category: int) -> int:
        """The label of a category id."""
        return self._labels[category]

    @property
    def truth(self) -> dict[str, Any]:
        """What evaluation compares with, crowds included: a COCO data set as it was read and checked."""
        return {
            "info": {},
            "images": [
                {"id": p.id, "height": p.height, "width": p.width, "file_name": p.file_name} for p in self.pictures
            ],
            "categories": [{"id": c, "name": n} for c, n in zip(self._categories, self.classes[1:], strict=True)],
            "annotations": [self._entry(o) for each in self._instances.values() for o in each],
        }

    def _entry(self, instance: Instance) -> dict[str, Any]:
        x0, y0, x1, y1 = instance.box
        entry = {
            "id": instance.id,
            "image_id": instance.image,
            "category_id": instance.category,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": instance.area,
            "iscrowd": int(instance.crowd),
        }
        return {**entry, "segmentation": instance.segmentation} if self.masks else entry

    @property
    def json(self) -> dict[str, Any]:
        """What a run folder keeps of it."""
        objects = sum(map(len, self._instances.values()))
        return {"images": len(self), "objects": objects, "classes": list(self.classes[1:]), "masks": self.masks}


def collate(samples: Sequence[tuple[Tensor, dict[str, Tensor]]]) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Samples as a detector takes them: a list of images of their own sizes, and their targets."""
    return [image for image, _ in samples], [target for _, target in samples]
