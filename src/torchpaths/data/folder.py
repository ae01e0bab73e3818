"""Images in a folder per class, in torchvision's ``ImageFolder`` conventions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, make_dataset

from torchpaths.data.decode import is_raster
from torchpaths.data.holdout import Holdout
from torchpaths.errors import DataError, clip
from torchpaths.files.disk import read_bytes
from torchpaths.text import storable

SUFFIXES = (*IMG_EXTENSIONS, ".gif")
_PROBES = 3  # files of an unknown ending that are looked into


class FolderImages:
    """``root/<class>/**/<image>``: classes are the folders' names in order, labels their numbers.

    Args:
        name: what errors call the set.
        root: the split's folder.
        classes_of: the folder whose classes count, the training set's: another split may lack some, never add any.
        test: whether these are for testing.
        holdout: take those of ``root`` alone that are held out, for training the others; None takes all.

    Attributes:
        classes: folder names.
        labels: int64 ``[N]``.
        groups: None, each file is read alone.
        names: of the files, from ``root`` on.

    Raises:
        DataError: for folders without classes or images, classes that training lacks, and classes without an image for
            training.
    """

    groups: NDArray[np.int64] | None = None

    def __init__(
        self, name: str, root: Path, classes_of: Path, test: bool = False, holdout: Holdout | None = None
    ) -> None:
        self.name = name
        try:
            classes, numbers = find_classes(str(classes_of))
            own, _ = find_classes(str(root))
        except FileNotFoundError as error:
            raise DataError(f"{name}: {error}; put the images into one folder per class.") from error
        classes = [name for name in classes if not name.startswith(".")]  # .ipynb_checkpoints and the like
        own = [name for name in own if not name.startswith(".")]
        numbers = {name: number for number, name in enumerate(classes)}
        _check_links(root)
        extra = sorted(set(own) - set(classes))
        if extra:
            raise DataError(
                f"{root} has classes that {classes_of} lacks: {', '.join(extra[:3])}; labels would not agree."
            )
        found = make_dataset(str(root), numbers, extensions=SUFFIXES, allow_empty=True)
        # Regular files only: reading a named pipe would wait for ever.
        samples = [(file, label) for file, label in found if Path(file).is_file() and not _hidden(Path(file), root)]
        _mention_others(name, root, classes)
        if not samples:
            raise DataError(f"{root} has class folders but no images; known file types: {', '.join(SUFFIXES)}.")
        self._root, self.holdout = root, holdout
        self.classes = tuple(map(storable, classes))
        self.labels = np.array([label for _, label in samples], dtype=np.int64)
        self._files: list[str] = [file for file, _ in samples]
        if not test:
            _check_filled(root, classes, self.labels)
        if holdout is not None:
            kept = np.flatnonzero(holdout.chosen(self.names, self.labels) == test)
            self.labels = self.labels[kept]
            self._files = [self._files[i] for i in kept.tolist()]

    @property
    def names(self) -> list[str]:
        return [Path(file).relative_to(self._root).as_posix() for file in self._files]

    def where(self, row: int) -> str:
        """The file."""
        return self._files[row]

    def fetch(self, rows: NDArray[np.int64]) -> list[bytes | None]:
        """Encoded images.

        Raises:
            DataError: if a file cannot be read.
        """
        try:
            return [read_bytes(Path(self._files[row])) for row in rows.tolist()]
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read ({error.strerror}).") from error


def _check_filled(root: Path, classes: Sequence[str], labels: NDArray[np.int64]) -> None:
    """Raise `DataError` for classes of which a network could learn nothing."""
    empty = sorted(set(range(len(classes))) - set(labels.tolist()))
    if empty:
        first = ", ".join(repr(classes[i]) for i in empty[:3]) + (", ..." if len(empty) > 3 else "")
        raise DataError(
            f"{root}: no images in {len(empty)} of {len(classes)} class folders ({first}); fill or remove them. Known "
            f"file types: {', '.join(SUFFIXES)}."
        )


def _hidden(file: Path, root: Path) -> bool:
    """Whether a file, or a folder between it and the root, has a name that hides it."""
    return any(part.startswith(".") for part in file.relative_to(root).parts)


def _mention_others(name: str, root: Path, classes: Sequence[str]) -> None:
    """Warns of images that are left out because of how their names end; a few of each ending are looked into."""
    endings: dict[str, list[Path]] = {}
    for file in (file for each in classes for file in sorted((root / each).rglob("*"))):
        if not file.name.lower().endswith(SUFFIXES) and file.is_file() and not _hidden(file, root):
            endings.setdefault(file.suffix.lower(), []).append(file)
    images = {ending: files for ending, files in endings.items() if any(map(is_raster, files[:_PROBES]))}
    if images:
        told = ", ".join(f"{len(files)} that end in {ending or 'nothing'}" for ending, files in images.items())
        first = next(iter(images.values()))[0]
        warnings.warn(
            f"{name}: files are left out because of their names, although they hold images ({clip(told, 150)}), first "
            f"{first}; rename them to one of {', '.join(SUFFIXES)} to have them read.",
            stacklevel=5,
        )


def _check_links(root: Path) -> None:
    """Refuses links to folders within the tree or around it, by which images would be there several times.

    Raises:
        DataError: naming the link.
    """
    top = root.resolve()
    for link in (p for p in root.rglob("*") if p.is_symlink() and p.is_dir()):
        target = link.resolve()
        if target == top or top in target.parents or target in top.parents:
            raise DataError(f"{link} is a link to {target}, so images would count twice; remove the link.")
