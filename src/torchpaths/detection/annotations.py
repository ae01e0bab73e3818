"""COCO's annotation files, read and checked (Lin et al., "Microsoft COCO", 2014; cocodataset.org, "Data format").

    {"images": [{"id", "width", "height", "file_name"}], "categories": [{"id", "name"}],
     "annotations": [{"id", "image_id", "category_id", "bbox": [x, y, width, height],
                      "area", "iscrowd", "segmentation"}]}

Everything is checked before the first image is read, so a training run does not stop at its thousandth step.
"""

from __future__ import annotations

import math
import pathlib
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from torchpaths.errors import DataError
from torchpaths.files.disk import read_bytes
from torchpaths.schema import parse, reading
from torchpaths.text import storable

Json: TypeAlias = Mapping[str, Any]
"""An object of a JSON file."""

ROUNDING = 1.0
"""Pixels by which a box may reach beyond its image; it is cut off there. Rounding does that, mistakes do more."""


@dataclass(frozen=True, slots=True)
class Picture:
    """An image, as its annotations describe it; sizes in pixels."""

    id: int
    file_name: str
    height: int
    width: int


@dataclass(frozen=True, slots=True)
class Instance:
    """An object in an image.

    Attributes:
        id: its number.
        image: the image's number.
        category: the category's number, as in the file.
        box: ``(x0, y0, x1, y1)`` in pixels, within the image.
        area: of its mask, or of its box, in square pixels.
        crowd: whether it stands for many objects at once.
        segmentation: polygons or a run-length encoded mask, as in the file; None for none.
    """

    id: int
    image: int
    category: int
    box: tuple[float, float, float, float]
    area: float
    crowd: bool
    segmentation: Any


@dataclass(frozen=True)
class Annotations:
    """A whole annotation file.

    Attributes:
        where: what errors call it.
        pictures: images, in the order of the file.
        categories: number -> name, in the order of numbers.
        instances: number of an image -> its objects; every image is there.
    """

    where: str
    pictures: tuple[Picture, ...]
    categories: dict[int, str]
    instances: dict[int, tuple[Instance, ...]]


def read_annotations(source: pathlib.Path | str | Json, skip_invalid: bool = False) -> Annotations:
    """Reads an annotation file.

    Args:
        source: the file, or what it would hold.
        skip_invalid: leave out objects with impossible boxes, with a warning; otherwise one is an error.

    Raises:
        DataError: for what is no JSON of this layout: missing or wrong fields, numbers given twice, images or
            categories that are referred to and not there, boxes without area or outside their image.
    """
    if isinstance(source, Mapping):
        return _Reader("annotations", skip_invalid).read(source)
    file = pathlib.Path(source)
    with reading(file, DataError, "copy it again"):
        try:
            value = parse(read_bytes(file))
        except OSError as error:
            raise DataError(f"the annotations {file} cannot be read ({error.strerror}); check the path.") from error
        return _Reader(str(file), skip_invalid).read(value)


