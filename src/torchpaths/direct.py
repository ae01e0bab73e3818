"""A part of a block that calls its children's ``forward`` directly, past ``nn.Module.__call__``.

Looking for hooks takes ``__call__`` a few microseconds for each layer: a tenth of a small block's time at batch 1.
Where a network has no hooks, which its owner can check in one go (`hooks`), its layers need not look one by one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as torch_module

from torchpaths.parts import Part, Piece

_CALL = re.compile(r"\bself\.(\w+)\(")


def direct(piece: Part, block: nn.Module) -> Part:
    """The same part for this very block, without the hooks of its children; itself if it calls none of them."""
    if not isinstance(piece, Piece):
        return piece
    bound = {f"_{name}": block._modules[name].forward for name in _called(piece, block)}  # type: ignore[union-attr]
    if not bound:
        return piece
    source = _CALL.sub(lambda m: f"_{m[1]}(" if f"_{m[1]}" in bound else m[0], piece.source)
    names = {**piece.names, **bound}
    return Piece(source, names, piece.identity, piece.in_place, piece.rectifies, piece.rectifier)


def _called(piece: Piece, block: nn.Module) -> list[str]:
    """Children that the code calls and that are called as any module is."""
    names = [name for name in set(_CALL.findall(piece.source)) if block._modules.get(name) is not None]
    return [
        name
        for name in names
        if type(block._modules[name]).__call__ is nn.Module.__call__
        and not isinstance(block._modules[name], torch.jit.ScriptModule)
    ]


def hooks(model: nn.Module) -> list[Mapping[int, Any]]:
    """The tables of forward hooks of a model's modules and of all modules: with one not empty, call as usual."""
    own = [table for m in model.modules() for table in (m._forward_hooks, m._forward_pre_hooks)]
    return [*own, torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks]
