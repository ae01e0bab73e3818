"""``load_cut`` reads what `save_cut` wrote, from data alone: the original network is made, routed and cut again."""

from __future__ import annotations

import pathlib

import torch
from torch import nn

from torchpaths.cuts.spec import LOADER, SPEC, WEIGHTS, Spec
from torchpaths.errors import DataError, RunError, clip
from torchpaths.extraction import extract
from torchpaths.files.tensors import read_tensors
from torchpaths.models.known import known
from torchpaths.routing import route


def load_cut(folder: pathlib.Path | str) -> nn.Module:
    """A network that `save_cut` wrote, in evaluation mode. No code of the folder is run: the original is cut again.

    The folder may come from a stranger: of its network only what `torchpaths.models.known.known` lets pass is made.

    Raises:
        DataError: if a file is missing, cut short, edited or of another schema, or does not fit the others.
        RunError: if the library of its original is not installed or does not know it.
    """
    folder = pathlib.Path(folder)
    spec = Spec.read(folder)
    if not (folder / WEIGHTS).exists():
        raise DataError(f"{folder}: {WEIGHTS} is missing; copy the whole folder.")
    weights = read_tensors(folder / WEIGHTS, DataError, "copy the folder again", spec.sha256)
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
        model = known(spec.source).make().to(dtype)
        net = route(model, spec.method, example=torch.zeros(2, *spec.shape, dtype=dtype))
        module = extract(net, spec.path, classes=spec.kept)
        module.load_state_dict(weights)
    except RunError as error:
        raise RunError(clip(str(error), 499)) from error
    except Exception as error:  # whatever torch or the library says to what an edited file asks for
        place, library = clip(str(folder), 160), clip(spec.source.library, 20)
        raise DataError(
            f"{place}: path, weights and network do not fit each other ({clip(str(error), 160)}); {SPEC} was edited, "
            f"or another version of {library} is installed. {LOADER} opens networks with blocks given by hand."
        ) from error
    return module.eval()
