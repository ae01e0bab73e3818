"""Norms and ReLUs of a block that write over what the layer before them made: ``overwriting``.

A layer that writes where it read touches half the memory and none that is cold. A part of a block is code without
branches, in which it can be seen who reads a value: what a convolution or a norm gave, and one layer alone reads, is
free to be written into.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_STEP = re.compile(r"^( +\w+ = )(\w+)(\((\w+)\)(;  \4 = None)?)$", re.MULTILINE)
"""A line of traced code that calls one thing with one value; and whether that is forgotten then."""

_NEW = nn.Conv2d, nn.BatchNorm2d
"""What gives memory of its own."""

_HANDING_ON = nn.ReLU, nn.Identity
"""What gives the memory that it got, where it may write into that."""

_KINDS = torch.float16, torch.bfloat16, torch.float32, torch.float64
_NO_STATISTICS = {kind: torch.empty(0, dtype=kind) for kind in _KINDS}
"""What a norm in evaluation gives beside its value, and wants room for in the type of its own statistics."""


def overwriting(
    source: str, layers: Mapping[str, nn.Module], computing: Mapping[str, Callable[..., Any]]
) -> tuple[str, dict[str, Callable[..., Any]]]:
    """The same code, in which layers write over their argument where nobody else reads it.

    Args:
        source: of a part.
        layers: name of a function in the code -> the layer that it computes.
        computing: the same names -> the functions.

    Returns:
        The code, and the functions that it calls beside those of ``computing``.
    """
    free: set[str] = set()
    functions: dict[str, Callable[..., Any]] = {}

    def step(match: re.Match[str]) -> str:
        value, called, rest, argument, forgotten = match.groups()
        layer = layers.get(called)
        alone = bool(forgotten) and argument in free and len(re.findall(rf"\b{argument}\b", source)) == 3  # made, read
        if type(layer) in _NEW or (alone and type(layer) in _HANDING_ON):
            free.add(value.split()[0])
        over = _over(layer, computing[called]) if alone and layer is not None else None
        if over is None:
            return match[0]
        functions[f"{called}_over"] = over
        return f"{value}{called}_over{rest}"

    return _STEP.sub(step, source), functions


def _over(layer: nn.Module, computing: Callable[..., Any]) -> Callable[..., Any] | None:
    """What the layer computes in evaluation, written into its argument; None if it has no such form."""
    if type(layer) is nn.ReLU:
        return torch.relu_
    if type(layer) is not nn.BatchNorm2d or not layer.track_running_stats:
        return None
    norm, parameters, buffers = layer, layer._parameters, layer._buffers

    def normalise(x: Tensor) -> Tensor:
        if norm.training or not x.is_cpu:  # elsewhere it would be another kernel than the network's own
            y: Tensor = computing(x)
            return y
        mean, var = buffers["running_mean"], buffers["running_var"]
        weight, bias, no = parameters["weight"], parameters["bias"], _NO_STATISTICS[mean.dtype]  # type: ignore[union-attr]
        torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, norm.eps, out=(x, no, no))
        return x

    return normalise
