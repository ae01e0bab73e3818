"""Images in Parquet files of the Hugging Face layout.

A column of structs ``{bytes, path}`` (encoded image, file name) and a column of integer labels; the schema metadata
under ``huggingface`` describes them and names the classes. A split is one file or several shards.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from torchpaths.data.images import GROUPS_AT_ONCE
from torchpaths.errors import DataError
from torchpaths.schema import parse
from torchpaths.text import storable

MOST_CLASSES = 2**20
"""Labels without names are counted up to so many classes: one stray label would else fill the memory with names."""

_SHARD = re.compile(r"-\d+-of-(\d+)\.parquet$")


def find_shards(root: Path, prefixes: Sequence[str]) -> list[Path]:
    """The files of a split: ``<prefix>.parquet`` or ``<prefix>-*.parquet``, in ``root`` or ``root/data``.

    Args:
        root: the data set's folder.
        prefixes: names of the split; the first that has files wins.

    Raises:
        DataError: if names like ``-00000-of-00005`` promise more shards than there are.
    """
    for prefix in prefixes:
        for folder in (root, root / "data"):
            files = sorted([*folder.glob(f"{prefix}.parquet"), *folder.glob(f"{prefix}-*.parquet")])
            if not files:
                continue
            promised = {int(match[1]) for file in files if (match := _SHARD.search(file.name))}
            if promised and promised != {len(files)}:
                raise DataError(
                    f"{folder} holds {len(files)} shards of {prefix!r}, "
                    f"their names promise {max(promised)}; fetch the rest."
                )
            return files
    return []


class ParquetImages:
    """The rows of one split's files, by number. Labels are read and checked at once, images when asked for.

    Args:
        name: what errors call the set.
        files: the shards, in order.

    Attributes:
        classes: names from the metadata; the numbers themselves where it has none.
        labels: int64 ``[N]``.
        groups: int64 ``[N]``, row group of each row.

    Raises:
        DataError: for a file that is truncated or no Parquet, columns that are missing, labels that are null or out
            of range, shards that disagree about the classes.
    """

    def __init__(self, name: str, files: Sequence[Path]) -> None:
        self.name = name
        self._files = tuple(files)
        self._readers = [_open(file) for file in files]
        self._columns = [_columns(file, reader.schema_arrow) for file, reader in zip(files, self._readers, strict=True)]
        rows = [
            reader.metadata.row_group(g).num_rows
            for reader in self._readers
            for g in range(reader.metadata.num_row_groups)
        ]
        self._group = [(f, g) for f, reader in enumerate(self._readers) for g in range(reader.metadata.num_row_groups)]
        self._group_start = np.cumsum([0, *rows])
        self._file_start = np.cumsum([0, *(reader.metadata.num_rows for reader in self._readers)])
        self.groups = np.repeat(np.arange(len(rows)), rows)
        self._held: OrderedDict[int, pa.Array[Any]] = OrderedDict()
        self._lock = threading.Lock()
        named = self._names()
        self.labels = self._labels(named)
        self.classes = named or tuple(str(i) for i in range(int(self.labels.max(initial=-1)) + 1))

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process opens the files anew."""
        return ParquetImages, (self.name, self._files)

    def where(self, row: int) -> str:
        """File and row within it, from 0."""
        file = int(np.searchsorted(self._file_start, row, side="right")) - 1
        return f"{self._files[file]}, row {row - self._file_start[file]}"

    def fetch(self, rows: NDArray[np.int64]) -> list[bytes | None]:
        """Encoded images; None for a null.

        Raises:
            DataError: if a row group cannot be read.
        """
        found: list[bytes | None] = [None] * len(rows)
        groups = self.groups[rows]
        with self._lock:
            for group in np.unique(groups).tolist():
                column = self._read(group)
                for i in np.flatnonzero(groups == group).tolist():
                    found[i] = column[int(rows[i] - self._group_start[group])].as_py()
        return found

    def _read(self, group: int) -> pa.Array[Any]:
        """A row group's encoded images; the last few groups are kept."""
        if group not in self._held:
            file, number = self._group[group]
            image = self._columns[file][0]
            try:
                table = self._readers[file].read_row_group(number, columns=[f"{image}.bytes"])
            except (pa.ArrowException, OSError) as error:
                raise DataError(
                    f"{self._files[file]}, row group {number} cannot be read ({_brief(error)}); "
                    "the file is damaged, copy it again."
                ) from error
            self._held[group] = pc.struct_field(table.column(image).combine_chunks(), "bytes")
            while len(self._held) > GROUPS_AT_ONCE:
                self._held.popitem(last=False)
        self._held.move_to_end(group)
        return self._held[group]

    def _names(self) -> tuple[str, ...]:
        names = [
            _class_names(r.schema_arrow, label) for r, (_, label) in zip(self._readers, self._columns, strict=True)
        ]
        for file, other in zip(self._files, names, strict=True):
            if other != names[0]:
                raise DataError(
                    f"{file} names other classes than {self._files[0]}; the shards belong to different data sets."
                )
        return names[0]

    def _labels(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        parts = []
        for file, reader, (_, label) in zip(self._files, self._readers, self._columns, strict=True):
            try:
                column = reader.read(columns=[label]).column(label)
            except (pa.ArrowException, OSError) as error:
                raise DataError(
                    f"{file}: labels cannot be read ({_brief(error)}); the file is damaged, copy it again."
                ) from error
            if not pa.types.is_integer(column.type):
                raise DataError(
                    f"{file}: column {label!r} holds {column.type}, not integers; number the classes from 0."
                )
            if column.null_count:
                row = int(np.argmax(column.is_null().to_numpy()))
                raise DataError(
                    f"{file}, row {row}: the label is null ({column.null_count} such rows); label or remove them."
                )
            values = column.to_numpy()  # compared before the cast, which would wrap the largest unsigned ones
            wrong = (values < 0) | (values >= (len(names) or MOST_CLASSES))
            if wrong.any():
                row = int(np.argmax(wrong))
                known = f"0 to {len(names) - 1}" if names else f"0 to {MOST_CLASSES - 1:,}, without class names"
                hint = (
                    "-1 usually marks a split without labels; open 'validation' instead"
                    if values[row] == -1
                    else "correct it, or the class names in the schema's metadata"
                )
                raise DataError(f"{file}, row {row}: label {values[row]} is out of range ({known}); {hint}.")
            parts.append(values.astype(np.int64))
        return np.concatenate(parts)


def _open(file: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file} is no whole Parquet file ({_brief(error)}); it may be truncated, copy it again."
        ) from error


def _features(schema: pa.Schema) -> dict[str, Any]:
    """The Hugging Face description of the columns; empty where there is none."""
    try:
        features = parse((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _columns(file: Path, schema: pa.Schema) -> tuple[str, str]:
    """Names of the image and the label column."""
    features = _features(schema)
    images = [
        n
        for n in schema.names
        if pa.types.is_struct(schema.field(n).type) and schema.field(n).type.get_field_index("bytes") >= 0
    ]
    labels = [n for n in schema.names if isinstance(features.get(n), dict) and features[n].get("_type") == "ClassLabel"]
    image = "image" if "image" in images else images[0] if len(images) == 1 else None
    label = "label" if "label" in schema.names else labels[0] if len(labels) == 1 else None
    if image is None or label is None:
        what = "image column (a struct with 'bytes')" if image is None else "label column"
        raise DataError(
            f"{file} has no {what}; its columns are {', '.join(schema.names)}. Name them 'image' and 'label'."
        )
    return image, label


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    described = _features(schema).get(label)
    names = described.get("names") if isinstance(described, dict) else None
    return tuple(storable(str(name)) for name in names) if isinstance(names, list) else ()


def _brief(error: Exception) -> str:
    """Arrow's message on one line."""
    return " ".join(str(error).split())
