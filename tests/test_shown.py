"""One file gives one image, whoever reads it: uploaded, predicted, in a set in memory or on disk; its scale is that of
its bits, and what is clear has no colour."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torchpaths.data import open_data
from torchpaths.data.decode import Form
from torchpaths.data.shown import shown
from torchpaths.errors import DataError
from torchpaths.explorer.uploads import upload_pixels
from torchpaths.train.predict import _read

FORM = Form(8, 8, 3, scale=True, drop_colour=True)


def encoded(image: Image.Image, kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


def full(value: Any, kind: Any) -> Image.Image:
    return Image.fromarray(np.full((8, 8), value, kind))


def palette(index: int) -> Image.Image:
    """Two colours, the second of them clear."""
    image = full(index, np.uint8).convert("P")
    image.putpalette([5, 5, 5, 9, 90, 200])
    image.info["transparency"] = 1
    return image


def keyed(mode: str, level: Any, key: Any) -> Image.Image:
    """An image in which one colour is clear."""
    image = Image.new(mode, (8, 8), level)
    image.info["transparency"] = key
    return image


def half(mode: str, level: Any) -> Image.Image:
    image = Image.new(mode, (8, 8), level)
    image.putalpha(128)
    return image


KINDS: dict[str, tuple[Image.Image, str, int]] = {
    "16 bits, least": (full(255, np.uint16), "PNG", 1),
    "16 bits": (full(256, np.uint16), "PNG", 1),
    "16 bits, most": (full(65535, np.uint16), "PNG", 255),
    "16 bits, TIFF": (full(257 * 90, np.uint16), "TIFF", 90),
    "floats": (full(0.5, np.float32), "TIFF", 128),
    "floats, most": (full(1.0, np.float32), "TIFF", 255),
    "clear": (Image.new("RGBA", (8, 8), (10, 20, 30, 0)), "PNG", 255),
    "clear, WebP": (Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "WEBP", 255),
    "half clear": (half("RGB", (0, 0, 0)), "PNG", 127),
    "clear grey": (Image.new("LA", (8, 8), (40, 0)), "PNG", 255),
    "half clear grey": (half("L", 0), "PNG", 127),
    "opaque": (Image.new("RGBA", (8, 8), (40, 40, 40, 255)), "PNG", 40),
    "palette": (palette(0), "PNG", 5),
    "palette, clear": (palette(1), "PNG", 255),
    "a clear colour": (keyed("RGB", (3, 4, 5), (3, 4, 5)), "PNG", 255),
    "another clear colour": (keyed("RGB", (4, 4, 4), (3, 4, 5)), "PNG", 4),
    "a clear grey": (keyed("L", 7, 7), "PNG", 255),
    "CMYK": (Image.new("CMYK", (8, 8), (0, 0, 0, 255)), "TIFF", 0),
    "one bit": (Image.new("1", (8, 8), 1), "PNG", 255),
    "8 bits": (full(77, np.uint8), "PNG", 77),
}


def folder_of(data: bytes, folder: Path, ending: str) -> Path:
    (folder / "train" / "one").mkdir(parents=True)
    for name in "ab":
        (folder / "train" / "one" / f"{name}.{ending}").write_bytes(data)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_reads_an_image_sees_the_same_pixels(tmp_path: Path, kind: str) -> None:
    image, written, level = KINDS[kind]
    more = {"lossless": True, "exact": True} if written == "WEBP" else {}
    file = tmp_path / f"image.{written.lower()}"
    data = encoded(image, written, **more)
    file.write_bytes(data)
    uploaded = upload_pixels(data, FORM)
    assert (uploaded == level).all(), uploaded[0, 0]
    assert np.array_equal(uploaded, _read(file, FORM))
    root = folder_of(data, tmp_path, written.lower())
    for limit in (None, 0):  # in memory, and decoded on demand
        found = open_data(root, "train", channels=3, limit=limit)
        assert np.array_equal(found.read([1])[0], uploaded)
        assert np.array_equal(found.originals(np.array([0]))[0], uploaded)


@pytest.mark.parametrize("kind", ["16 bits", "floats", "clear grey", "half clear grey", "a clear grey", "8 bits"])
def test_a_set_of_grey_images_of_whatever_bits_is_grey(tmp_path: Path, kind: str) -> None:
    image, written, level = KINDS[kind]
    found = open_data(folder_of(encoded(image, written), tmp_path, written.lower()), "train")
    assert found.shape == (8, 8, 1)
    assert (found.read([0]) == level).all()


def test_an_opaque_image_of_8_bits_is_not_touched() -> None:
    for image in (Image.new("RGB", (8, 8), (1, 2, 3)), full(7, np.uint8), Image.new("CMYK", (8, 8))):
        assert shown(image, "here") is image


@pytest.mark.parametrize("image", [full(200.0, np.float32), full(float("nan"), np.float32), full(-5, np.int32)])
def test_samples_without_a_scale_are_refused_by_both(tmp_path: Path, image: Image.Image) -> None:
    file = tmp_path / "image.tiff"
    file.write_bytes(encoded(image, "TIFF"))
    with pytest.raises(DataError, match="save the image"):
        upload_pixels(file.read_bytes(), FORM)
    with pytest.raises(DataError, match="save the image"):
        _read(file, FORM)
    with pytest.raises(DataError, match=r"a\.tiff: .*save the image"):
        open_data(folder_of(file.read_bytes(), tmp_path, "tiff"), "train")
