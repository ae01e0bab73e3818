"""What cannot be routed since something else has been done to the model already; and what to do instead."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from torchpaths.errors import RouteError


def check_unwrapped(model: nn.Module) -> None:
    """
    Raises:
        RouteError: for a model that is compiled, scripted, traced or exported, or holds a part that is wrapped for
            several devices or quantised.
    """
    for name, module in model.named_modules():
        what = _what(module) or ("" if name else _whole(module))
        if what:
            where = f"{name!r} in {type(model).__name__}" if name else f"this {type(model).__name__}"
            raise RouteError(f"{where} is {what}")


def _what(module: nn.Module) -> str:
    if isinstance(module, (DistributedDataParallel, DataParallel)):
        kind = type(module).__name__
        return (
            f"wrapped for several devices ({kind}), which has looked at its parameters already. Route first, then "
            "wrap: net = route(wrapped.module, ...), then DistributedDataParallel(net), or, to train, "
            "DistributedDataParallel(Objective(net, method))."
        )
    kind, package = type(module).__name__, type(module).__module__
    if package.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized", "torch.nn.quantized")):
        return (
            f"quantised ({kind}), and its weights are no parameters any more, so nothing could be counted or trained. "
            "Route the model before, then quantise net, or what extract(net, path) gives."
        )
    return ""


def _whole(module: nn.Module) -> str:
    """What has been done to a model as a whole; parts of it may well be scripted or compiled."""
    if isinstance(module, torch._dynamo.OptimizedModule):
        return (
            "compiled, and its code is that of the model before. Route what was compiled, route(model._orig_mod, ...), "
            "then compile that: torch.compile(net), or compiled(net, paths)."
        )
    if isinstance(module, torch.jit.ScriptModule):
        return (
            "scripted or traced by torch.jit, and has no Python code left to take apart. Route the model it was "
            "made of, then script what extract(net, path) gives."
        )
    if isinstance(module, torch.fx.GraphModule) and "eval" in vars(module):
        return "exported, and has one graph and no blocks left. Route the model it was made of, then export(net, file)."
    return ""