class _Reader:
    """One reading of one file."""

    def __init__(self, where: str, skip_invalid: bool) -> None:
        self.where = where
        self.skip_invalid = skip_invalid

    def read(self, value: Any) -> Annotations:
        pictures = [self._picture(entry, at) for entry, at in self._once(self._entries(value, "images"))]
        categories = {
            self._whole(entry, "id", at): storable(self._field(entry, "name", at, lambda v: isinstance(v, str), "text"))
            for entry, at in self._once(self._entries(value, "categories"))
        }
        known = {picture.id: picture for picture in pictures}
        instances: dict[int, list[Instance]] = {picture.id: [] for picture in pictures}
        skipped = []
        for entry, at in self._once(self._entries(value, "annotations")):
            try:
                instance = self._instance(entry, at, known, categories)
            except _BoxError as error:
                if not self.skip_invalid:
                    raise DataError(
                        f"{error}; correct it, or give skip_invalid=True to leave such objects out."
                    ) from error
                skipped.append(str(error))
            else:
                instances[instance.image].append(instance)
        if skipped:
            warnings.warn(f"{len(skipped)} objects were left out, the first: {skipped[0]}.", stacklevel=4)
        if not pictures or not categories:
            missing = "categories" if pictures else "images"
            raise DataError(f"{self.where} lists no {missing}; a set needs at least one.")
        numbers = {image: tuple(found) for image, found in instances.items()}
        return Annotations(self.where, tuple(pictures), dict(sorted(categories.items())), numbers)

    def _entries(self, value: Any, name: str) -> Iterator[tuple[Json, str]]:
        """The objects of a list, each with a word on where it stands."""
        found = value.get(name) if isinstance(value, Mapping) else None
        if not isinstance(found, list):
            raise DataError(
                f"{self.where} has no list {name!r}; COCO's layout needs 'images', 'annotations' and 'categories'. "
                "Is it the annotation file of another task?"
            )
        for i, entry in enumerate(found):
            at = f"{self.where}, {name}[{i}]"
            if not isinstance(entry, Mapping):
                raise DataError(f"{at} is {entry!r}, not an object; correct the file.")
            yield entry, at

    def _once(self, entries: Iterable[tuple[Json, str]]) -> Iterator[tuple[Json, str]]:
        """The same entries, each with a number of its own."""
        seen: dict[Hashable, str] = {}
        for entry, at in entries:
            number = self._whole(entry, "id", at)
            if number in seen:
                raise DataError(f"{at}: id {number} is that of {seen[number]} too; give each its own.")
            seen[number] = at.rpartition(", ")[2]
            yield entry, at

    def _field(self, entry: Json, name: str, at: str, good: Callable[[Any], bool], what: str) -> Any:
        if name not in entry:
            raise DataError(f"{at} has no {name!r}; add it ({what}).")
        if not good(entry[name]):
            raise DataError(f"{at}: {name!r} is {entry[name]!r}; it must be {what}.")
        return entry[name]

    def _whole(self, entry: Json, name: str, at: str, least: float = -math.inf) -> int:
        what = "a whole number" + ("" if least == -math.inf else f" of at least {least:g}")
        found = self._field(entry, name, at, lambda v: _number(v) and v == int(v) and v >= least, what)
        return int(found)

    def _picture(self, entry: Json, at: str) -> Picture:
        name = entry.get("file_name", "")
        if not isinstance(name, str):
            raise DataError(f"{at}: 'file_name' is {name!r}; it must be text.")
        return Picture(
            self._whole(entry, "id", at), name, self._whole(entry, "height", at, 1), self._whole(entry, "width", at, 1)
        )

    def _instance(self, entry: Json, at: str, known: Mapping[int, Picture], categories: Mapping[int, str]) -> Instance:
        image, category = self._whole(entry, "image_id", at), self._whole(entry, "category_id", at)
        if image not in known:
            raise DataError(f"{at} belongs to image {image}, which 'images' does not list; add the image or remove it.")
        if category not in categories:
            listed = ", ".join(f"{number} ({name})" for number, name in list(categories.items())[:5])
            raise DataError(f"{at}: category {category} is unknown; listed are {listed or 'none'}.")
        box = self._box(entry, at, known[image])
        area = entry.get("area", (box[2] - box[0]) * (box[3] - box[1]))
        if not _number(area) or area < 0:
            raise DataError(f"{at}: 'area' is {area!r}; it must be a number of square pixels.")
        segmentation = entry.get("segmentation") or None
        return Instance(
            self._whole(entry, "id", at), image, category, box, float(area), bool(entry.get("iscrowd", 0)), segmentation
        )

    def _box(self, entry: Json, at: str, picture: Picture) -> tuple[float, float, float, float]:
        box = self._field(
            entry, "bbox", at, lambda v: isinstance(v, list) and len(v) == 4 and all(map(_number, v)), "[x, y, w, h]"
        )
        x, y, w, h = map(float, box)
        if w <= 0 or h <= 0:
            raise _BoxError(f"{at}: the box {box} has no area (x, y, width, height)")
        over = max(-x, -y, x + w - picture.width, y + h - picture.height)
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, picture.width), min(y + h, picture.height)
        if over > ROUNDING or x1 <= x0 or y1 <= y0:
            raise _BoxError(
                f"{at}: the box {box} (x, y, width, height) reaches {over:g} pixels outside image {picture.id} of "
                f"{picture.width} x {picture.height}"
            )
        return x0, y0, x1, y1


class _BoxError(ValueError):
    """A box that cannot be."""


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
