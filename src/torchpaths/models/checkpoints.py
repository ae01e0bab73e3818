"""Weights in files, read: safetensors, or what ``torch.save`` wrote of tensors, numbers and text alone.

A bare state_dict, or a checkpoint of timm (``.pth.tar``), of torchvision's references, of Lightning or of another
trainer, which hold one under a name of their own and may hold an average beside it. Wrappers put words before the names
of all tensors (DDP, torch.compile, a trainer, this library's `Routed`); they are taken off.
"""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchpaths.errors import RunError, reason
from torchpaths.files.tensors import read_tensors
from torchpaths.models.authors import layout_of
from torchpaths.models.authors.coded import schemes

_HOLDERS = ("state_dict", "model", "model_state_dict", "module", "net", "weights")
"""Under which checkpoints keep a state_dict, in the order in which they are looked for."""


@dataclass(frozen=True)
class Weights:
    """Tensors by name, and where they are from.

    Attributes:
        tensors: by the names they have there.
        where: what errors call them.
        beside: under which names the file holds other weights, such as an average, that are not these.
    """

    tensors: Mapping[str, Tensor]
    where: str
    beside: tuple[str, ...] = ()


def read_weights(path: Path | str, entry: str | None = None) -> dict[str, Tensor]:
    """The tensors of a file, by the names they have there.

    Args:
        path: the file.
        entry: which of a checkpoint's entries, where it holds several ("model_ema"); None for the weights themselves.

    Raises:
        RunError: for a file that is missing, truncated or changed, that only running code in it would read, or that
            holds no weights by name; for an entry that there is not.
    """
    return dict(open_weights(path, entry).tensors)


def open_weights(path: Path | str, entry: str | None = None) -> Weights:
    """As `read_weights`, and what else there is."""
    path = Path(path)
    if not path.is_file():
        raise RunError(f"there is no weights file {path}.")
    with path.open("rb") as stream:
        head = stream.read(1)
    if zipfile.is_zipfile(path) or head == b"\x80":
        return _chosen(_pickled(path), path, entry)
    return _chosen(read_tensors(path, RunError, "copy it again", own=False), path, entry)


def codewords(path: Path | str) -> tuple[tuple[str, ...], ...]:
    """The codewords in a file of Coded ResNeXt's authors, for ``CodedPaths(schemes=...)``: for each stage a text of 0
    and 1 for each class, nothing for a stage that is not coded.

    Raises:
        RunError: as `read_weights`, and for a file without codewords, or with several in one stage.
    """
    return schemes(unwrapped(read_weights(path), {}), str(path))


def _pickled(path: Path) -> Any:
    """What ``torch.save`` wrote."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # torch does not look at its checksums
                broken = archive.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"the checksum of {broken} is another")
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm keeps its arguments so, and it is data
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{path} holds more than tensors, numbers and text, or is damaged; to read more would run code that the "
            "file names. If you trust it, write its weights anew: found = torch.load(file, weights_only=False), then "
            "torch.save(found['state_dict'], 'weights.pth'), or of a whole model torch.save(found.state_dict(), "
            "'weights.pth'), found['model'].float() in place of found where it lies under that name."
        ) from error
    except Exception as error:  # a damaged pickle may raise anything
        raise RunError(f"{path} is truncated or corrupt ({reason(error)}); copy it again.") from error


def _chosen(found: Any, path: Path, entry: str | None) -> Weights:
    """The weights themselves in what a file holds, or those of an entry."""
    entries = {} if not _is_dict(found) or _is_state(found) else {n: s for n, v in found.items() if (s := _state(v))}
    if entry is not None:
        if entry not in entries:
            there = f"such entries are {', '.join(map(repr, entries))}" if entries else "it has no such entries"
            raise RunError(f"{path} has no entry {entry!r} that holds weights by name; {there}.")
        return Weights(entries[entry], str(path))
    state = _state(found)
    if state is None:
        what = f"a {type(found).__name__}" + (f" of {', '.join(map(repr, list(found)[:5]))}" if _is_dict(found) else "")
        given = f"give entry={next(iter(entries))!r}, or " if entries else ""
        raise RunError(
            f"{path} holds {what}, no weights by name; {given}write them: torch.save(model.state_dict(), file)."
        )
    taken = next((name for name in _HOLDERS if name in entries), None)
    return Weights(state, str(path), tuple(name for name in entries if name != taken))


def _state(found: Any) -> dict[str, Tensor] | None:
    """A state_dict, or the one in a checkpoint; None if there is none."""
    if not _is_dict(found):
        return None
    if _is_state(found):
        return dict(found)
    return next((state for name in _HOLDERS if (state := _state(found.get(name))) is not None), None)


def _is_state(found: Mapping[str, Any]) -> bool:
    return bool(found) and all(isinstance(value, Tensor) for value in found.values())


def unwrapped(found: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without what wrappers put before all of their names: module., _orig_mod., model., net., ..."""
    averaged = [name for name in found if name != "n_averaged"]
    if len(averaged) < len(found) and averaged and all(name.startswith("module.") for name in averaged):
        found = {name: found[name] for name in averaged}  # torch.optim.swa_utils.AveragedModel counts
    while found and not found.keys() & wanted.keys() and layout_of(found) is None:
        prefix, dot, _ = next(iter(found)).partition(".")
        if not dot or not all(name.startswith(f"{prefix}.") for name in found):
            break
        found = {name.removeprefix(f"{prefix}."): value for name, value in found.items()}
    return found


def _is_dict(found: Any) -> bool:
    return isinstance(found, Mapping) and all(isinstance(name, str) for name in found)
