"""Images in a folder per class, in torchvision's ``ImageFolder`` conventions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from torchpaths.errors import DataError


class FolderImages:
    """``root/<class>/**/<image>``: classes are the folders' names in order, labels their numbers.

    Args:
        name: what errors call the set.
        root: the split's folder.
        classes_of: the folder whose classes count, the training set's: another split may lack some, never add any.

    Attributes:
        classes: folder names.
        labels: int64 ``[N]``.
        groups: None, each file is read alone.

    Raises:
        DataError: for folders without classes or images, and for classes that training lacks.
    """

    groups: NDArray[np.int64] | None = None

    def __init__(self, name: str, root: Path, classes_of: Path) -> None:
        self.name = name
        try:
            classes, numbers = find_classes(str(classes_of))
            own, _ = find_classes(str(root))
        except FileNotFoundError as error:
            raise DataError(f"{name}: {error}; put the images into one folder per class.") from error
        extra = sorted(set(own) - set(classes))
        if extra:
            raise DataError(
                f"{root} has classes that {classes_of} lacks: {', '.join(extra[:3])}; labels would not agree."
            )
        samples = make_dataset(str(root), numbers, extensions=IMG_EXTENSIONS, allow_empty=True)
        if not samples:
            raise DataError(f"{root} has class folders but no images; known file types: {', '.join(IMG_EXTENSIONS)}.")
        self.classes = tuple(classes)
        self.labels = np.array([label for _, label in samples], dtype=np.int64)
        self._files: list[str] = [file for file, _ in samples]

    def where(self, row: int) -> str:
        """The file."""
        return self._files[row]

    def fetch(self, rows: NDArray[np.int64]) -> list[bytes | None]:
        """Encoded images.

        Raises:
            DataError: if a file cannot be read.
        """
        try:
            return [Path(self._files[row]).read_bytes() for row in rows.tolist()]
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read ({error.strerror}).") from error
