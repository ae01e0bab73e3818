"""``Metrics``: a run's numbers as JSON lines, one for every window of steps and one for every evaluated epoch.

A checkpoint remembers how long the file was. A resumed run cuts the file back to that length, so that no line is there
twice and none is torn, wherever the process was killed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from pathlib import Path
from typing import Any

from torchpaths.errors import RunError
from torchpaths.files.disk import read_bytes
from torchpaths.files.write import disk
from torchpaths.schema import convert, parse, reading
from torchpaths.train.recipe import Json


class Metrics:
    """Appends JSON lines to a file.

    Args:
        path: the file; made if absent.
        keep: bytes to keep of what it holds.

    Raises:
        RunError: if the file cannot be opened or written.
    """

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        with disk(path, "checkpoints are intact"):
            self._file = open(path, "ab")  # noqa: SIM115, it stays open for the run
            # A file cut by hand may be shorter than the checkpoint knew it; whole lines of it are kept.
            if self._file.tell() < keep:
                keep = path.read_bytes().rfind(b"\n") + 1
            self._file.truncate(keep)

    def write(self, row: Json) -> None:
        """Appends a row; numbers that are not finite become null, which JSON can hold."""
        with disk(self.path, "checkpoints are intact"):
            self._file.write(json.dumps(_finite(row), allow_nan=False).encode() + b"\n")
            self._file.flush()

    def sync(self) -> int:
        """Flushes everything to the disk; returns the length in bytes."""
        with disk(self.path, "checkpoints are intact"):
            os.fsync(self._file.fileno())
            return os.fstat(self._file.fileno()).st_size

    def close(self) -> None:
        """Closes the file. What was not flushed is of a row whose `write` failed and said so."""
        with contextlib.suppress(OSError):
            self._file.close()


def read_metrics(path: Path) -> list[Json]:
    """All rows of a metrics file.

    Raises:
        RunError: for a missing file or a line that is no JSON, with its number.
    """
    try:
        lines = read_bytes(path).splitlines()
    except OSError as error:
        raise RunError(f"the metrics {path} cannot be read: {error}.") from error
    rows = []
    for number, line in enumerate(lines, 1):
        with reading(f"{path}, line {number}", RunError, "the run was cut there, resume it to mend the file"):
            rows.append(convert(parse(line), dict[str, Any]))
    return rows


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
