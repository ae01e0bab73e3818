"""Weights from safetensors files: all of them fit, or none is taken."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from torchpaths.errors import RunError
from torchpaths.files.tensors import read_tensors


def load_weights(model: nn.Module, path: Path | str) -> None:
    """Fill ``model`` from a safetensors file, strictly: every tensor has its place and every place its tensor.

    Batch normalisation's ``num_batches_tracked`` may be absent: older files have none, and with a fixed momentum it has
    no effect.

    Args:
        model: changed only if everything fits.
        path: the file.

    Raises:
        RunError: for a file that is missing, truncated or changed, or that belongs to another network.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"there is no weights file {path}.")
    found = read_tensors(path, RunError, "copy it again", own=False)

    wanted = model.state_dict()
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
            f"{path} holds the weights of another network than this {type(model).__name__}: {'; '.join(problems)}. "
            "Create the network the file was made for (depth, shortcut, classes)."
        )
    with torch.no_grad():
        for name, value in found.items():
            wanted[name].copy_(value)


def _some(what: str, names: list[str], most: int = 3) -> list[str]:
    if not names:
        return []
    more = ", ..." if len(names) > most else ""
    return [f"{len(names)} tensors {what} ({', '.join(names[:most])}{more})"]


def _shape(tensor: torch.Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"
