"""Weights from files: all of them fit, or none is taken.

Safetensors, or what ``torch.save`` wrote of tensors, numbers and text alone: a bare state_dict, or a checkpoint of timm
(``.pth.tar``), of torchvision's references or of a trainer, which hold one under a name of their own. Wrappers put
words before the names of all tensors (DDP, torch.compile, a trainer, this library's `Routed`); they are taken off. A
last layer of other classes may be left out, where that is asked for.
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
from torch import Tensor, nn

from torchpaths.errors import RunError, reason
from torchpaths.files.tensors import read_tensors

_HOLDERS = ("state_dict", "model", "model_state_dict", "module", "net", "weights")
"""Under which checkpoints keep a state_dict, in the order in which they are looked for."""


@dataclass(frozen=True)
class Head:
    """A last layer that starts anew.

    Attributes:
        name: of the layer, or of several with commas between.
        was: classes of the weights; None where they have no such layer.
        now: classes of the network.
    """

    name: str
    was: int | None
    now: int


def load_weights(model: nn.Module, path: Path | str, new_head: bool = False) -> Head | None:
    """Fill ``model`` from a file, strictly: every tensor has its place and every place its tensor.

    Batch normalisation's ``num_batches_tracked`` may be absent: older files have none, and with a fixed momentum it has
    no effect.

    Args:
        model: changed only if everything fits.
        path: the file, see above.
        new_head: a last layer of another number of classes, or that the file lacks, stays as it is in ``model``.

    Returns:
        The last layer, where it stayed as it was.

    Raises:
        RunError: for a file that is missing, truncated or changed, that only running code in it would read, or that
            belongs to another network.
    """
    return fill(model, read_weights(path), str(path), new_head)


def fill(model: nn.Module, weights: Mapping[str, Tensor], where: str, new_head: bool = False) -> Head | None:
    """Fill ``model`` from tensors by name; ``where`` is what errors call them. The rest as `load_weights`."""
    wanted = model.state_dict()
    found = _unwrapped(dict(weights), wanted)
    head = _head(model, found) if new_head else None
    if head is not None:
        own = tuple(f"{name}." for name in head.name.split(", "))
        found = {name: value for name, value in found.items() if not name.startswith(own)}
        wanted = {name: value for name, value in wanted.items() if not name.startswith(own)}
    problems = [
        *_some("absent from the file", [k for k in wanted if k not in found and not k.endswith("num_batches_tracked")]),
        *_some("unknown to the model", [k for k in found if k not in wanted]),
        *_some(
            "of another shape",
            [
                f"{k} {_shape(found[k])} for {_shape(v)}"
                for k, v in wanted.items()
                if k in found and found[k].shape != v.shape
            ],
        ),
    ]
    if problems:
        raise RunError(
            f"{where} holds the weights of another network than this {type(model).__name__}: {'; '.join(problems)}. "
            f"Create the network they were made for (depth, shortcut, classes){_only_head(model, found, new_head)}."
        )
    with torch.no_grad():
        for name, value in found.items():
            wanted[name].copy_(value)
    return head


def _only_head(model: nn.Module, found: Mapping[str, Tensor], new_head: bool) -> str:
    """A remedy more, where nothing but the last layer differs."""
    return "" if new_head or _head(model, found) is None else ", or fine-tune them for these classes (finetune=True)"


def _head(model: nn.Module, found: Mapping[str, Tensor]) -> Head | None:
    """The last layers, if they alone differ from what a file has, and in their classes alone; else None."""
    wanted = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    differ = [k for k, v in wanted.items() if k not in found or found[k].shape != v.shape]
    layers = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    names = list(dict.fromkeys(k.rpartition(".")[0] for k in differ))
    if not names or not set(names) <= layers.keys():
        return None
    absent = [k for k in differ if k not in found]
    other = [k for k in differ if k in found]
    if absent and (other or names != [list(layers)[-1]]):
        return None
    if any(found[k].dim() != wanted[k].dim() or found[k].shape[1:] != wanted[k].shape[1:] for k in other):
        return None
    if len({len(wanted[k]) for k in differ}) != 1 or len({len(found[k]) for k in other}) > 1:
        return None
    return Head(", ".join(names), len(found[other[0]]) if other else None, len(wanted[differ[0]]))


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a file, by the names they have there. Errors as `load_weights`."""
    path = Path(path)
    if not path.is_file():
        raise RunError(f"there is no weights file {path}.")
    with path.open("rb") as stream:
        head = stream.read(1)
    if zipfile.is_zipfile(path) or head == b"\x80":
        return _pickled(path)
    return read_tensors(path, RunError, "copy it again", own=False)


def _pickled(path: Path) -> dict[str, Tensor]:
    """The state_dict that ``torch.save`` wrote, by itself or within a checkpoint."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:  # torch does not look at its checksums
                broken = archive.testzip()
            if broken is not None:
                raise zipfile.BadZipFile(f"the checksum of {broken} is another")
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm keeps its arguments so, and it is data
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{path} holds more than tensors, numbers and text, or is damaged; to read more would run code that the "
            "file names. If you trust it, write its weights anew: found = torch.load(file, weights_only=False), then "
            "torch.save(found['state_dict'], 'weights.pth'), or of a whole model torch.save(found.state_dict(), "
            "'weights.pth'), found['model'].float() in place of found where it lies under that name."
        ) from error
    except Exception as error:  # a damaged pickle may raise anything
        raise RunError(f"{path} is truncated or corrupt ({reason(error)}); copy it again.") from error
    state = _state(found)
    if state is None:
        what = f"a {type(found).__name__}" + (f" of {', '.join(map(repr, list(found)[:5]))}" if _is_dict(found) else "")
        raise RunError(f"{path} holds {what}, no weights by name; write them: torch.save(model.state_dict(), file).")
    return state


def _state(found: Any) -> dict[str, Tensor] | None:
    """A state_dict, or the one in a checkpoint; None if there is none."""
    if not _is_dict(found):
        return None
    if found and all(isinstance(value, Tensor) for value in found.values()):
        return dict(found)
    return next((state for name in _HOLDERS if (state := _state(found.get(name))) is not None), None)


def _is_dict(found: Any) -> bool:
    return isinstance(found, Mapping) and all(isinstance(name, str) for name in found)


def _unwrapped(found: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without what wrappers put before all of their names: module., _orig_mod., model., net., ..."""
    while found and not found.keys() & wanted.keys():
        prefix, dot, _ = next(iter(found)).partition(".")
        if not dot or not all(name.startswith(f"{prefix}.") for name in found):
            break
        found = {name.removeprefix(f"{prefix}."): value for name, value in found.items()}
    return found


def _some(what: str, names: list[str], most: int = 3) -> list[str]:
    if not names:
        return []
    more = ", ..." if len(names) > most else ""
    return [f"{len(names)} tensors {what} ({', '.join(names[:most])}{more})"]


def _shape(tensor: torch.Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"
