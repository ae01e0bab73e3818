"""What the configuration of a model of transformers says after parts of it are gone.

``save_pretrained`` writes weights and configuration, and ``from_pretrained`` makes the model anew from the
configuration alone. So where whole blocks are gone its numbers of layers are the new ones, and the library itself makes
the smaller network; where a part of a block is gone, which no number says, the path stands under ``torchpaths``.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from torchpaths.path import Bools, Path

NOTE = "torchpaths"
"""The entry of a configuration that says which parts of the network that it makes are gone."""


def is_pretrained(model: nn.Module) -> bool:
    """Whether a model is one of transformers', with a configuration."""
    library: Any = sys.modules.get("transformers")
    return library is not None and isinstance(model, library.PreTrainedModel)


def fitted(
    model: nn.Module, kept: Mapping[str, Mapping[str, str]], sizes: Mapping[str, int], heads: Sequence[int] | None
) -> Any:
    """The configuration with which a model's class makes it with fewer blocks; None if there is none.

    Args:
        model: of transformers, cut; the parts of blocks that are gone do not matter.
        kept: name of a list of blocks -> {name of each child now: its old name}.
        sizes: name of such a list -> how many it held.
        heads: the classes that are left, by their old numbers; None for all.
    """
    own: Any = model
    config = copy.deepcopy(own.config)
    if heads is not None:
        names = {new: config.id2label.get(old, str(old)) for new, old in enumerate(heads)}
        config.id2label, config.label2id = names, {name: number for number, name in names.items()}
    before, after = [sizes[name] for name in kept], [len(names) for names in kept.values()]
    if before == after:
        return config
    for name, value in vars(config).items():
        if isinstance(value, (list, tuple)) and list(value) == before:
            setattr(config, name, type(value)(after))
        elif len(before) == 1 and type(value) is int and value == before[0] and "layers" in name:
            setattr(config, name, after[0])
    try:
        with torch.device("meta"):
            made = type(model)(config)
    except Exception:  # the class's own: it does not take these numbers
        return None
    return config if all(_alike(made, model, name, list(names)) for name, names in kept.items()) else None


def _alike(made: nn.Module, model: nn.Module, blocks: str, names: list[str]) -> bool:
    """Whether the blocks of one list are made as those of another were."""
    own, other = made.get_submodule(blocks)._modules, model.get_submodule(blocks)._modules
    return list(own) == names and all(_settings(own[name], other[name]) for name in names)


def _settings(made: nn.Module | None, block: nn.Module | None) -> bool:
    """Whether what is there of a block has the numbers and texts that a block was made with."""
    assert made is not None
    assert block is not None
    plain = (bool, int, float, str, tuple)
    for name, module in block.named_modules():
        if type(module).__module__.startswith("torch.fx") or not _has(made, name):
            continue  # what is left of it, which has none
        other = made.get_submodule(name)
        mine, its = (
            {k: v for k, v in vars(m).items() if isinstance(v, plain) and k != "training"} for m in (module, other)
        )
        if mine != its and type(module) is type(other):
            return False
    return True


def _has(model: nn.Module, name: str) -> bool:
    try:
        model.get_submodule(name)
    except AttributeError:
        return False
    return True


def note(config: Any, opened: Mapping[str, Bools], kept: Mapping[str, Mapping[str, str]], shape: Sequence[int]) -> None:
    """Write into a configuration which parts are gone of the network it makes.

    Args:
        config: with the numbers of blocks that are left.
        opened: site -> its units, all of them blocks or parts of blocks.
        kept: as for `fitted`.
        shape: of one image.
    """
    now = {}
    for site, units in opened.items():
        name = _now(site, kept)
        if name is not None:
            now[name] = units
    if all(all(units) for units in now.values()):
        vars(config).pop(NOTE, None)
        return
    setattr(config, NOTE, {"path": json.loads(Path(now).to_json()), "shape": list(shape)})


def _now(site: str, kept: Mapping[str, Mapping[str, str]]) -> str | None:
    """What a site is called where blocks have moved up; None if its block is gone."""
    for blocks, names in kept.items():
        if site.startswith(f"{blocks}."):
            old, _, rest = site[len(blocks) + 1 :].partition(".")
            new = next((new for new, was in names.items() if was == old), None)
            return None if new is None else f"{blocks}.{new}" + (f".{rest}" if rest else "")
    return site
