"""``load_cut`` reads what `save_cut` wrote, from data alone: the original network is made, routed and cut again."""

from __future__ import annotations

import hashlib
import pathlib

import safetensors.torch
import torch
from torch import nn

from torchpaths.cuts.spec import LOADER, SPEC, WEIGHTS, Spec
from torchpaths.errors import DataError, RunError
from torchpaths.extraction import extract
from torchpaths.routing import route


def load_cut(folder: pathlib.Path | str) -> nn.Module:
    """A network that `save_cut` wrote, in evaluation mode. No code of the folder is run: the original is cut again.

    Raises:
        DataError: if a file is missing, cut short, edited or of another schema, or does not fit the others.
        RunError: if the library of its original is not installed or does not know it.
    """
    folder = pathlib.Path(folder)
    spec = Spec.read(folder)
    try:
        data = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{folder}: {WEIGHTS} is missing; copy the whole folder.") from error
    if hashlib.sha256(data).hexdigest() != spec.sha256:
        raise DataError(f"{folder / WEIGHTS} is truncated or was changed: {len(data):,} bytes; copy the folder again.")
    weights = safetensors.torch.load(data)
    dtype = getattr(torch, str(spec.dtype), None)
    if not isinstance(dtype, torch.dtype):
        raise DataError(
            f"{folder / SPEC}: torch has no dtype {spec.dtype!r}; the file was edited, cut the network again."
        )
    stored = {t.dtype for t in weights.values() if t.is_floating_point()}
    if stored - {dtype}:
        raise DataError(
            f"{folder / SPEC}: the weights are no {spec.dtype}; the file was edited, cut the network again."
        )
    try:
        model = spec.source.make().to(dtype)
        net = route(model, spec.method, example=torch.zeros(2, *spec.shape, dtype=dtype))
        module = extract(net, spec.path, classes=spec.kept)
        module.load_state_dict(weights)
    except RunError:
        raise
    except Exception as error:  # whatever torch or the library says to what an edited file asks for
        raise DataError(
            f"{folder}: path, weights and network do not fit each other ({error}); {SPEC} was edited, or another "
            f"version of {spec.source.library} is installed. {LOADER} opens networks with blocks given by hand."
        ) from error
    return module.eval()
