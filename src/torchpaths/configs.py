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
    model: nn.Module,
    blocks: Mapping[str, Mapping[str, nn.Module]],
    sizes: Mapping[str, int],
    heads: Sequence[int] | None,
) -> Any:
    """The configuration with which a model's class makes it with fewer blocks; None if there is none.

    Args:
        model: of transformers, cut; the parts of blocks that are gone do not matter.
        blocks: name of a list of blocks -> the blocks that are left, whole, by their names now.
        sizes: name of such a list -> how many it held.
        heads: the classes that are left, by their old numbers; None for all.
    """
    own: Any = model
    config = copy.deepcopy(own.config)
    if heads is not None:
        names = {new: config.id2label.get(old, str(old)) for new, old in enumerate(heads)}
        config.id2label, config.label2id = names, {name: number for number, name in names.items()}
    before, after = [sizes[name] for name in blocks], [len(left) for left in blocks.values()]
    if before == after:
        return config
    data = config.to_dict()
    for name, value in data.items():
        if not any(word in name for word in ("depth", "layers", "blocks")):
            continue  # widths and ratios may be as large
        if isinstance(value, (list, tuple)) and list(value) == before:
            data[name] = after
        elif len(before) == 1 and type(value) is int and value == before[0]:
            data[name] = after[0]
    if data.get("out_features") not in (None, data.get("stage_names", [])[-1:]):
        return None  # it gives out stages by their names
    for name in ("stage_names", "out_features", "out_indices"):
        data.pop(name, None)  # made of the numbers
    try:
        config = type(config).from_dict(data)
        config._attn_implementation = own.config._attn_implementation
        with torch.device("meta"):
            made = type(model)(config)
    except Exception:  # the class's own: it does not take these numbers
        return None
    return config if all(_alike(made.get_submodule(name)._modules, left) for name, left in blocks.items()) else None


def _alike(made: Mapping[str, nn.Module | None], blocks: Mapping[str, nn.Module]) -> bool:
    """Whether blocks are made as others were: layers of the same names with the same numbers and texts. Those without
    weights do not count: rates of dropping are those that the new depth gives."""
    return list(made) == list(blocks) and all(_settings(made[name]) == _settings(blocks[name]) for name in made)


def _settings(block: nn.Module | None) -> dict[str, tuple[type[nn.Module], dict[str, Any]]]:
    assert block is not None
    held = ((name, m) for name, m in block.named_modules() if next(m.parameters(), None) is not None)
    return {name: (type(m), {k: v for k, v in vars(m).items() if _is_setting(k, v)}) for name, m in held}


def _is_setting(name: str, value: Any) -> bool:
    return isinstance(value, (bool, int, float, str, tuple)) and name != "training" and not name.startswith("_")


def note(config: Any, opened: Mapping[str, Bools], kept: Mapping[str, Mapping[str, str]], shape: Sequence[int]) -> None:
    """Write into a configuration which parts are gone of the network it makes.

    Args:
        config: with the numbers of blocks that are left.
        opened: site -> its units, all of them blocks or parts of blocks.
        kept: name of a list of blocks -> {name of each child now: its old name}.
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
