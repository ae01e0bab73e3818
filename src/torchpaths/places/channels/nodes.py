"""What one step of a module's forward, a node of its graph, does with channels."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Sequence

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules import activation, dropout, pooling
from torch.nn.modules.batchnorm import _BatchNorm

_MIXING = (
    activation.Softmin,
    activation.Softmax,
    activation.Softmax2d,
    activation.LogSoftmax,
    activation.MultiheadAttention,
    nn.GLU,
)
_WISE_MODULES = tuple(
    kind
    for module in (activation, dropout, pooling)
    for kind in vars(module).values()
    if inspect.isclass(kind) and issubclass(kind, nn.Module) and kind not in (*_MIXING, nn.Module, nn.PReLU, nn.RReLU)
    if module is not pooling or kind.__name__.endswith("2d")  # others pool over channels too
)
_WISE = {
    *(
        functional.relu,
        torch.relu,
        functional.relu6,
        functional.silu,
        functional.gelu,
        functional.hardswish,
        functional.hardsigmoid,
        torch.sigmoid,
        functional.sigmoid,
        torch.tanh,
    ),
    *(
        functional.max_pool2d,
        functional.avg_pool2d,
        functional.adaptive_avg_pool2d,
        functional.dropout,
        functional.dropout2d,
        functional.leaky_relu,
        functional.elu,
        functional.mish,
    ),
    *("relu", "relu_", "sigmoid", "sigmoid_", "tanh", "contiguous", "clone"),
}
FACTORS = {torch.sigmoid, functional.sigmoid, functional.hardsigmoid, "sigmoid", "sigmoid_"}
MULTIPLIES = {operator.mul, operator.imul, torch.mul, "mul", "mul_"}
ADDS = {operator.add, operator.iadd, torch.add, torch.cat, "add", "add_"}
_FLATTENS = (torch.flatten, "flatten")
_SPATIAL = (
    *_FLATTENS,
    *("mean", torch.mean, functional.adaptive_avg_pool2d),
    *(functional.max_pool2d, functional.avg_pool2d, functional.dropout2d),
)
_POOLS = tuple(kind for kind in _WISE_MODULES if kind.__module__ == pooling.__name__ or kind is nn.Dropout2d)
TOGETHER = (nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


class Hooked:
    """A hook that a module already has, as a function of a graph: what it does to what it is given is not known."""

    __name__ = "hooked"

    def __init__(self, name: str, kind: str) -> None:
        """
        Args:
            name: of the module.
            kind: of the hook.
        """
        self.name = name
        self.kind = kind

    def __call__(self, x: object) -> object:
        return x

    def __str__(self) -> str:
        return f"a {self.kind} of {self.name!r} that was there before"


def wise(node: fx.Node, layer: nn.Module | None) -> bool:
    """Whether a node may treat every channel, or group of channels, by itself: it does where `behind` says so.

    Args:
        node: see above.
        layer: that it calls; None for a function.
    """
    if layer is None:
        spatial = node.target in ("mean", torch.mean) and bool(_meant(node))
        return node.target in _WISE or spatial or (node.target in _FLATTENS and _keeps(node))
    if isinstance(layer, nn.Conv2d):
        return layer.groups > 1
    flattens = isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1)
    return isinstance(layer, (_BatchNorm, *_WISE_MODULES)) or type(layer) is nn.Identity or flattens


def behind(node: fx.Node, layer: nn.Module | None, dims: int, axis: int) -> int | None:
    """On which axis channels stand behind a node that treats each of them by itself; None for any other node.

    Axes are counted from the last one on, -1, -2 and so on, as where values of several shapes are multiplied.

    Args:
        node: see above.
        layer: that it calls; None for a function.
        dims: how many axes the channels have in front of it.
        axis: on which of them they stand.
    """
    if not wise(node, layer):
        return None
    at = dims + axis
    if node.target in ("mean", torch.mean):
        meant = {each % dims for each in _meant(node)}
        if meant & {0, at}:
            return None
        return axis if _keepdim(node) else axis + sum(each > at for each in meant)
    if node.target in _FLATTENS or isinstance(layer, nn.Flatten):
        return -1 if at == 1 else None
    if isinstance(layer, nn.Conv2d) or is_pool(node, layer):
        return axis if (dims, at) == (4, 1) else None
    return axis if not isinstance(layer, _BatchNorm) or at == 1 else None


def mixed_axis(layer: nn.Module, dims: int) -> int:
    """Which axis of what it is given, of so many axes, a layer that mixes channels mixes, counted as for `behind`."""
    return -1 if isinstance(layer, nn.Linear) else 1 - dims


def is_relu(node: fx.Node, layer: nn.Module | None) -> bool:
    """Whether a node is a ReLU."""
    return type(layer) is nn.ReLU or node.target in (functional.relu, torch.relu, "relu", "relu_")


def is_pool(node: fx.Node, layer: nn.Module | None) -> bool:
    """Whether a node treats pixels together."""
    return node.target in _SPATIAL or isinstance(layer, (nn.Conv2d, nn.Flatten, *_POOLS))


def is_mean(node: fx.Node, layer: nn.Module | None, shape: Sequence[int]) -> bool:
    """Whether a node leaves a mean over all pixels, ``shape`` being that of its output."""
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return layer.output_size in (1, (1, 1))
    if node.target is functional.adaptive_avg_pool2d:
        return node.kwargs.get("output_size", node.args[-1]) in (1, (1, 1))
    return node.target in ("mean", torch.mean) and bool(_meant(node)) and all(side == 1 for side in shape[2:])


def is_mixing(layer: nn.Module | None) -> bool:
    """Whether each output of a layer is made of all inputs."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def described(node: fx.Node, layer: nn.Module | None) -> str:
    """What a node is called in a message."""
    if isinstance(node.target, Hooked):
        return str(node.target)
    return f"{node.target!r}, a {type(layer).__name__}" if layer is not None else f"{node.name!r}"


def _meant(node: fx.Node) -> tuple[int, ...]:
    """Over which axes a mean is taken; none where one may not hold pixels."""
    axes = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ())
    axes = axes if isinstance(axes, (tuple, list)) else (axes,)
    found = tuple(axis for axis in axes if isinstance(axis, int) and axis in (2, 3, -1, -2))
    return found if len(found) == len(axes) else ()


def _keepdim(node: fx.Node) -> bool:
    return bool(node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False))


def _keeps(node: fx.Node) -> bool:
    """Whether flattening leaves what an image has of each channel side by side."""
    start = node.kwargs.get("start_dim", node.args[1] if len(node.args) > 1 else 0)
    return isinstance(start, int) and start == 1 and "end_dim" not in node.kwargs and len(node.args) < 3
