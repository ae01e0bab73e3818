"""``ImageSet``: labelled images as uint8, in memory where they fit, decoded on demand where they do not."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from torchpaths.data.decode import CorruptImageError, Form, is_grey, load, memory, threaded
from torchpaths.data.scaling import UNCUT, Scaling
from torchpaths.errors import DataError

GROUPS_AT_ONCE = 8
"""Row groups that are mixed with one another when a set on disk is shuffled, and held in memory to serve the draws."""

_PROBES = 256  # images looked at to find a set's size and mode
_SAMPLED = 4096  # images that stand for a set which is not in memory when its mean is taken
_AT_ONCE = 2**27  # bytes of images decoded between two looks at their storage


class Stored(Protocol):
    """Encoded images with labels, in files."""

    @property
    def name(self) -> str:
        """What errors call the set."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, by label."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """``[N]``."""

    @property
    def groups(self) -> NDArray[np.int64] | None:
        """``[N]``, number of the group of neighbours that are read together; None where each is read alone."""

    def where(self, row: int) -> str:
        """File and row, for errors."""

    def fetch(self, rows: NDArray[np.int64]) -> list[bytes | None]:
        """Encoded images; None for a row without bytes."""


class ImageSet:
    """Labelled images of one shape.

    Attributes:
        name: what errors and tables call it.
        split: "train", "test" or "validation".
        classes: class names, by label.
        labels: int64 ``[N]``.
        shape: (H, W, C) of each image.
        skipped: corrupt images left out.
        groups: int64 ``[N]``, for a set that is read from files in groups of neighbours: the group of each image.
    """

    def __init__(
        self,
        name: str,
        split: str,
        classes: tuple[str, ...],
        labels: NDArray[np.int64],
        pixels: NDArray[np.uint8] | Lazy,
        skipped: int = 0,
    ) -> None:
        self.name = name
        self.split = split
        self.classes = classes
        self.labels = labels
        self.shape: tuple[int, int, int] = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
        self.skipped = skipped
        self.groups = pixels.groups if isinstance(pixels, Lazy) else None
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def in_memory(self) -> bool:
        """Whether the images were decoded once into memory."""
        return not isinstance(self._pixels, Lazy)

    def read(self, indices: ArrayLike) -> NDArray[np.uint8]:
        """Images by index, in that order.

        Args:
            indices: integers ``[n]`` in [0, N).

        Returns:
            uint8 ``[n, H, W, C]``, a copy.

        Raises:
            DataError: for an index out of range, or an image that cannot be read.
        """
        rows = np.asarray(indices, dtype=np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise DataError(f"{self.name} has images 0 to {len(self) - 1}; asked for {rows.min()} to {rows.max()}.")
        return self._pixels[rows]

    def originals(self, indices: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Images by index as they are stored, each uint8 ``[H, W, C]`` of its own size; of a set in memory as `read`
        gives them. Errors as of `read`."""
        if isinstance(self._pixels, Lazy):
            return self._pixels.originals(indices)
        return list(self.read(indices))

    @property
    def mean(self) -> tuple[float, ...]:
        """Mean of each channel, scale 0 to 1; of 4,096 evenly spaced images where the set is not in memory."""
        return self._moments[0]

    @property
    def std(self) -> tuple[float, ...]:
        """Standard deviation of each channel, scale 0 to 1; sampled as `mean` is."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        rows = np.arange(len(self)) if self.in_memory else _spread(len(self), _SAMPLED)
        # Exact, from whole counts: the same on every machine, and no float copy of the images.
        counts = np.zeros((self.shape[2], 256), np.int64)
        for start in range(0, len(rows), _SAMPLED):
            part = self.read(rows[start : start + _SAMPLED])
            for channel, count in enumerate(counts):
                count += np.bincount(part[..., channel].reshape(-1), minlength=256)
        levels = np.arange(256) / 255
        means, stds = [], []
        for count in counts:
            mean = float(count @ levels / count.sum())
            means.append(mean)
            stds.append(float(np.sqrt(count @ (levels - mean) ** 2 / count.sum())))
        return tuple(means), tuple(stds)

    def __repr__(self) -> str:
        kept = "in memory" if self.in_memory else "read on demand"
        h, w, c = self.shape
        size = f"{len(self):,} images {h} x {w} x {c}, {len(self.classes)} classes"
        return f"ImageSet({self.name}, {self.split}: {size}, {kept})"


class Lazy:
    """Images of a set that does not fit into memory: an array's indexing, decoding on demand.

    Args:
        stored: the files.
        form: what each image is brought to.
        rows: the rows in use.
    """

    def __init__(self, stored: Stored, form: Form, rows: NDArray[np.int64]) -> None:
        self._stored = stored
        self._form = form
        self._rows = rows
        self.shape = (len(rows), *form.shape)
        self.groups = None if stored.groups is None else stored.groups[rows]

    def __getitem__(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        images = np.empty((len(indices), *self._form.shape), np.uint8)
        for i, image in enumerate(_decode(self._stored, self._form, self._rows[indices], skip=False)):
            assert image is not None
            images[i] = image
        return images

    def originals(self, indices: NDArray[np.int64]) -> list[NDArray[np.uint8]]:
        """Images as they are stored, each of its own size."""
        rows = self._rows[indices]

        def one(item: tuple[int, bytes | None]) -> NDArray[np.uint8]:
            where = self._stored.where(item[0])
            pixels = np.asarray(self._form.mode(load(item[1], where), where), dtype=np.uint8)
            return pixels.reshape(*pixels.shape[:2], self._form.channels)

        return threaded(one, list(zip(rows.tolist(), self._stored.fetch(rows), strict=True)))


def read_stored(
    stored: Stored,
    split: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    skip_corrupt: bool = False,
    limit: int | None = None,
    scaling: Scaling = UNCUT,
) -> ImageSet:
    """An `ImageSet` of stored images, decoded into memory now if they fit.

    Args:
        stored: the files.
        split: as the set calls it.
        size: pixels of the shorter side that every image is scaled to, then its centre cropped to a square; None takes
            the images as they are.
        channels: 1 or 3 converts every image; None finds out: grey only if the images looked at are all grey.
        skip_corrupt: leave images out that cannot be decoded, and warn, instead of raising. Where the set does not fit
            into memory, this decodes every image once to know them.
        limit: bytes the decoded images may take; None: half of the free memory.
        scaling: with ``size``, how images are brought to it.

    Raises:
        DataError: for an image that cannot be decoded or has another size or mode, with file and row; for an empty set.
    """
    rows = np.arange(len(stored.labels))
    if not len(rows):
        raise DataError(f"{stored.name} holds no images.")
    form = dataclasses.replace(_find_form(stored, size, channels), scaling=scaling)
    fits = len(rows) * form.bytes <= (memory() if limit is None else limit)

    pixels: NDArray[np.uint8] | Lazy
    if fits or skip_corrupt:
        kept: list[int] = []
        array = np.empty((len(rows) if fits else 0, *form.shape), np.uint8)
        step = max(64, _AT_ONCE // form.bytes)
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            for row, image in zip(part.tolist(), _decode(stored, form, part, skip_corrupt), strict=True):
                if image is None:
                    continue
                if fits:
                    array[len(kept)] = image
                kept.append(row)
        rows, skipped = np.asarray(kept, dtype=np.int64), len(rows) - len(kept)
        pixels = array[: len(rows)] if fits else Lazy(stored, form, rows)
    else:
        pixels, skipped = Lazy(stored, form, rows), 0
    if skipped:
        if not len(rows):
            raise DataError(f"{stored.name}: none of its {skipped} images can be decoded.")
        warnings.warn(
            f"{stored.name}: left out {skipped} of {len(rows) + skipped} images that cannot be decoded.", stacklevel=3
        )
    return ImageSet(stored.name, split, stored.classes, stored.labels[rows], pixels, skipped)


def _decode(stored: Stored, form: Form, rows: NDArray[np.int64], skip: bool) -> Sequence[NDArray[np.uint8] | None]:
    def one(item: tuple[int, bytes | None]) -> NDArray[np.uint8] | None:
        where = stored.where(item[0])
        try:
            return form(load(item[1], where), where)
        except CorruptImageError:
            if skip:
                return None
            raise

    return threaded(one, list(zip(rows.tolist(), stored.fetch(rows), strict=True)))


def _find_form(stored: Stored, size: int | None, channels: int | None) -> Form:
    """Size and mode from images spread over the set; a few corrupt ones among them do not matter here."""
    found: list[Image.Image] = []
    corrupt: CorruptImageError | None = None
    probes = _spread(len(stored.labels), _PROBES)
    # The first alone says the size, and usually that the set has colours; only what looks grey needs more.
    for part in (probes[:1], probes[1:]):
        for row, data in zip(part.tolist(), stored.fetch(part), strict=True):
            try:
                found.append(load(data, stored.where(row)))
            except CorruptImageError as error:
                corrupt = corrupt or error
        if found and (channels is not None or not is_grey(found[0])):
            break
    if not found:
        assert corrupt is not None
        raise DataError(
            f"{stored.name}: none of the {len(probes)} images looked at can be decoded. The first: {corrupt}"
        )
    side = (size, size) if size is not None else (found[0].height, found[0].width)
    guess = 1 if all(map(is_grey, found)) else 3
    return Form(*side, channels or guess, scale=size is not None, drop_colour=channels == 1)


def _spread(total: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` row numbers, evenly spaced from 0."""
    return np.arange(0, total, max(1, -(-total // most)))
