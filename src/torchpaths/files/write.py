"""Files written whole or not at all, and a disk that is full or refuses told in the library's words."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torchpaths.errors import RunError


def write_file(path: Path, data: bytes) -> None:
    """Writes a file so that at any moment ``path`` holds the old content or the new, whole and on the disk."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(fresh, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries (names) to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk(path: Path, intact: str) -> Iterator[None]:
    """Turns what the disk may answer into a `RunError` that says what is safe and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(
                f"the disk is full: {path} could not be written; {intact}. Free some space and run again to resume."
            ) from error
        if error.errno == errno.EFBIG:
            raise RunError(
                f"{path} could not be written: files may not grow so large here; {intact}. Raise the limit (ulimit -f) "
                "and run again to resume."
            ) from error
        raise RunError(
            f"{path} could not be written ({error}); {intact}. Make the folder writable and run again."
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Writes JSON data into a file, whose folder is made if absent.

    Raises:
        RunError: if the disk is full or refuses; what was there before is intact.
    """
    with disk(path, "what was there before is intact"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, (json.dumps(value, indent=1) + "\n").encode())
