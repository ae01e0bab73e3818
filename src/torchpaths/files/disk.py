"""Files as bytes: only regular ones, and only inside the folder that names them.

A folder may come from a stranger. What it names is a file of its own or nothing: no ``..``, no absolute path, no link
that leads out; and nothing is read that never ends, as a named pipe.
"""

from __future__ import annotations

import errno
import os
import pathlib
import stat

from torchpaths.errors import clip
from torchpaths.schema import MalformedError


def read_bytes(file: pathlib.Path) -> bytes:
    """The contents of a regular file.

    Raises:
        OSError: as `open` does, and for what is no regular file, without waiting for it.
    """
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as opened:
        mode = os.fstat(opened.fileno()).st_mode
        if not stat.S_ISREG(mode):
            code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
            raise OSError(code, os.strerror(code) if code == errno.EISDIR else "no regular file", str(file))
        return opened.read()


def beneath(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The file of that name in a folder or in folders within it, ``a/b.png``; it need not be there.

    For images, whose data sets are often made of links: where a link leads is not asked.

    Raises:
        MalformedError: for a name that leads out of the folder.
    """
    if name.startswith("/") or ".." in name.split("/") or any(c in name for c in "\\:\0"):
        raise MalformedError(f"{clip(repr(name), 80)} leads out of {clip(str(folder), 150)}, and nothing else is read")
    return folder / name


def inside(folder: pathlib.Path, name: str) -> pathlib.Path:
    """The file or folder of that name directly in a folder; it need not be there.

    Raises:
        MalformedError: for a name that is a path, or that of a link which leads out of the folder.
    """
    if name in ("", ".", "..") or any(c in name for c in "/\\:\0"):
        raise MalformedError(f"{clip(repr(name), 80)} is no name of a file beside it, and nothing else is read")
    found = folder / name
    try:
        out = found.is_symlink() and not found.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        out = True
    if out:
        raise MalformedError(
            f"{clip(str(found), 150)} is a link out of the folder, which is not followed; copy with cp -rL"
        )
    return found
