"""Claims about images in a folder per class."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared import encode, pictures
from torchpaths.data import open_data
from torchpaths.data.decode import CorruptImageError, load
from torchpaths.data.folder import FolderImages
from torchpaths.errors import DataError


def fill(root: Path, classes: dict[str, int], seed: int = 0) -> None:
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i, p in enumerate(pictures(count, seed=seed + len(name))):
            (root / name / f"{i}.png").write_bytes(encode(p))


@pytest.mark.parametrize("limit", [None, 10])
def test_folders_are_classes_in_order_of_their_names(tmp_path: Path, limit: int | None) -> None:
    fill(tmp_path / "train", {"dog": 3, "ant": 2})
    data = open_data(tmp_path, "train", limit=limit)
    assert data.in_memory == (limit is None)
    assert data.classes == ("ant", "dog")
    assert data.labels.tolist() == [0, 0, 1, 1, 1]
    assert np.array_equal(data.read([4, 0]), [pictures(3, seed=3)[2], pictures(2, seed=3)[0]])


@pytest.mark.parametrize("name", ["test", "val"])
def test_the_test_split_is_numbered_as_the_training_set_also_where_it_lacks_classes(tmp_path: Path, name: str) -> None:
    fill(tmp_path / "train", {"ant": 1, "bee": 1, "cat": 1})
    fill(tmp_path / name, {"cat": 2})
    data = open_data(tmp_path, "test")
    assert (data.classes, data.labels.tolist()) == (("ant", "bee", "cat"), [2, 2])


def test_classes_that_training_lacks_are_refused(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"ant": 1})
    fill(tmp_path / "test", {"ant": 1, "zebra": 1})
    with pytest.raises(DataError, match=r"has classes that .*train lacks: zebra"):
        open_data(tmp_path, "test")


def test_a_corrupt_file_is_named_or_left_out(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"ant": 3})
    (tmp_path / "train" / "ant" / "1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png holds no bytes; put the image there"):
        open_data(tmp_path, "train")
    with pytest.warns(UserWarning, match="left out 1 of 3 images"):
        assert len(open_data(tmp_path, "train", skip_corrupt=True)) == 2


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"ant": 3})
    data = open_data(tmp_path, "train", limit=10)
    (tmp_path / "train" / "ant" / "2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png cannot be read"):
        data.read([2])


def test_folders_without_classes_or_images_are_errors_with_the_layout_expected(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="put the images into one folder per class"):
        open_data(tmp_path, "train")
    (tmp_path / "train" / "ant").mkdir()
    with pytest.raises(DataError, match=r"no images; known file types: \.jpg"):
        open_data(tmp_path, "train")


def test_hidden_folders_pipes_and_links_into_the_tree_are_no_images(tmp_path: Path) -> None:
    for name in ("a", "b", ".ipynb_checkpoints", "a/.cache"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "1.gif")
    os.mkfifo(tmp_path / "a" / "2.png")
    found = FolderImages("set", tmp_path, tmp_path)
    assert (found.classes, found.labels.tolist()) == (("a", "b"), [0, 1])
    (tmp_path / "b" / "again").symlink_to(tmp_path)
    with pytest.raises(DataError, match=r"again is a link to .*remove the link"):
        FolderImages("set", tmp_path, tmp_path)


def test_only_rasters_of_a_sane_size_are_decoded_whatever_they_are_called() -> None:
    with pytest.raises(CorruptImageError, match=r"1\.jpg: the image cannot be decoded \(it is none of PNG, JPEG"):
        load(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n", "1.jpg")
    huge = io.BytesIO()
    Image.new("1", (9000, 9000)).save(huge, "PNG")
    with pytest.raises(CorruptImageError, match="9000 x 9000 pixels, more than 64,000,000"):
        load(huge.getvalue(), "huge.png")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_photos_are_read_upright_and_damaged_exif_turns_nothing() -> None:
    pixels = pictures(1, height=4, width=6)[0]
    exif = Image.Exif()
    exif[0x0112] = 8
    turned = io.BytesIO()
    Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_270).save(turned, "PNG", exif=exif)
    assert np.array_equal(np.asarray(load(turned.getvalue(), "1.png")), pixels)
    damaged = io.BytesIO()
    Image.fromarray(pixels).save(damaged, "PNG", exif=b"Exif\0\0MM\0*\0\0\xff\xff")
    assert np.array_equal(np.asarray(load(damaged.getvalue(), "1.png")), pixels)


def test_images_whose_names_end_otherwise_are_left_out_aloud_and_once(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"ant": 3, "bee": 3})
    for file in (tmp_path / "train").glob("*/[12].png"):
        file.rename(file.with_suffix(".jfif"))
    (tmp_path / "train" / "ant" / "notes.txt").write_text("no image")
    with pytest.warns(UserWarning, match=r"\(4 that end in \.jfif\), first .*ant/1\.jfif; rename") as told:
        assert len(open_data(tmp_path, "train")) == 2
    assert len(told) == 1
