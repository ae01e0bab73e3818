"""Images from strangers: ``upload_pixels``. Sizes are checked before anything is decoded."""

from __future__ import annotations

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torchpaths.data.decode import CorruptImageError, Form, load
from torchpaths.errors import DataError

MOST_BYTES = 20_000_000
MOST_PIXELS = 50_000_000
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")


def upload_pixels(data: bytes, form: Form) -> NDArray[np.uint8]:
    """An uploaded image as the network takes it, uint8 ``[H, W, C]``.

    Turned upright as EXIF says; palettes and CMYK become colours; see `torchpaths.data.shown.shown`.

    Args:
        data: the file.
        form: what the network takes.

    Raises:
        DataError: for more bytes or pixels than are taken, or no image.
    """
    if len(data) > MOST_BYTES:
        raise DataError(f"the image has {len(data) / 1e6:.0f} MB, more than {MOST_BYTES // 10**6}; make it smaller.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # counted below
            with Image.open(io.BytesIO(data), formats=_FORMATS) as header:
                pixels = header.width * header.height
    except Image.DecompressionBombError:
        pixels = MOST_PIXELS + 1
    except Exception as error:  # Pillow's readers raise whatever the bytes lead them to
        raise DataError("this is no image that can be read; give PNG, JPEG, WebP, BMP, GIF, TIFF or PPM.") from error
    if pixels > MOST_PIXELS:
        raise DataError(f"the image has more than {MOST_PIXELS // 10**6} megapixels; scale it down.")
    try:
        return form(load(data, "the image"), "the image")
    except CorruptImageError as error:
        raise DataError("the image is damaged and cannot be decoded; save it again and upload that.") from error
