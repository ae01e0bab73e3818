"""COCO's layout: what is read, and what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pycocotools import mask as reference

from detection_toys import COCO, SIZES, coco, pictures
from shared import SHARED, encode, needs_shared
from torchpaths.detection import CocoSet, collate, shapes
from torchpaths.detection import masks as masking
from torchpaths.detection.batches import batches, mirror
from torchpaths.errors import DataError

IMAGES = pictures(*SIZES)


def opened(**changes: Any) -> CocoSet:
    return CocoSet(coco(**changes), IMAGES)


def folder(root: Path) -> Path:
    for entry in COCO["images"]:
        file = root / entry["file_name"]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode(IMAGES[entry["id"]]))
    return root


def parquet(file: Path, numbers: list[int | None], data: list[bytes]) -> Path:
    rows = [{"bytes": each, "path": "x.png"} for each in data]
    pq.write_table(pa.table({"image": rows, "image_id": pa.array(numbers, pa.int64())}), file)
    return file


# --- what is read --------------------------------------------------------------------------------------------------


def test_labels_follow_category_ids_with_gaps_and_lead_back() -> None:
    data = opened()
    assert data.classes == ("background", "car", "dog")
    assert [(data.label(c), data.category(data.label(c))) for c in (3, 18)] == [(1, 3), (2, 18)]
    assert data[0][1]["labels"].tolist() == [2]


def test_boxes_become_corners_and_images_lie_between_0_and_1() -> None:
    image, target = opened()[1]
    assert target["boxes"].tolist() == [[2.5, 10, 10.5, 40.5]]
    assert torch.equal((image * 255).round().byte().permute(1, 2, 0), torch.from_numpy(IMAGES[20]))


def test_crowds_are_left_out_of_training_and_kept_for_evaluation() -> None:
    data = opened()
    assert len(data[1][1]["boxes"]) == 1
    assert [entry["iscrowd"] for entry in data.truth["annotations"]] == [0, 1, 0]


def test_an_image_without_objects_is_kept() -> None:
    _, target = opened()[2]
    assert {name: tuple(value.shape) for name, value in target.items()} == {
        "boxes": (0, 4),
        "labels": (0,),
        "masks": (0, 30, 30),
    }


def test_masks_of_polygons_and_run_lengths_are_those_of_pycocotools() -> None:
    polygon = COCO["annotations"][2]["segmentation"]
    expected = reference.decode(reference.merge(reference.frPyObjects(polygon, 50, 20)))
    assert expected.sum() > 50
    np.testing.assert_array_equal(opened()[1][1]["masks"][0].numpy(), expected)
    lengths = COCO["annotations"][1]["segmentation"]
    top = np.zeros((50, 20), np.uint8)
    top[:25] = 1
    np.testing.assert_array_equal(masking.decode(lengths, 50, 20), top)
    text = reference.encode(np.asfortranarray(expected))
    for counts in (text["counts"], text["counts"].decode()):
        np.testing.assert_array_equal(masking.decode({**text, "counts": counts}, 50, 20), expected)
    assert masking.encode(expected) == {"size": [50, 20], "counts": text["counts"].decode()}


def test_boxes_alone_are_read_where_there_are_no_masks_or_none_are_wanted() -> None:
    assert not CocoSet(coco(), IMAGES, masks=False).masks
    bare = coco(annotations__0__segmentation=None, annotations__1__segmentation=[], annotations__2__segmentation=None)
    data = CocoSet(bare, IMAGES)
    assert set(data[0][1]) == {"boxes", "labels"}
    assert "segmentation" not in data.truth["annotations"][0]


def test_a_box_that_rounding_brought_outside_is_cut_off() -> None:
    data = opened(annotations__0__bbox=[-0.4, 6, 41, 24.6])
    assert data[0][1]["boxes"].tolist() == [[0, 6, 40, 30]]


def test_impossible_boxes_can_be_left_out_with_a_warning() -> None:
    made = coco(annotations__0__bbox=[5, 6, 10, 0])
    with pytest.warns(UserWarning, match=r"1 objects were left out, the first: annotations, annotations\[0\]: the box"):
        data = CocoSet(made, IMAGES, skip_invalid=True)
    assert len(data[0][1]["boxes"]) == 0
    assert len(data.truth["annotations"]) == 2


def test_a_folder_a_parquet_file_and_arrays_give_the_same_images(tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(COCO))
    rows = parquet(tmp_path / "images.parquet", [30, 20, 10], [encode(IMAGES[n]) for n in (30, 20, 10)])
    sets = [CocoSet(file, folder(tmp_path / "images")), CocoSet(str(file), rows), opened()]
    for i in range(3):
        first, *others = (data[i] for data in sets)
        assert all(torch.equal(first[0], image) for image, _ in others)
        assert all(torch.equal(first[1]["masks"], target["masks"]) for _, target in others)
    images, targets = collate(list(sets[0]))
    assert [tuple(image.shape) for image in images] == [(3, *size) for size in SIZES]
    assert len(targets) == 3


@needs_shared
def test_the_raccoons_are_read() -> None:
    root = SHARED / "data" / "raccoon"
    train, val = (CocoSet(root / f"annotations_{s}.json", root / "images.parquet") for s in ("train", "val"))
    assert (len(train), len(val), val.classes, val.masks) == (160, 40, ("background", "raccoon"), False)
    image, target = val[0]
    assert tuple(image.shape) == (3, 183, 275)
    assert target["boxes"].tolist() == [[21, 11, 200, 183]]


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "annotations has no list 'images'; COCO's layout needs"),
        ({"annotations": {}}, "annotations has no list 'annotations'"),
        ({"images": []}, r"belongs to image 10, which 'images' does not list"),
        ({"images": [], "annotations": []}, "lists no images"),
        ({"categories": [], "annotations": []}, "lists no categories"),
        ({"images__1": 7}, r"images\[1\] is 7, not an object"),
        ({"images__1__id": 10}, r"images\[1\]: id 10 is that of images\[0\] too; give each its own"),
        ({"annotations__2__id": 1}, r"annotations\[2\]: id 1 is that of annotations\[0\] too"),
        ({"categories__1__id": 18}, r"categories\[1\]: id 18 is that of categories\[0\] too"),
        ({"annotations__0__image_id": 11}, r"annotations\[0\] belongs to image 11, .* add the image or remove it"),
        (
            {"annotations__0__category_id": 4},
            r"annotations\[0\]: category 4 is unknown; listed are 18 \(dog\), 3 \(car\)",
        ),
        (
            {"annotations__0__bbox": [5, 6, 0, 12]},
            r"annotations\[0\]: the box .* has no area .*; correct it, or give skip",
        ),
        ({"annotations__0__bbox": [5, 6, 10, -2]}, "has no area"),
        ({"annotations__0__bbox": [5, 6, 40, 12]}, "reaches 5 pixels outside image 10 of 40 x 30"),
        ({"annotations__0__bbox": [41, 6, 0.5, 12]}, "outside image 10"),
        ({"annotations__0__bbox": [5, 6, 10]}, r"'bbox' is \[5, 6, 10\]; it must be \[x, y, w, h\]"),
        ({"annotations__0__bbox": [5, 6, 10, float("nan")]}, r"'bbox' is .*nan.*; it must be"),
        ({"annotations__0__bbox": None}, r"annotations\[0\] has no 'bbox'; add it"),
        ({"annotations__0__area": -1}, "'area' is -1; it must be a number of square pixels"),
        ({"annotations__0__id": "one"}, "'id' is 'one'; it must be a whole number"),
        ({"images__0__height": 0}, "'height' is 0; it must be a whole number of at least 1"),
        ({"images__0__file_name": 3}, "'file_name' is 3; it must be text"),
        ({"categories__0__name": 5}, "'name' is 5; it must be text"),
        (
            {"annotations__0__segmentation": None},
            "1 of 3 objects have no segmentation, annotation 1 first; .* masks=False",
        ),
    ],
)
def test_annotations_that_contradict_themselves_are_refused(changes: dict[str, Any], message: str) -> None:
    made = coco(**{k: v for k, v in changes.items() if v is not None or "__" in k})
    for name in (k for k, v in changes.items() if v is None and "__" not in k):
        del made[name]
    with pytest.raises(DataError, match=message):
        CocoSet(made, IMAGES)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[5, 6, 15, 6]], "annotation 1: 'segmentation' must be polygons of three corners"),
        ([[5, 6, 15, 6, 15, 18, 5]], "must be polygons"),
        ([["a"] * 6], "must be polygons"),
        ("text", "must be polygons"),
        ({"size": [40, 30], "counts": [1200]}, r"run lengths of size \[40, 30\] .* do not fill the image's 30 x 40"),
        ({"size": [30, 40], "counts": [7]}, "that hold 7 pixels do not fill"),
        ({"size": [30, 40], "counts": [-1, 1201]}, "that hold no run lengths"),
        ({"size": [30, 40], "counts": "zzzz"}, "that hold no run lengths"),
        ({"size": [30, 40], "counts": "1"}, "that hold 1 pixels do not fill"),
        ({"counts": [1200]}, "run lengths of size None"),
        ({"size": 1200, "counts": [1200]}, "run lengths of size 1200"),
        ({"size": [30, 40], "counts": "P" * 10**6}, "that hold no run lengths"),
        ([5, 6, 15, 6, 15, 18], "must be polygons"),
        ([[5, 6, 15, 6, 1e9, 18]], r"a corner at x = 1e\+09, far outside the image of 40 x 30; .* masks=False"),
        ([[5, 6, 15, -31, 15, 18]], "a corner at y = -31, far outside"),
        ([[5, 6, True, 6, 15, 18]], "must be polygons"),
    ],
)
def test_masks_that_do_not_fit_are_refused(segmentation: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        opened(annotations__0__segmentation=segmentation)


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    with pytest.raises(DataError, match=r"annotations.json cannot be read .*; check the path"):
        CocoSet(file, IMAGES)
    file.write_text(json.dumps(COCO)[:-30])
    with pytest.raises(DataError, match=r"not JSON .* copy it again"):
        CocoSet(file, IMAGES)
    file.write_text("[]")
    with pytest.raises(DataError, match="has no list 'images'"):
        CocoSet(file, IMAGES)


def test_an_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "images")
    (root / "sub" / "c.png").unlink()
    with pytest.raises(DataError, match=r"image 30 is not at .*sub/c.png \(1 of 3 are missing\)"):
        CocoSet(COCO, root)
    with pytest.raises(DataError, match=r"image 10 is not at .*\(no file_name\)"):
        CocoSet(coco(images__0__file_name=None), root)
    with pytest.raises(DataError, match="number 20"):
        CocoSet(COCO, {n: IMAGES[n] for n in (10, 30)})
    rows = parquet(tmp_path / "images.parquet", [10, 20], [b"", b""])
    with pytest.raises(DataError, match=r"images.parquet, image_id 30 \(1 of 3"):
        CocoSet(COCO, rows)
    with pytest.raises(DataError, match="neither a folder of images nor a Parquet file"):
        CocoSet(COCO, tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "sub/../../a.png", "sub\\..\\a.png", "c:a.png"])
def test_a_file_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    root = folder(tmp_path / "images")
    (tmp_path / "a.png").write_bytes(encode(IMAGES[10]))
    with pytest.raises(DataError, match=r"image 10: 'file_name' .* leads out of .*images, .* names within it"):
        CocoSet(coco(images__0__file_name=name), root)
    assert len(CocoSet(coco(images__0__file_name=name), IMAGES)) == 3, "names of files that are not read do not matter"


def test_a_photo_is_turned_as_its_annotations_were_drawn(tmp_path: Path) -> None:
    root = folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: the pixels lie on their side
    upright = Image.fromarray(IMAGES[10])
    upright.transpose(Image.Transpose.ROTATE_90).save(root / "a.png", exif=exif)
    as_seen = CocoSet(COCO, root)[0][0]
    assert np.array_equal((as_seen * 255).round().byte().permute(1, 2, 0).numpy(), IMAGES[10])
    upright.save(root / "a.png", exif=exif)  # annotations of the pixels as stored, which another tool drew on
    assert torch.equal(CocoSet(COCO, root)[0][0], as_seen)


def test_a_corrupt_image_is_named(tmp_path: Path) -> None:
    root = folder(tmp_path / "images")
    (root / "a.png").write_bytes(encode(IMAGES[10])[:200])
    with pytest.raises(DataError, match=r"a.png: the image cannot be decoded \(.*\); copy it again"):
        CocoSet(COCO, root)[0]
    rows = parquet(tmp_path / "images.parquet", [10, 20, 30], [b"", b"no image", b""])
    with pytest.raises(DataError, match=r"images.parquet, row 1: the image cannot be decoded"):
        CocoSet(COCO, rows)[1]
    data = CocoSet(COCO, folder(tmp_path / "images"))
    (root / "a.png").unlink()
    with pytest.raises(DataError, match=r"a.png cannot be read \(No such file"):
        data[0]


@pytest.mark.parametrize(
    ("image", "level"),
    [
        (Image.new("L", (40, 30), 7), 7),
        (Image.fromarray(np.full((30, 40), 257 * 7, np.uint16)), 7),
        (Image.new("RGBA", (40, 30), (1, 2, 3, 0)), 255),
    ],
)
def test_grey_16_bits_and_what_is_clear_are_read_as_a_viewer_shows_them(
    tmp_path: Path, image: Image.Image, level: int
) -> None:
    root = folder(tmp_path)
    image.save(root / "a.png")
    assert torch.equal(CocoSet(COCO, root)[0][0], torch.full((3, 30, 40), level / 255))


def test_an_image_of_another_size_than_its_annotations_say_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path)
    buffer = io.BytesIO()
    Image.fromarray(IMAGES[10]).transpose(Image.Transpose.ROTATE_90).save(buffer, "PNG")
    (root / "a.png").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"a.png: the image is 30 x 40, its annotations .* are for 40 x 30; scale"):
        CocoSet(COCO, root)[0]


def test_a_parquet_file_that_cannot_serve_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "images.parquet"
    with pytest.raises(DataError, match="row 1: image_id 20 is no number of its own"):
        CocoSet(COCO, parquet(file, [10, 20, 20], [b""] * 3))
    with pytest.raises(DataError, match="row 2: image_id None"):
        CocoSet(COCO, parquet(file, [10, 20, None], [b""] * 3))
    pq.write_table(pa.table({"image": [1], "image_id": [10]}), file)
    with pytest.raises(DataError, match=r"needs columns 'image' .* and 'image_id'; it has image, image_id"):
        CocoSet(COCO, file)
    pq.write_table(pa.table({"picture": [1]}), file)
    with pytest.raises(DataError, match="it has picture"):
        CocoSet(COCO, file)
    file.write_bytes(b"PAR1")
    with pytest.raises(DataError, match="no whole Parquet file"):
        CocoSet(COCO, file)


# --- batches and shapes --------------------------------------------------------------------------------------------


def test_a_mirrored_image_has_mirrored_boxes_and_masks() -> None:
    image, target = opened()[0]
    other, changed = mirror(image, target)
    x0, y0, x1, y1 = changed["boxes"][0].int().tolist()
    assert torch.equal(other[:, y0:y1, x0:x1].flip(-1), image[:, 6:18, 5:15])
    assert changed["masks"][0, y0:y1, x0:x1].all()
    assert torch.equal(mirror(other, changed)[1]["boxes"], target["boxes"])


def test_batches_depend_on_seed_and_epoch_and_begin_anywhere() -> None:
    data = shapes(10, size=32, most=1)

    def taken(seed: int, epoch: int, start: int = 0) -> list[float]:
        return [
            float(image.sum())
            for images, _ in batches(data, 3, seed=seed, epoch=epoch, start=start)
            for image in images
        ]

    assert len(taken(0, 0)) == 9, "an incomplete last batch is left out"
    assert len(set(taken(0, 0))) == 9
    assert taken(0, 0) == taken(0, 0)
    assert taken(0, 0, start=2) == taken(0, 0)[6:]
    assert taken(0, 0) != taken(0, 1)
    assert taken(0, 0) != taken(1, 0)


def test_half_of_the_images_are_mirrored_unless_none_are_to_be() -> None:
    data = shapes(40, size=32, most=1)
    first_pixels = {float(data[i][0][0, 0, 0]) for i in range(40)}

    def kept(flip: bool) -> int:
        images = [image for images, _ in batches(data, 4, seed=0, epoch=0, flip=flip) for image in images]
        return sum(float(image[0, 0, 0]) in first_pixels for image in images)

    assert kept(False) == 40
    assert 12 <= kept(True) <= 34, "some corners look alike by chance"


def test_shapes_are_seeded_and_their_boxes_hold_their_masks_tightly() -> None:
    data, again, other = shapes(12), shapes(6), shapes(6, seed=1)
    assert all(torch.equal(data[i][0], again[i][0]) for i in range(6))
    assert not torch.equal(data[0][0], other[0][0])
    assert {int(label) for _, target in data for label in target["labels"]} == {1, 2, 3}
    for (_, target), picture in zip(data, data.pictures, strict=True):
        assert 1 <= len(target["boxes"]) <= 4
        assert target["masks"].sum(0).max() == 1, "a pixel shows one shape"
        for mask, (x0, y0, x1, y1) in zip(target["masks"], target["boxes"].int().tolist(), strict=True):
            assert mask[y0:y1, x0:x1].sum() == mask.sum() > 0
            assert mask[y0].any()
            assert mask[y1 - 1].any()
            assert mask[:, x0].any()
            assert mask[:, x1 - 1].any()
        assert (picture.height, picture.width) == (96, 96)


def test_circles_rectangles_and_triangles_fill_their_boxes_as_they_should() -> None:
    filled: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for _, target in shapes(60, most=1):
        for label, mask, box in zip(target["labels"].tolist(), target["masks"], target["boxes"], strict=True):
            filled[label].append(float(mask.sum() / ((box[2] - box[0]) * (box[3] - box[1]))))
    means = [float(np.mean(filled[label])) for label in (1, 2, 3)]
    assert means == pytest.approx([np.pi / 4, 1, 0.5], abs=0.04)


@pytest.mark.parametrize("bad", [{"images": 0}, {"images": 1, "size": 31}, {"images": 1, "most": 0}])
def test_shapes_out_of_range_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1 image of 32 pixels with 1 shape"):
        shapes(**bad)
