"""Where the channels of a layer go: ``Span``, found in what a region of a network does, every layer opaque.

From the layer that makes them (the producer) channels pass layers that treat each by itself, or in groups (norms,
grouped convolutions, activations, pooling), until a layer mixes them (a consumer). Squeeze-and-excitation beside them
reads them through a consumer and multiplies them by the outputs of an aligned layer. To close a unit then means rows of
the producer, of what lies between and of aligned layers, and columns of the consumers.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.modules import activation, dropout, pooling
from torch.nn.modules.batchnorm import _BatchNorm

from torchpaths.errors import RouteError, reason
from torchpaths.places.residual.tracing import Evaluated

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
_FACTOR = {torch.sigmoid, functional.sigmoid, functional.hardsigmoid, "sigmoid", "sigmoid_"}
_MULTIPLIES = {operator.mul, operator.imul, torch.mul, "mul", "mul_"}
_ADDS = {operator.add, operator.iadd, torch.add, torch.cat, "add", "add_"}


OUTSIDE = "made outside of the block"
"""Why a layer is none that passes a block's own channels on."""

LEAVES = "used outside of the block"
"""Why channels are not followed to where they are mixed: that is in a module around."""

_FLATTENS = (torch.flatten, "flatten")
_SPATIAL = (
    *_FLATTENS,
    *("mean", torch.mean, functional.max_pool2d, functional.avg_pool2d, functional.adaptive_avg_pool2d),
    functional.dropout2d,
)
_POOLS = tuple(kind for kind in _WISE_MODULES if kind.__module__ == pooling.__name__ or kind is nn.Dropout2d)
_TOGETHER = (nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


@dataclass(frozen=True)
class Span:
    """Channels from where they are made to where they are mixed. Layers by their names within the region.

    Attributes:
        producer: makes them.
        between: layers with an entry for each channel, in order.
        aligned: layers whose outputs the channels are multiplied with.
        squeezes: layers that mix them only to compute those factors.
        consumers: the other layers that mix them.
        width: how many channels.
        end: the last layer, where no layer mixes them since they go into a sum, a concatenation or several of those;
            "" where layers do.
    """

    producer: str
    between: tuple[str, ...]
    aligned: tuple[str, ...]
    squeezes: tuple[str, ...]
    consumers: tuple[str, ...]
    width: int
    end: str = ""

    def within(self, prefix: str) -> Span:
        """The same with the names that layers have in a module around, under which the region's begin so."""
        own = (self.between, self.aligned, self.squeezes, self.consumers)
        between, aligned, squeezes, consumers = (tuple(prefix + name for name in names) for names in own)
        end = prefix + self.end if self.end else ""
        return Span(prefix + self.producer, between, aligned, squeezes, consumers, self.width, end)


class _Leaves(Evaluated):
    """Every layer opaque, and what is made of layers seen through."""

    def _called(self, name: str, *args: Any, **kwargs: Any) -> Any:
        twin = self.twin.get_submodule(name)
        if is_leaf(self.block.get_submodule(name)):
            return super()._called(name, *args, **kwargs)
        return twin.forward(*args, **kwargs)


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is a layer: torch's own, or built on one."""
    kinds = (nn.Conv2d, nn.Linear, _BatchNorm)
    return isinstance(module, kinds) or (type(module).__module__.startswith("torch.nn") and not _holds(module))


def _holds(module: nn.Module) -> bool:
    return isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))


