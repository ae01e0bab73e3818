"""From encoded bytes to uint8 arrays of one shape, on threads (Pillow releases the interpreter while it decodes)."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from torchpaths.data.scaling import UNCUT, Scaling
from torchpaths.data.shown import shown
from torchpaths.errors import DataError
from torchpaths.files.disk import read_bytes

T = TypeVar("T")
R = TypeVar("R")

_GREY = frozenset({"1", "L", "LA", "La", "F"})
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "TIFF", "WEBP")
"""Rasters only, told by content: for others programs are run (PostScript)."""
_PIXELS = 64_000_000
"""Most pixels of an image: more take gigabytes and minutes."""
_alone = False


class CorruptImageError(DataError):
    """An image whose bytes cannot be decoded: what ``skip_corrupt`` skips."""


def load(data: bytes | None, where: str, size: tuple[int, int] | None = None) -> Image.Image:
    """Decode one image in its own size and mode, turned upright as its EXIF orientation says.

    Args:
        data: the encoded image; None stands for a row without bytes.
        where: file and row, for errors.
        size: width and height that something says of it, as annotations do; where those are of the pixels as they are
            stored and not of the upright image, the image is not turned.

    Raises:
        CorruptImageError: if the bytes are no whole image.
    """
    if not data:
        raise CorruptImageError(
            f"{where} holds no bytes; put the image there, or give skip_corrupt=True to leave it out."
        )
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        if image.width * image.height > _PIXELS:
            raise ValueError(f"{image.width} x {image.height} pixels, more than {_PIXELS:,}; scale it down")
        image.load()
    except (
        Exception
    ) as error:  # Pillow's decoders raise whatever the bytes lead them to: OSError, SyntaxError, IndexError, ...
        # Pillow's text for bytes that are no image names an object in memory.
        why = f"it is none of {', '.join(_FORMATS)}" if isinstance(error, UnidentifiedImageError) else error
        raise CorruptImageError(
            f"{where}: the image cannot be decoded ({why}); repair it, or give skip_corrupt=True to leave it out."
        ) from error
    upright = _upright(image)
    return image if size is not None and upright.size != size and image.size == size else upright


def _upright(image: Image.Image) -> Image.Image:
    """An image turned as a viewer shows it: cameras store how they were held, in EXIF, and leave the pixels as they
    came. An orientation that cannot be read turns nothing, as in viewers."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # whatever damaged EXIF leads Pillow to; the pixels are whole
        return image


def is_raster(file: Path) -> bool:
    """Whether a file begins as an image of a format that is read."""
    try:
        with Image.open(io.BytesIO(read_bytes(file)), formats=_FORMATS):
            return True
    except Exception:  # as in `load`
        return False


def is_grey(image: Image.Image) -> bool:
    """Whether an image is stored without colours."""
    return image.mode in _GREY or image.mode.startswith("I")  # I, I;16: more bits


@dataclass(frozen=True, slots=True)
class Form:
    """What every image of a set is brought to.

    Attributes:
        height: rows of pixels.
        width: columns of pixels.
        channels: 1 or 3.
        scale: whether images of another size are scaled and cropped; otherwise they are an error.
        drop_colour: whether colour images may become grey; otherwise they are an error in a set of one channel.
        scaling: how.
    """

    height: int
    width: int
    channels: int
    scale: bool = False
    drop_colour: bool = False
    scaling: Scaling = UNCUT

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.height, self.width, self.channels

    @property
    def bytes(self) -> int:
        """Size of one image."""
        return self.height * self.width * self.channels

    def __call__(self, image: Image.Image, where: str) -> NDArray[np.uint8]:
        """A decoded image as uint8 ``[H, W, C]``.

        Args:
            image: in any size and mode.
            where: file and row, for errors.

        Raises:
            DataError: for another size, for colours in a grey set, for samples that have no scale.
        """
        image = self.mode(image, where)
        if image.size != (self.width, self.height) or (self.scale and self.scaling.cuts):
            if not self.scale:
                raise DataError(
                    f"{where}: {image.height} x {image.width} pixels in a set of {self.height} x {self.width}; "
                    f"give size= to scale every image, e.g. size={min(self.height, self.width)}."
                )
            image = self.scaling(image, (self.width, self.height))
        return np.asarray(image, dtype=np.uint8).reshape(self.shape)

    def mode(self, image: Image.Image, where: str) -> Image.Image:
        """An image of any size as RGB or grey, see `shown`; arguments and errors as of a call."""
        image = shown(image, where)
        if self.channels == 1 and not is_grey(image) and not self.drop_colour:
            raise DataError(
                f"{where}: a colour image (mode {image.mode}) in a set that looked grey; "
                "give channels=3 to read every image as RGB, or channels=1 to read every image as grey."
            )
        return image.convert("RGB" if self.channels == 3 else "L")


def threaded(work: Callable[[T], R], items: Sequence[T], chunk: int = 64) -> list[R]:
    """``[work(i) for i in items]`` on as many threads as there are cores for this process, in order."""
    chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]
    threads = min(cores(), len(chunks))
    if threads <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return [result for part in pool.map(lambda part: [work(item) for item in part], chunks) for result in part]


def alone() -> None:
    """In a process that is one of several which prepare images: it has one core to itself."""
    global _alone
    _alone = True


def cores() -> int:
    """Cores this process may use, shared with the other ranks that torchrun started on this machine."""
    if _alone:
        return 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return max(1, usable // _ranks_here())


def memory() -> int:
    """Bytes that decoded images may take: half of the memory that is free now, shared between this machine's ranks."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(
        OSError, StopIteration
    ):  # Linux; elsewhere the physical memory is the best there is to know
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    with contextlib.suppress(OSError, ValueError):  # a container's own limit, unless it reads "max"
        free = min(free, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return free // 2 // _ranks_here()


def _ranks_here() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
