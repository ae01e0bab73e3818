"""Folders written whole or not at all: ``fresh_folder``."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from torchpaths.errors import RunError
from torchpaths.files.write import disk, sync_folder

OURS = frozenset({"spec.json", "recipe.json", "closed.json"})
"""What says that a folder holds a network which this library wrote."""


def check_free(out: pathlib.Path, force: bool = False) -> None:
    """Raise `RunError` unless a folder can be written: it is new or empty, or with ``force`` holds such a network."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not force:
        raise RunError(
            f"{out} is there already and not empty; name a new folder, or remove it first, which --force does with a "
            "folder that holds a network."
        )
    if out.is_symlink() or not out.is_dir() or not any((out / name).is_file() for name in OURS):
        raise RunError(
            f"{out} holds no network that torchpaths wrote, so --force does not replace it; name a new folder."
        )


def check_new(file: pathlib.Path, force: bool) -> None:
    """Raise `RunError` if a file would be replaced that nobody said to replace."""
    if file.is_dir():
        raise RunError(f"{file} is a folder; name a file in it.")
    if not force and (file.exists() or file.is_symlink()):
        raise RunError(f"{file} is there already; name another file, or say --force to replace it.")


@contextmanager
def fresh_folder(out: pathlib.Path, force: bool = False) -> Iterator[pathlib.Path]:
    """A folder to write into, which takes the name ``out`` when all is written, and is gone if anything fails.

    Args:
        out: an absolute path; its parents are made.
        force: replace a network that is there, once the new one is whole.

    Raises:
        RunError: as `check_free`; or if the disk is full or refuses.
    """
    check_free(out, force)
    fresh, old = (out.with_name(f".{out.name}.{os.getpid()}{end}") for end in ("", ".old"))
    with disk(out, "nothing was written"):
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir()
        try:
            yield fresh
            sync_folder(fresh)
            if force and out.exists():
                os.replace(out, old)
            os.replace(fresh, out)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            if old.exists() and not out.exists():
                os.replace(old, out)
            shutil.rmtree(fresh, ignore_errors=True)
        sync_folder(out.parent)
