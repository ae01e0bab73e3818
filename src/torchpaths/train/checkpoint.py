"""Checkpoints that survive SIGKILL, a full disk and a flipped bit: safetensors and JSON, written atomically.

    checkpoints/step-00000120/state.safetensors   weights, optimizer, averages, this epoch's losses
    checkpoints/step-00000120/state.json          step, recipe, SHA-256 of the tensors, scalars
    checkpoints/index.json                        which folders are the last, the one before it and the best

A checkpoint is written into a temporary folder, flushed to the disk, renamed into place, and only then named in the
index, which is replaced atomically as well. So at any moment the index names whole checkpoints. Those it does not name
do not exist: they are removed, or written anew when a resumed run comes to the same step.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from torchpaths.errors import RunError
from torchpaths.files.disk import inside, read_bytes
from torchpaths.files.document import read_json
from torchpaths.files.tensors import read_tensors, to_bytes
from torchpaths.files.write import disk, sync_folder, write_file
from torchpaths.schema import Count, convert, parse, reading

SCHEMA = "torchpaths.checkpoint/1"
TENSORS = "state.safetensors"
SCALARS = "state.json"
INDEX = "index.json"


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What a run needs to go on.

    Attributes:
        step: optimizer steps done.
        tensors: name -> tensor, on the CPU.
        scalars: JSON values.
        folder: where it was read from; None for one not yet written.
    """

    step: int
    tensors: Mapping[str, Tensor]
    scalars: Mapping[str, Any]
    folder: Path | None = None

    @property
    def metrics(self) -> int:
        """How many bytes of metrics were written when it was.

        Raises:
            RunError: where it does not say.
        """
        with reading(self.folder, RunError, "remove it to go on from the checkpoint before it"):
            found: int = convert(self.scalars["metrics"], Count, "metrics")
            return found


def save(root: Path, checkpoint: Checkpoint, best: bool) -> Path:
    """Writes a checkpoint, names it the last (and the best) in the index and removes those no longer kept.

    Args:
        root: the run's folder of checkpoints; made if absent.
        checkpoint: what to write.
        best: whether it is the best so far.

    Returns:
        Its folder.

    Raises:
        RunError: if the disk is full or refuses; earlier checkpoints are untouched.
    """
    name = f"step-{checkpoint.step:08d}"
    folder, fresh = root / name, root / f".{name}.{os.getpid()}"
    index = _index(root)
    with disk(folder, "earlier checkpoints are intact"):
        root.mkdir(parents=True, exist_ok=True)
        if name not in index.values():
            try:
                _write(fresh, checkpoint)
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(fresh, folder)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
            sync_folder(root)
        last = index.get("last")
        index = {
            **index,
            "last": name,
            **({"before": last} if last and last != name else {}),
            **({"best": name} if best else {}),
        }
        write_file(root / INDEX, json.dumps(index).encode())
    for old in root.iterdir():
        if old.name not in index.values() and old.name.lstrip(".").startswith("step-"):
            shutil.rmtree(old, ignore_errors=True)
    return folder


def _write(fresh: Path, checkpoint: Checkpoint) -> None:
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    data = to_bytes(checkpoint.tensors)
    scalars = {
        "schema": SCHEMA,
        "step": checkpoint.step,
        "sha256": hashlib.sha256(data).hexdigest(),
        **checkpoint.scalars,
    }
    write_file(fresh / TENSORS, data)
    write_file(fresh / SCALARS, json.dumps(scalars, indent=1).encode())
    sync_folder(fresh)


def load(root: Path, which: str = "last") -> Checkpoint | None:
    """The last or the best checkpoint of a run.

    Args:
        root: the run's folder of checkpoints.
        which: "last" or "best".

    Returns:
        None if there is none yet.

    Raises:
        RunError: if it is truncated, corrupt or of another schema, naming the file and what to do.
    """
    index = _index(root)
    for role in (which, "before") if which == "last" else (which,):
        if role in index:
            return read(root / index[role])
    return None


def read(folder: Path) -> Checkpoint:
    """A checkpoint from its folder; see `load`."""
    remedy = f"remove {folder} to go on from the checkpoint before it, or start in a new folder"
    scalars = read_json(folder / SCALARS, RunError, remedy)
    with reading(folder / SCALARS, RunError, remedy):
        if scalars.get("schema") != SCHEMA:
            raise RunError(f"no checkpoint of schema {SCHEMA!r}: found {scalars.get('schema')!r}; {remedy}.")
        known: _Known = convert(scalars, _Known)
    return Checkpoint(known.step, read_tensors(folder / TENSORS, RunError, remedy, known.sha256), scalars, folder)


@dataclasses.dataclass(frozen=True)
class _Known:
    """What every checkpoint says."""

    step: Count
    sha256: str


def _index(root: Path) -> dict[str, str]:
    """Role (last, before, best) -> name of a checkpoint that is there."""
    path = root / INDEX
    example = '{"last": "step-00000100"}'
    with reading(path, RunError, f"write the name of a checkpoint beside it into it: {example}"):
        try:
            data = read_bytes(inside(root, INDEX))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        index: dict[str, str] = convert(parse(data), dict[str, str])
        return {role: name for role, name in index.items() if inside(root, name).is_dir()}