class Region:
    """A module of a network, and what its forward does with the layers in it."""

    def __init__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """
        Args:
            module: is not touched.
            args: what it is called with.
            kwargs: the same, by name.

        Raises:
            RouteError: if it cannot be traced.
        """
        self.module = module
        try:
            recorder = _Leaves(module)
            given = [recorder.given(f"x{i}", arg) for i, arg in enumerate(args)]
            named = {name: recorder.given(f"k_{name}", arg) for name, arg in kwargs.items()}
            self.graph = recorder.record(lambda twin: twin.forward(*given, **named))
        except Exception as error:  # whatever the module's own forward raises for proxies
            raise RouteError(f"cannot be traced ({reason(error, 160)})") from error
        self.calls = [node for node in self.graph.nodes if node.op == "call_module"]

    def layer(self, node: fx.Node) -> nn.Module | None:
        """What a node calls."""
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def wise(self, node: fx.Node) -> bool:
        """Whether a node treats every channel, or group of channels, by itself."""
        layer = self.layer(node)
        if layer is None:
            spatial = node.target in ("mean", torch.mean) and _spatial(node)
            return node.target in _WISE or spatial or (node.target in _FLATTENS and _keeps(node))
        if isinstance(layer, nn.Conv2d):
            return layer.groups > 1
        flattens = isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1)
        return isinstance(layer, (_BatchNorm, *_WISE_MODULES)) or type(layer) is nn.Identity or flattens

    def passes(self, node: fx.Node, maker: fx.Node) -> bool:
        """Whether a node treats every channel by itself that a layer makes: a linear layer's lie on the last axis, and
        nothing there is a pixel."""
        layer = self.layer(node)
        if not self.wise(node) or not isinstance(self.layer(maker), nn.Linear):
            return self.wise(node)
        if isinstance(layer, _BatchNorm):
            return bool(layer.num_features == self.layer(maker).out_features)  # type: ignore[union-attr]
        pools = node.target in _SPATIAL or isinstance(layer, (nn.Conv2d, nn.Flatten, *_POOLS))
        return not pools

    def called(self, name: str) -> fx.Node:
        """The call of a layer.

        Raises:
            RouteError: if there is none or there are several.
        """
        found = [node for node in self.calls if node.target == name]
        if len(found) != 1:
            raise RouteError(f"{name!r} runs {len(found)} times in it")
        node: fx.Node = found[0]
        return node

    def span_of(self, name: str) -> Span:
        """The channels that a layer makes, or that pass it.

        Raises:
            RouteError: if they are not made by one layer, or go elsewhere than into layers that mix them.
        """
        return _Follow(self, self._maker(name)).span()

    def ended(self, name: str) -> Span:
        """The channels that a layer makes, as far as nothing but them goes on: up to a sum, a concatenation, or where
        several read them.

        Raises:
            RouteError: if they are not made by one layer, or a norm over several channels follows, behind which a
                closed channel would not be zero.
        """
        maker = self._maker(name)
        node, between = maker, []
        while True:
            users = list(node.users)
            layers = [self.layer(user) for user in users]
            together = next(
                (user for user, layer in zip(users, layers, strict=True) if isinstance(layer, _TOGETHER)), None
            )
            if together is not None:
                raise RouteError(
                    f"its channels are normalised together, by {_described(together, self.layer(together))}"
                )
            if len(users) != 1 or not self.passes(users[0], maker):
                break
            [node] = users
            if isinstance(layers[0], (_BatchNorm, nn.Conv2d)):
                self.called(str(node.target))
                between.append(str(node.target))
        layer: Any = self.layer(maker)
        producer = str(maker.target)
        end = between[-1] if between else producer
        return Span(producer, tuple(between), (), (), (), int(layer.weight.shape[0]), end)

    def _maker(self, name: str) -> fx.Node:
        """The call of the layer that makes the channels that a layer gives.

        Raises:
            RouteError: if they are not made by one layer.
        """
        node = self.called(name)
        while self.wise(node):
            sources = node.all_input_nodes
            if len(sources) != 1 or sources[0].op == "placeholder":
                raise RouteError(f"its channels are {OUTSIDE}")
            [node] = sources
        layer = self.layer(node)
        if not is_mixing(layer):
            raise RouteError(f"its channels are made by {_described(node, layer)}, not by a convolution")
        self.called(str(node.target))
        return node


