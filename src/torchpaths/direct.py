"""A part of a block that computes its children directly, past ``nn.Module.__call__``.

Looking for hooks takes ``__call__`` a few microseconds for each layer, and convolutions and norms take as long again to
collect their arguments: together a fifth of a small block's time at batch 1, more than a gate costs. Where a network
has no hooks, which its owner can check in one go (`hooks`), its layers need not look one by one.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from torchpaths.parts import Part, Piece

_CALL = re.compile(r"\bself\.(\w+)\(")


def direct(piece: Part, block: nn.Module) -> Part:
    """The same part for this very block, without the hooks of its children; itself if it calls none of them."""
    if not isinstance(piece, Piece):
        return piece
    bound = {f"_{name}": _computing(child) for name, child in _called(piece, block).items()}
    if not bound:
        return piece
    source = _CALL.sub(lambda m: f"_{m[1]}(" if f"_{m[1]}" in bound else m[0], piece.source)
    names = {**piece.names, **bound}
    return Piece(source, names, piece.identity, piece.in_place, piece.rectifies, piece.rectifier)


def _called(piece: Piece, block: nn.Module) -> dict[str, nn.Module]:
    """Children that the code calls and that are called as any module is."""
    children = {name: block._modules.get(name) for name in set(_CALL.findall(piece.source))}
    return {
        name: child
        for name, child in children.items()
        if child is not None
        and type(child).__call__ is nn.Module.__call__
        and not isinstance(child, torch.jit.ScriptModule)
    }


def _computing(module: nn.Module) -> Callable[..., Any]:
    """What the module computes in evaluation; its parameters are read anew at each call, so they may be replaced."""
    parameters, buffers = module._parameters, module._buffers
    if type(module) is nn.Conv2d and module.padding_mode == "zeros":
        conv = functools.partial(torch.conv2d, stride=module.stride, padding=module.padding, dilation=module.dilation)
        groups = module.groups
        return lambda x: conv(x, parameters["weight"], parameters["bias"], groups=groups)
    if type(module) is nn.BatchNorm2d and module.track_running_stats:
        eps = module.eps

        def norm(x: Tensor) -> Tensor:
            mean, var = buffers["running_mean"], buffers["running_var"]
            cudnn = torch.backends.cudnn.enabled
            return torch.batch_norm(x, parameters["weight"], parameters["bias"], mean, var, False, 0.0, eps, cudnn)

        return norm
    return module.forward


def hooks(model: nn.Module) -> list[Mapping[int, Any]]:
    """The tables of forward hooks of a model's modules and of all modules: with one not empty, call as usual."""
    own = [table for m in model.modules() for table in (m._forward_hooks, m._forward_pre_hooks)]
    return [*own, torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks]
