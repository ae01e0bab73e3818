"""COCO's average precision of a detector along any path (Lin et al., "Microsoft COCO", 2014; cocodataset.org,
"Detection evaluation"), computed by faster-coco-eval."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import numpy as np
from torch import Tensor

from torchpaths.detection.coco import CocoSet, collate
from torchpaths.detection.masks import encode
from torchpaths.fronts.evaluate import undisturbed
from torchpaths.optional import need
from torchpaths.path import Path
from torchpaths.routed import Routed

Kind: TypeAlias = Literal["box", "mask"]
"""What must overlap for an object to count as found."""

Precision: TypeAlias = dict[str, float | None]
"""COCO's twelve numbers by name, 0 to 1; None where the set has no such objects."""

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""Average precision over IoU 0.50 to 0.95, at 0.50, at 0.75, of small, medium and large objects (areas below 32^2,
below 96^2, above); average recall with 1, 10 and 100 detections an image, and with 100 by size."""

_MASK_AT = 0.5
"""Probability from which a pixel belongs to a mask, as in Mask R-CNN."""


def evaluate(net: Routed, data: CocoSet, path: Path | None = None, *, batch: int = 8) -> dict[Kind, Precision]:
    """COCO's numbers of a detector.

    Args:
        net: a routed detector of torchvision's form; evaluated in evaluation mode and left as it was.
        data: images and objects.
        path: at which depth; None leaves it to the switches.
        batch: images at once.

    Returns:
        "box" and, if the set has masks and the detector makes some, "mask" -> AP, AP50, ...; see `METRICS`.
    """
    found = detect(net, data, path, batch=batch)
    masked = data.masks and any("segmentation" in entry for entry in found)
    kinds: tuple[Kind, ...] = ("box", "mask") if masked else ("box",)
    return {kind: average_precision(data, found, kind) for kind in kinds}


def detect(net: Routed, data: CocoSet, path: Path | None = None, *, batch: int = 8) -> list[dict[str, Any]]:
    """What a detector finds, as a list of COCO results: "image_id", "category_id", "bbox" (x, y, width, height),
    "score" and, of a detector with masks, "segmentation". Arguments as `evaluate`."""
    device = next(net.parameters()).device
    found: list[dict[str, Any]] = []
    with undisturbed(net):
        for start in range(0, len(data), batch):
            numbers = range(start, min(start + batch, len(data)))
            images, _ = collate([data[i] for i in numbers])
            outputs, _ = net([image.to(device) for image in images], path)
            for i, output in zip(numbers, outputs, strict=True):
                found += _results(data, i, {name: value.cpu() for name, value in output.items()})
    return found


def _results(data: CocoSet, i: int, output: dict[str, Tensor]) -> list[dict[str, Any]]:
    """One image's detections."""
    boxes = output["boxes"].double()
    boxes[:, 2:] -= boxes[:, :2]
    entries: list[dict[str, Any]] = [
        {"image_id": data.pictures[i].id, "category_id": data.category(label), "bbox": box, "score": score}
        for label, box, score in zip(
            output["labels"].tolist(), boxes.tolist(), output["scores"].double().tolist(), strict=True
        )
    ]
    if "masks" in output:
        for entry, mask in zip(entries, output["masks"], strict=True):
            entry["segmentation"] = encode((mask[0] >= _MASK_AT).numpy().astype(np.uint8))
    return entries


def average_precision(data: CocoSet, found: Sequence[dict[str, Any]], kind: Kind = "box") -> Precision:
    """COCO's numbers of detections.

    Args:
        data: images and objects.
        found: a list of COCO results, as `detect` gives it.
        kind: whether boxes or masks must overlap.
    """
    library = need("faster_coco_eval", "detection")
    # The library changes what it is given, and tells of each step.
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        truth = library.COCO(data.truth)
        seen = truth.loadRes(copy.deepcopy([_of(entry, kind) for entry in found]))
        run = library.COCOeval_faster(truth, seen, iouType={"box": "bbox", "mask": "segm"}[kind])
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {name: None if value < 0 else float(value) for name, value in zip(METRICS, run.stats, strict=False)}


def _of(entry: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """A result with what its kind compares alone: from a box beside a mask the library would take the object's area."""
    return {name: value for name, value in entry.items() if name != ("bbox" if kind == "mask" else "segmentation")}
