"""``from_pretrained``: a cut network of transformers from the folder that its ``save_pretrained`` wrote.

The class makes the network by its configuration and reads its weights; what the configuration says is gone is cut out
again. Nothing of the folder is run, and nothing is looked for elsewhere.
"""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import torch
from torch import nn

from torchpaths.configs import NOTE
from torchpaths.errors import DataError, PathError, RouteError, RunError, reason
from torchpaths.extraction import extract
from torchpaths.path import Path
from torchpaths.routing import route


def from_pretrained(folder: str | os.PathLike[str]) -> nn.Module:
    """A network of transformers, cut or not, from a folder.

    Args:
        folder: what ``small.save_pretrained(folder)`` wrote, ``small`` from `torchpaths.extract`.

    Returns:
        The network in evaluation mode, which answers as the saved one did.

    Raises:
        DataError: if the folder is none, or weights or what is gone do not fit the network.
        RunError: if transformers is not installed.
    """
    folder = pathlib.Path(folder)
    try:
        import transformers
    except ImportError as error:
        raise RunError("transformers is not installed; say pip install 'torchpaths[transformers]'.") from error
    file = folder / "config.json"
    try:
        data = json.loads(file.read_text())
        name, noted = data["architectures"][0], data.get(NOTE)
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"{file} is no configuration of a saved network ({reason(error, 120)}); give the folder that "
            "small.save_pretrained(folder) wrote."
        ) from error
    kind = getattr(transformers, name, None) if isinstance(name, str) else None
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
        raise DataError(f"{file}: {name!r} is no network of transformers {transformers.__version__}; save it again.")
    model, missing = _loaded(transformers, kind, folder)
    if noted is None:
        return _complete(model, missing, folder)
    try:
        path, shape = Path.from_json(json.dumps(noted["path"])), tuple(int(n) for n in noted["shape"])
        x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)).to(next(model.parameters()).dtype)
        small = extract(route(model, example=x), path, example=x)
    except (KeyError, TypeError, ValueError, PathError, RouteError) as error:
        raise DataError(
            f"{file}: what it says is gone, {NOTE!r}, does not fit the network ({reason(error, 160)}); save the cut "
            "network again."
        ) from error
    return _complete(small, missing, folder)


def _loaded(transformers: Any, kind: Any, folder: pathlib.Path) -> tuple[nn.Module, set[str]]:
    """A network made by its configuration, and the parameters for which the folder holds no weights."""
    said = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # it would list the parts that are gone
    try:
        model, info = kind.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as error:
        raise DataError(f"{folder} holds no network that transformers can read ({reason(error, 200)}).") from error
    finally:
        transformers.logging.set_verbosity(said)
    if info["unexpected_keys"] or info["mismatched_keys"]:
        raise DataError(
            f"{folder}: its weights are those of another network than its configuration says; save it again."
        )
    named = dict(model.named_parameters(remove_duplicate=False))
    return model.eval(), {name for name in info["missing_keys"] if name in named}


def _complete(model: nn.Module, missing: set[str], folder: pathlib.Path) -> nn.Module:
    """Raise unless everything that is left of a network was read."""
    lost = missing & {name for name, _ in model.named_parameters(remove_duplicate=False)}
    if lost:
        raise DataError(f"{folder} holds no weights for {min(lost)!r} and {len(lost) - 1} others; copy it again.")
    return model.eval()
