"""One file gives one image, uploaded or predicted, and its scale is that of its bits."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torchpaths.data.decode import Form
from torchpaths.errors import DataError
from torchpaths.explorer.uploads import upload_pixels
from torchpaths.train.predict import _read

FORM = Form(8, 8, 3, scale=True, drop_colour=True)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def full(value: Any, kind: Any) -> Image.Image:
    return Image.fromarray(np.full((8, 8), value, kind))


@pytest.mark.parametrize(
    ("image", "kind", "level"),
    [
        (full(255, np.uint16), "PNG", 1),
        (full(256, np.uint16), "PNG", 1),
        (full(65535, np.uint16), "PNG", 255),
        (full(0.5, np.float32), "TIFF", 128),
        (full(1.0, np.float32), "TIFF", 255),
        (Image.new("RGBA", (8, 8), (10, 20, 30, 0)), "PNG", 255),
        (full(77, np.uint8), "PNG", 77),
    ],
)
def test_uploads_and_predict_see_the_same_pixels(tmp_path: Path, image: Image.Image, kind: str, level: int) -> None:
    file = tmp_path / f"image.{kind.lower()}"
    file.write_bytes(encoded(image, kind))
    uploaded = upload_pixels(file.read_bytes(), FORM)
    assert (uploaded == level).all()
    assert np.array_equal(uploaded, _read(file, FORM))


@pytest.mark.parametrize("image", [full(200.0, np.float32), full(float("nan"), np.float32), full(-5, np.int32)])
def test_samples_without_a_scale_are_refused_by_both(tmp_path: Path, image: Image.Image) -> None:
    file = tmp_path / "image.tiff"
    file.write_bytes(encoded(image, "TIFF"))
    with pytest.raises(DataError, match="save the image"):
        upload_pixels(file.read_bytes(), FORM)
    with pytest.raises(DataError, match="save the image"):
        _read(file, FORM)
