"""``shown``: an image as a viewer shows it, in 8 bits and opaque, whoever reads it: sets, uploads, ``predict``.

How many bits a sample has says its scale, never the values, else a dark image would come out bright. What is clear has
a colour too, which nobody sees and which is whatever a program left there: it must not be learnt from.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from torchpaths.errors import DataError

_CLEAR = ("RGBA", "LA", "PA", "La", "RGBa")
_GREY = ("1", "L", "LA", "La")
_LEVELS = ((np.arange(65536) + 128) // 257).astype(np.uint8)  # of 16 bits, in 8


def shown(image: Image.Image, where: str) -> Image.Image:
    """An image of 8 bits without transparency: 16 bits are scaled, floats are of 0 to 1, what is clear lies on white.

    Grey stays grey. An image of 8 bits in which nothing can be clear is given back as it is.

    Args:
        image: decoded.
        where: the file, for errors.

    Raises:
        DataError: for whole numbers beyond 16 bits, or floats that are not of 0 to 1.
    """
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.size and not (values.min() >= 0 and values.max() <= 65535):
            raise DataError(f"{where}: samples beyond 16 bits; save the image with 8 or 16 bits per channel.")
        return Image.fromarray(_LEVELS[values])
    if image.mode == "F":
        values = np.asarray(image)
        if not ((values >= 0) & (values <= 1)).all():
            raise DataError(f"{where}: floats that are not all of 0 to 1; save the image with 8 or 16 bits.")
        return Image.fromarray(np.rint(values * np.float32(255)).astype(np.uint8))
    if image.mode in _CLEAR or "transparency" in image.info:
        kind = "L" if image.mode in _GREY else "RGB"
        clear = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert(kind)
    return image
