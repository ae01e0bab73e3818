"""Files of the Hugging Face hub: from its cache on this machine where they are there, fetched where they are not.

Only what a command line or a caller names is fetched, never what a file names. The cache is asked first, so that a run
which goes on needs no network; and one short question goes out before anything is fetched, as without a network the
hub's own client tries again for most of a minute.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torchpaths.errors import RunError, clip, reason
from torchpaths.files.disk import read_bytes
from torchpaths.optional import need
from torchpaths.schema import parse, reading

PREFIX = "hf-hub:"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")

_SECONDS = 10


@dataclass(frozen=True)
class Hosted:
    """A model of timm that somebody keeps on the hub.

    Attributes:
        model: its architecture, "timm/resnet34".
        config: what is said of its input, as timm's ``pretrained_cfg``.
        weights: the file, in the hub's cache.
    """

    model: str
    config: dict[str, Any]
    weights: pathlib.Path


def hosted(name: str) -> Hosted:
    """A model of the hub, by ``hf-hub:user/model``, with ``@revision`` behind if one is wanted.

    Raises:
        RunError: for a model that is none of timm's, or cannot be fetched.
    """
    file = fetch(name.removeprefix(PREFIX), ["config.json"], name)
    with reading(file, RunError, "give a model of timm, as timm.models.push_to_hf_hub writes"):
        told: dict[str, Any] = parse(read_bytes(file))
        architecture, config = told["architecture"], {**told.get("pretrained_cfg", told)}
        config["num_classes"] = told.get("num_classes", config.get("num_classes"))
        _ = [config[field] for field in ("num_classes", "input_size", "mean", "std")]
        arguments = {k: v for k, v in told.get("model_args", {}).items() if k not in ("num_classes", "in_chans")}
    if arguments:
        raise RunError(
            f"{name} is a {architecture} made with {clip(repr(arguments), 120)}; write a function that makes it and "
            "loads its weights, and give --model package.module:function."
        )
    return Hosted(f"timm/{architecture}", config, fetch(name.removeprefix(PREFIX), WEIGHTS, name))


def fetch(repository: str, files: Sequence[str], name: str) -> pathlib.Path:
    """The first of some files that a repository has.

    Args:
        repository: "user/model", or "user/model@revision".
        files: names, best first.
        name: of the model, for errors.

    Raises:
        RunError: if there is no network and the cache has none of them, or the repository has none.
    """
    hub = need("huggingface_hub", "timm")
    repo, _, revision = repository.partition("@")
    if repo.count("/") != 1:
        raise RunError(f"{name} is no name of a model on the hub; write {PREFIX}user/model.")
    wanted = {"repo_id": repo, "revision": revision or None}
    try:
        for file in files:
            try:
                return pathlib.Path(hub.hf_hub_download(**wanted, filename=file, local_files_only=True))
            except hub.errors.LocalEntryNotFoundError:
                continue
        there = {
            each.rfilename
            for each in hub.HfApi().model_info(repo, revision=revision or None, timeout=_SECONDS).siblings
        }
        for file in files:
            if file in there:
                return pathlib.Path(hub.hf_hub_download(**wanted, filename=file))
    except hub.errors.HFValidationError as error:
        raise RunError(f"{name} is no name of a model on the hub; write {PREFIX}user/model.") from error
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError) as error:
        raise RunError(
            f"there is no model {name} on the hub for you to read ({reason(error, 120)}); correct the name, or log in "
            "with hf auth login if it is not public."
        ) from error
    except Exception as error:  # of whichever HTTP client the hub's uses
        raise unreachable(name, f"https://huggingface.co/{repo}", error) from error
    raise RunError(
        f"https://huggingface.co/{repo} has none of {', '.join(files)}, so {name} cannot be read from there."
    )


def unreachable(name: str, where: str, error: Exception) -> RunError:
    """What is said where weights cannot be fetched."""
    return RunError(
        f"the weights of {name} are not on this machine and cannot be fetched from {where} ({reason(error, 120)}). "
        "Without a network: download them where there is one, and give that file, --weights FILE (safetensors, .pth or "
        ".pth.tar); it is read in place of what the name stands for."
    )
