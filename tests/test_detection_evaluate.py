"""COCO's average precision: that of pycocotools, along any path."""

from __future__ import annotations

import contextlib
import io
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import torchpaths as tp
from detection_toys import coco, pictures, routed
from torchpaths.detection import CocoSet, average_precision, detect, evaluate, shapes
from torchpaths.detection.evaluate import METRICS, Kind
from torchpaths.detection.masks import decode, encode
from torchpaths.errors import DataError


def crowded(seed: int = 0) -> CocoSet:
    """Images of 200 x 200 with objects of all sizes and two categories; every fifth is a crowd, an image has none."""
    rng = np.random.default_rng(seed)
    images = [{"id": n, "file_name": "", "height": 200, "width": 200} for n in (3, 5, 8, 13)]
    entries: list[dict[str, Any]] = []
    for number in (3, 5, 8):
        for _ in range(8):
            w, h = rng.integers(6, 120, 2)
            x, y = int(rng.integers(0, 200 - w)), int(rng.integers(0, 200 - h))
            mask = np.zeros((200, 200), np.uint8)
            mask[y : y + h, x : x + w] = rng.random((h, w)) < 0.8
            entries.append(
                {
                    "id": len(entries) + 1,
                    "image_id": number,
                    "category_id": int(rng.choice([2, 7])),
                    "bbox": [x, y, int(w), int(h)],
                    "area": int(mask.sum()),
                    "iscrowd": int(len(entries) % 5 == 0),
                    "segmentation": encode(mask),
                }
            )
    categories = [{"id": 7, "name": "b"}, {"id": 2, "name": "a"}, {"id": 9, "name": "never"}]
    arrays = {n: np.zeros((200, 200, 3), np.uint8) for n in (3, 5, 8, 13)}
    return CocoSet({"images": images, "annotations": entries, "categories": categories}, arrays)


def guesses(data: CocoSet, seed: int = 1) -> list[dict[str, Any]]:
    """Detections near the objects, some twice, some of the wrong category, some of nothing."""
    rng = np.random.default_rng(seed)
    found = []
    for entry in data.truth["annotations"]:
        for _ in range(rng.integers(0, 3)):
            shift = rng.integers(-4, 5, 2)
            mask = np.roll(decode(entry["segmentation"], 200, 200), shift, (1, 0))
            x, y, w, h = entry["bbox"]
            found.append(
                {
                    "image_id": entry["image_id"],
                    "category_id": int(entry["category_id"]) if rng.random() < 0.8 else 2,
                    "bbox": [float(x + shift[0]), float(y + shift[1]), float(w) * rng.uniform(0.8, 1.2), float(h)],
                    "score": float(rng.random()),
                    "segmentation": encode(mask),
                }
            )
    found.append({**found[0], "image_id": 13, "score": 0.99})
    return found


def by_pycocotools(data: CocoSet, found: list[dict[str, Any]], kind: Kind) -> list[float]:
    names = (
        ("bbox", "score", "image_id", "category_id")
        if kind == "box"
        else ("segmentation", "score", "image_id", "category_id")
    )
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = data.truth
        truth.createIndex()
        run = COCOeval(
            truth, truth.loadRes([{n: f[n] for n in names} for f in found]), {"box": "bbox", "mask": "segm"}[kind]
        )
        run.evaluate()
        run.accumulate()
        run.summarize()
    return [float(value) for value in run.stats]


@pytest.mark.parametrize("kind", ["box", "mask"])
@pytest.mark.parametrize("seed", [0, 1])
def test_average_precision_is_that_of_pycocotools(kind: Kind, seed: int) -> None:
    data = crowded(seed)
    found = guesses(data)
    expected = by_pycocotools(data, found, kind)
    assert 0.05 < expected[0] < 0.9
    ours = average_precision(data, found, kind)
    assert list(ours) == list(METRICS)
    assert [-1 if v is None else v for v in ours.values()] == pytest.approx(expected, abs=1e-9)


def test_the_truth_itself_scores_one_and_nothing_scores_zero() -> None:
    data = shapes(8, size=48)
    truth = [{**entry, "score": 1.0} for entry in data.truth["annotations"]]
    for kind in get_args(Kind):
        assert average_precision(data, truth, kind)["AP"] == pytest.approx(1)
        assert average_precision(data, [], kind)["AP"] == 0


def test_sizes_without_objects_have_no_number() -> None:
    found = average_precision(shapes(2, size=32, most=1), [], "box")
    assert found["APl"] is None
    assert found["APs"] == 0


def test_detections_carry_the_ids_of_the_file() -> None:
    data = CocoSet(coco(), pictures((30, 40), (50, 20), (30, 30)))
    net = routed(None, masks=True, classes=3)
    found = detect(net, data, batch=2)
    assert {entry["image_id"] for entry in found} <= {10, 20, 30}
    assert {entry["category_id"] for entry in found} <= {3, 18}
    assert found
    for entry in found:
        height, width = entry["segmentation"]["size"]
        x, y, w, h = entry["bbox"]
        assert (height, width) == {10: (30, 40), 20: (50, 20), 30: (30, 30)}[entry["image_id"]]
        assert -1e-3 <= x <= x + w <= width + 1e-3
        assert -1e-3 <= y <= y + h <= height + 1e-3


def test_a_detector_of_more_classes_than_the_data_is_refused() -> None:
    data = CocoSet(coco(), pictures((30, 40), (50, 20), (30, 30)))
    with pytest.raises(DataError, match=r"label 3 is of no category of annotations, which has 2; .* num_classes=3"):
        detect(routed(None), data)


def test_crowds_and_polygons_count_as_in_pycocotools() -> None:
    data = CocoSet(coco(), pictures((30, 40), (50, 20), (30, 30)))
    boxes = {10: [6, 6, 10, 12], 20: [1, 1, 8, 8]}
    found = []
    for n, (height, width) in ((10, (30, 40)), (20, (50, 20))):
        x, y, w, h = boxes[n]
        mask = np.zeros((height, width), np.uint8)
        mask[y : y + h, x : x + w] = 1
        category = 18 if n == 10 else 3
        box = [float(v) for v in boxes[n]]
        found.append({"image_id": n, "category_id": category, "bbox": box, "score": 0.9, "segmentation": encode(mask)})
    for kind in get_args(Kind):
        ours = average_precision(data, found, kind)
        expected = by_pycocotools(data, found, kind)
        assert [-1 if v is None else v for v in ours.values()] == pytest.approx(expected, abs=1e-9)
        assert 0 < expected[1] < 1, "one dog found, one car not, the detection in the crowd excused"


def test_any_path_is_evaluated_and_the_network_is_left_as_it_was() -> None:
    method = tp.AdaptiveDepth()
    net = routed(method, masks=True).train()
    data = shapes(4, size=64)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    outputs = {skip: detect(net, data, method.path(net, skip)) for skip in ("FF", "TF", "FT", "TT")}
    assert all(a != b for skip, a in outputs.items() for other, b in outputs.items() if skip != other)
    found = evaluate(net, data, method.path(net, "TF"))
    assert set(found) == {"box", "mask"}
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_detector_without_masks_is_evaluated_by_boxes_alone() -> None:
    assert set(evaluate(routed(None), shapes(2, size=64))) == {"box"}
