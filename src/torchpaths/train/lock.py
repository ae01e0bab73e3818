"""One process at a time in a run folder: two would delete each other's half-written checkpoints.

The lock is the kernel's (``flock``), so it goes with the process that holds it, however that ends: nothing is left that
a later run would have to remove. The file itself says who holds it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pathlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from torchpaths.errors import RunError
from torchpaths.files.write import disk

LOCK = ".lock"


@contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """A run folder that is this process's until the end of the block.

    Args:
        folder: there already.

    Raises:
        RunError: if another process holds it, or the lock cannot be written.
    """
    path = folder / LOCK
    with disk(path, "nothing was changed"):
        file = open(path, "a+")  # noqa: SIM115, closed below
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                file.seek(0)
                holder = file.read(200).strip() or "another process"
                raise RunError(
                    f"{folder} is being trained into by {holder}; wait for it or stop it, or choose another folder."
                ) from error
            # A file system that knows no locks: better to train unguarded than not at all.
        else:
            with disk(path, "nothing was changed"):
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                file.flush()
        yield