def _spatial(node: fx.Node) -> bool:
    """Whether a mean is one over the pixels of each channel."""
    axes = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else ())
    axes = axes if isinstance(axes, (tuple, list)) else (axes,)
    return len(axes) > 0 and all(isinstance(axis, int) and axis in (2, 3, -1, -2) for axis in axes)


def _keeps(node: fx.Node) -> bool:
    """Whether flattening leaves what an image has of each channel side by side."""
    start = node.kwargs.get("start_dim", node.args[1] if len(node.args) > 1 else 0)
    return isinstance(start, int) and start == 1 and "end_dim" not in node.kwargs and len(node.args) < 3


def is_mixing(layer: nn.Module | None) -> bool:
    """Whether each output of a layer is made of all inputs."""
    return isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)


def _described(node: fx.Node, layer: nn.Module | None) -> str:
    return f"{node.target!r}, a {type(layer).__name__}" if layer is not None else f"{node.name!r}"


class _Follow:
    """Goes from a producer to all that its channels reach."""

    def __init__(self, region: Region, producer: fx.Node) -> None:
        self.region = region
        self.producer = producer
        self.carry = {producer}
        self.between: list[str] = []
        self.aligned: list[str] = []
        self.mixed: list[fx.Node] = []

    def span(self) -> Span:
        layer: Any = self.region.layer(self.producer)
        waiting = [self.producer]
        while waiting:
            for user in waiting.pop(0).users:
                if user not in self.carry and self._goes_on(user):
                    self.carry.add(user)
                    waiting.append(user)
        squeezes = [n for n in self.mixed if all(name in self.aligned for name in self._into(n))]
        consumers = [n for n in self.mixed if n not in squeezes]
        names = {str(n.target) for n in self.mixed}
        if len(names) != len(self.mixed):
            raise RouteError("a layer that mixes its channels runs several times")
        if not consumers:
            raise RouteError("no layer mixes its channels")
        return Span(
            str(self.producer.target),
            tuple(dict.fromkeys(self.between)),
            tuple(dict.fromkeys(self.aligned)),
            tuple(str(n.target) for n in squeezes),
            tuple(str(n.target) for n in consumers),
            int(layer.weight.shape[0]),
        )

    def _goes_on(self, user: fx.Node) -> bool:
        """Whether a node hands the channels on; notes what it does with them."""
        layer = self.region.layer(user)
        if self.region.passes(user, self.producer):
            if isinstance(layer, (_BatchNorm, nn.Conv2d)):
                self.region.called(str(user.target))
                self.between.append(str(user.target))
            return True
        if is_mixing(layer):
            self.mixed.append(user)
            return False
        if user.target in _MULTIPLIES:
            self.aligned += [name for factor in user.all_input_nodes for name in self._factor(factor)]
            return True
        if user.op == "output":
            raise RouteError(f"its channels are {LEAVES}, at {user.name!r}")
        if user.target in _ADDS:
            raise RouteError(f"its channels are added to others or put beside them, at {user.name!r}")
        raise RouteError(f"its channels are read by {_described(user, layer)}")

    def _factor(self, node: fx.Node) -> Iterator[str]:
        """The layer whose outputs a factor is, where it is not the channels themselves."""
        while node not in self.carry:
            layer = self.region.layer(node)
            if is_mixing(layer):
                yield str(node.target)
                return
            single = len(node.all_input_nodes) == 1
            if not single or not (self.region.wise(node) or node.target in _FACTOR):
                raise RouteError(f"its channels are multiplied with {_described(node, layer)}")
            [node] = node.all_input_nodes

    def _into(self, node: fx.Node) -> list[str]:
        """The layers that what a layer gives goes into; those that are not known by the name of nothing."""
        found: list[str] = []
        waiting = [node]
        while waiting:
            for user in waiting.pop().users:
                if is_mixing(self.region.layer(user)):
                    found.append(str(user.target))
                elif self.region.wise(user) and not isinstance(self.region.layer(user), nn.Conv2d):
                    waiting.append(user)
                else:
                    found.append("")
        return found
