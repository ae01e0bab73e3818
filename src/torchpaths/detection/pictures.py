"""Where the images of a set in COCO's layout lie: a folder, a Parquet file, or memory."""

from __future__ import annotations

import pathlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from torchpaths.data.decode import CorruptImageError, Form, load
from torchpaths.detection.annotations import Picture
from torchpaths.errors import DataError, reason
from torchpaths.files.disk import beneath, read_bytes
from torchpaths.schema import MalformedError


class Pictures(ABC):
    """A place that holds images."""

    @abstractmethod
    def has(self, picture: Picture) -> bool:
        """Whether an image is there; it is not read."""

    @abstractmethod
    def where(self, picture: Picture) -> str:
        """Where it is, or would be."""

    @abstractmethod
    def read(self, picture: Picture) -> NDArray[np.uint8]:
        """An image's pixels ``[H, W, 3]``, in whatever size it has.

        Raises:
            DataError: for one that cannot be read or decoded.
        """

    def check(self, pictures: Sequence[Picture]) -> None:
        """Raises:
        DataError: unless all are there, naming the first that is not."""
        absent = [picture for picture in pictures if not self.has(picture)]
        if absent:
            raise DataError(
                f"image {absent[0].id} is not at {self.where(absent[0])} ({len(absent)} of {len(pictures)} are "
                "missing); give the place that holds the images, or take them out of the annotations."
            )


class Folder(Pictures):
    """Files by their ``file_name`` in a folder."""

    def __init__(self, root: pathlib.Path) -> None:
        self.root = root

    def has(self, picture: Picture) -> bool:
        try:
            return bool(picture.file_name) and self._file(picture).is_file()
        except OSError:  # a name longer than the file system knows
            return False

    def where(self, picture: Picture) -> str:
        return str(self.root / (picture.file_name or "(no file_name)"))

    def read(self, picture: Picture) -> NDArray[np.uint8]:
        file = self._file(picture)
        try:
            data = read_bytes(file)
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror}).") from error
        return _decode(data, str(file), picture)

    def _file(self, picture: Picture) -> pathlib.Path:
        """Raises:
        DataError: for a name that leads out of the folder."""
        try:
            return beneath(self.root, picture.file_name)
        except MalformedError as error:
            raise DataError(
                f"image {picture.id}: 'file_name' {error}; give the folder that holds all images, and names within it."
            ) from error


class Parquet(Pictures):
    """Rows of a Parquet file with columns ``image`` (a struct with ``bytes``) and ``image_id``; held encoded in memory.

    Raises:
        DataError: for a damaged file, other columns, a number given twice or not at all.
    """

    def __init__(self, file: pathlib.Path) -> None:
        self.file = file
        try:
            schema = pq.read_schema(file)
            wanted = [name for name in ("image", "image_id") if name in schema.names]
            table = pq.read_table(file, columns=wanted)
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{file} is no whole Parquet file ({reason(error)}); copy it again.") from error
        if len(wanted) < 2 or not pa.types.is_struct(schema.field("image").type):
            raise DataError(
                f"{file} needs columns 'image' (a struct with 'bytes') and 'image_id'; it has "
                f"{', '.join(schema.names)}."
            )
        numbers: list[Any] = table.column("image_id").to_pylist()
        if len(set(numbers)) < len(numbers) or None in numbers:
            wrong = next(n for n in numbers if n is None or numbers.count(n) > 1)
            raise DataError(
                f"{file}, row {numbers.index(wrong)}: image_id {wrong} is no number of its own; correct it."
            )
        self._rows = {number: row for row, number in enumerate(numbers)}
        self._images = table.column("image")

    def has(self, picture: Picture) -> bool:
        return picture.id in self._rows

    def where(self, picture: Picture) -> str:
        return (
            f"{self.file}, row {self._rows[picture.id]}" if self.has(picture) else f"{self.file}, image_id {picture.id}"
        )

    def read(self, picture: Picture) -> NDArray[np.uint8]:
        return _decode(self._images[self._rows[picture.id]].as_py()["bytes"], self.where(picture), picture)


class Memory(Pictures):
    """Arrays ``[H, W, 3]`` by number."""

    def __init__(self, arrays: Mapping[int, NDArray[np.uint8]]) -> None:
        self.arrays = arrays

    def has(self, picture: Picture) -> bool:
        return picture.id in self.arrays

    def where(self, picture: Picture) -> str:
        return f"the given images, number {picture.id}"

    def read(self, picture: Picture) -> NDArray[np.uint8]:
        return self.arrays[picture.id]


def open_pictures(place: pathlib.Path | str | Mapping[int, NDArray[np.uint8]]) -> Pictures:
    """A folder, a Parquet file, or arrays by number, as `Pictures`.

    Raises:
        DataError: for a path at which there is neither folder nor Parquet file.
    """
    if isinstance(place, Mapping):
        return Memory(place)
    path = pathlib.Path(place)
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Parquet(path)
    raise DataError(f"{path} is neither a folder of images nor a Parquet file; give the place that holds the images.")


def _decode(data: bytes | None, where: str, picture: Picture) -> NDArray[np.uint8]:
    try:
        image = load(data, where, (picture.width, picture.height))
        # By the form that all images of a classified set are brought to: opaque, of 8 bits.
        return Form(image.height, image.width, 3)(image, where)
    except CorruptImageError as error:
        why = f" ({reason(error)})" if error.__cause__ is not None else ""
        raise DataError(
            f"{where}: the image cannot be decoded{why}; copy it again, or take it out of the annotations."
        ) from error
