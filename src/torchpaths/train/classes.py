"""Whether the classes of images are those that a run was trained on: by name, since as many are not the same ones."""

from __future__ import annotations

import pathlib

from torchpaths.errors import DataError


def check_classes(
    name: str, theirs: tuple[str, ...], folder: pathlib.Path, own: tuple[str, ...], role: str = "run"
) -> None:
    """Raises `DataError` unless the classes of the data set ``name`` are those of the run ``folder``, in order."""
    trained = f"the {role} {folder} was trained on"
    if len(theirs) != len(own):
        raise DataError(
            f"{name} has {len(theirs)} classes, {trained} {len(own)}; give one of the same classes, or another {role}."
        )
    for label, (here, there) in enumerate(zip(theirs, own, strict=True)):
        if here != there:
            raise DataError(
                f"class {label} of {name} is {here!r}, {trained} {there!r} there; give a data set of the same classes "
                f"in the same order, or another {role}."
            )
