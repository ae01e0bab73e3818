"""What one step of a module's forward, a node of its graph, does with channels."""

from __future__ import annotations

import inspect
import operator

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


def wise(node: fx.Node, layer: nn.Module | None) -> bool:
    """Whether a node treats every channel, or group of channels, by itself.

    Args:
        node: see above.
        layer: that it calls; None for a function.
    """
    if layer is None:
        spatial = node.target in ("mean", torch.mean) and _spatial(node)
        return node.target in _WISE or spatial or (node.target in _FLATTENS and _keeps(node))
    if isinstance(layer, nn.Conv2d):
        return layer.groups > 1
    flattens = isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1)
    return isinstance(layer, (_BatchNorm, *_WISE_MODULES)) or type(layer) is nn.Identity or flattens


def passes(node: fx.Node, layer: nn.Module | None, maker: nn.Module | None) -> bool:
    """Whether a node treats every channel by itself that a layer makes: a linear layer's lie on the last axis, where
    nothing is a pixel.

    Args:
        node: see above.
        layer: that it calls; None for a function.
        maker: the layer that makes the channels.
    """
    if not wise(node, layer) or not isinstance(maker, nn.Linear):
        return wise(node, layer)
    if isinstance(layer, _BatchNorm):
        return layer.num_features == maker.out_features
    return not is_pool(node, layer)


def is_relu(node: fx.Node, layer: nn.Module | None) -> bool:
    """Whether a node is a ReLU."""
    return type(layer) is nn.ReLU or node.target in (functional.relu, torch.relu, "relu", "relu_")


def is_pool(node: fx.Node, layer: nn.Module | None) -> bool:
    """Whether a node treats pixels together."""
    return node.target in _SPATIAL or isinstance(layer, (nn.Conv2d, nn.Flatten, *_POOLS))


def is_mean(node: fx.Node, layer: nn.Module | None) -> bool:
    """Whether a node takes the mean over all pixels."""
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        return layer.output_size in (1, (1, 1))
    if node.target is functional.adaptive_avg_pool2d:
        return node.kwargs.get("output_size", node.args[-1]) in (1, (1, 1))
    return node.target in ("mean", torch.mean) and _spatial(node)


def is_mixing(layer: nn.Module | None) -> bool:
    """Whether each output of a layer is made of all inputs."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def described(node: fx.Node, layer: nn.Module | None) -> str:
    """What a node is called in a message."""
    return f"{node.target!r}, a {type(layer).__name__}" if layer is not None else f"{node.name!r}"


def _spatial(node: fx.Node) -> bool:
    """Whether a mean is one over the pixels of each channel."""
    axes = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ())
    axes = axes if isinstance(axes, (tuple, list)) else (axes,)
    return len(axes) > 0 and all(isinstance(axis, int) and axis in (2, 3, -1, -2) for axis in axes)


def _keeps(node: fx.Node) -> bool:
    """Whether flattening leaves what an image has of each channel side by side."""
    start = node.kwargs.get("start_dim", node.args[1] if len(node.args) > 1 else 0)
    return isinstance(start, int) and start == 1 and "end_dim" not in node.kwargs and len(node.args) < 3
