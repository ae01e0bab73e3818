"""``jpeg``: images as they are after JPEG compression, the defence that ConvNet-AIG (section 4.3) is tried with.

Guo et al., "Countering adversarial images using input transformations", 2017, take quality 75. Pixels are rounded to
the 256 levels that a file holds; chroma is halved, as libjpeg does by default.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from torchpaths.errors import DataError
from torchpaths.whole import is_whole

QUALITY = 75


def jpeg(x: Tensor, quality: int = QUALITY) -> Tensor:
    """Images compressed and read again, by Pillow.

    Args:
        x: float ``[batch, 1 or 3, height, width]`` of 0 to 1.
        quality: 1 to 95.

    Returns:
        The same shape, type and device.

    Raises:
        DataError: for other shapes, values or qualities.
    """
    check_quality(quality)
    if x.dim() != 4 or x.shape[1] not in (1, 3) or not x.is_floating_point():
        raise DataError(
            f"images of shape {tuple(x.shape)} and {x.dtype}; JPEG holds floats [batch, 1 or 3, height, width]."
        )
    if not bool(((x >= 0) & (x <= 1)).all()):
        raise DataError("images with pixels outside of 0 to 1; compress them before they are normalised.")
    levels = (x.detach().cpu().double() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    read = [_again(image, quality) for image in levels]
    back = torch.from_numpy(np.stack(read) if read else levels).permute(0, 3, 1, 2)
    return (back.to(x.dtype) / 255).to(x.device)


def check_quality(quality: int) -> None:
    """Raise `DataError` unless JPEG has such a quality."""
    if not is_whole(quality, 1, 95):
        raise DataError(f"quality {quality!r}: JPEG's is a whole number from 1 to 95; the paper's is {QUALITY}.")


def _again(
    image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], quality: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    grey = image.shape[2] == 1
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if grey else image).save(file, "JPEG", quality=quality)
    read = np.asarray(Image.open(file))
    return read[..., None] if grey else read
