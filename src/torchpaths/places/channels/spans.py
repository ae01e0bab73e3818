"""Where the channels of a layer go: ``Span``, found in what a region of a network does, every layer opaque.

From the layer that makes them (the producer) channels pass layers that treat each by itself, or in groups (norms,
grouped convolutions, activations, pooling), until a layer mixes them (a consumer). Squeeze-and-excitation beside them
reads them through a consumer and multiplies them by the outputs of an aligned layer. To close a unit then means rows of
the producer, of what lies between and of aligned layers, and columns of the consumers. Channels that go elsewhere, into
a sum or a concatenation, can only be followed as far as that (`Region.ended`).
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchpaths.errors import RouteError, reason
from torchpaths.places.channels.nodes import (
    ADDS,
    FACTORS,
    MULTIPLIES,
    TOGETHER,
    described,
    is_mean,
    is_mixing,
    is_pool,
    is_relu,
    passes,
    wise,
)
from torchpaths.places.residual.evaluated import Evaluated

OUTSIDE = "made outside of the block"
"""Why a layer is none that passes a block's own channels on."""

LEAVES = "used outside of the block"
"""Why channels are not followed to where they are mixed: that is in a module around."""


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
        norms: norms with nothing between them and the layer before, with that layer.
        features: the layer behind which, and behind the ReLU that follows if ``rectified``, they are what the paper of
            network decoupling calls the output of a layer (eq. 1); "" where the consumers read just that.
        rectified: see above.
    """

    producer: str
    between: tuple[str, ...]
    aligned: tuple[str, ...]
    squeezes: tuple[str, ...]
    consumers: tuple[str, ...]
    width: int
    end: str = ""
    norms: tuple[tuple[str, str], ...] = ()
    features: str = ""
    rectified: bool = False

    def within(self, prefix: str) -> Span:
        """The same with the names that layers have in a module around, under which the region's begin so."""
        own = (self.between, self.aligned, self.squeezes, self.consumers)
        between, aligned, squeezes, consumers = (tuple(prefix + name for name in names) for names in own)
        end, features = (prefix + name if name else "" for name in (self.end, self.features))
        norms = tuple((prefix + norm, prefix + layer) for norm, layer in self.norms)
        layers = (prefix + self.producer, between, aligned, squeezes, consumers)
        return Span(*layers, self.width, end, norms, features, self.rectified)


class _Leaves(Evaluated):
    """Every layer opaque, and what is made of layers seen through; flags for training are what they are."""

    def flag(self, name: str) -> Any:
        return operator.attrgetter(name)(self.block)

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
            recorder = _Leaves(module, module.training)
            given = [recorder.given(f"x{i}", arg) for i, arg in enumerate(args)]
            named = {name: recorder.given(f"k_{name}", arg) for name, arg in kwargs.items()}
            self.graph = recorder.record(lambda twin: twin.forward(*given, **named))
        except Exception as error:  # whatever the module's own forward raises for proxies
            raise RouteError(f"cannot be traced ({reason(error, 160)})") from error
        self.calls = [node for node in self.graph.nodes if node.op == "call_module"]

    def layer(self, node: fx.Node) -> nn.Module | None:
        """What a node calls."""
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else None

    def squeezed(self, name: str) -> bool:
        """Whether what a layer is given is a mean over all pixels, or computed of one.

        Raises:
            RouteError: if it does not run once.
        """
        node = self.called(name)
        while True:
            sources = node.all_input_nodes
            if len(sources) != 1 or sources[0].op == "placeholder":
                return False
            [node] = sources
            layer = self.layer(node)
            if is_mean(node, layer):
                return True
            larger = isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
            if larger or not (wise(node, layer) or is_mixing(layer)):
                return False

    def features_of(self, maker: fx.Node, ended: bool) -> tuple[str, bool]:
        """See `Span.features` and `Span.rectified`.

        Args:
            maker: the call of the layer that makes the channels.
            ended: whether no layer mixes them.
        """
        node = maker
        users = list(node.users)
        if len(users) == 1 and isinstance(self.layer(users[0]), _BatchNorm):
            [node] = users
        users = list(node.users)
        only = users[0] if len(users) == 1 else None
        layer = None if only is None else self.layer(only)
        rectified = only is not None and is_relu(only, layer)
        readers = list(only.users) if only is not None and rectified else users
        acts = only is not None and passes(only, layer, self.layer(maker)) and not is_pool(only, layer)
        direct = all(is_mixing(self.layer(reader)) for reader in readers)
        if not ended and (direct or (acts and not rectified)):
            return "", False
        return str(node.target), rectified

    def norms_behind(self, names: Iterable[str]) -> tuple[tuple[str, str], ...]:
        """See `Span.norms`: batch norms of whose layer nobody else sees the output."""
        found = []
        for name in names:
            node = self.called(name)
            [*sources] = node.all_input_nodes
            if isinstance(self.layer(node), _BatchNorm) and len(sources) == 1 and len(sources[0].users) == 1:
                layer = self.layer(sources[0])
                if isinstance(layer, (nn.Conv2d, nn.Linear)):
                    found.append((name, str(sources[0].target)))
        return tuple(found)

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
                (user for user, layer in zip(users, layers, strict=True) if isinstance(layer, TOGETHER)), None
            )
            if together is not None:
                raise RouteError(
                    f"its channels are normalised together, by {described(together, self.layer(together))}"
                )
            if len(users) != 1 or not passes(users[0], layers[0], self.layer(maker)):
                break
            [node] = users
            if isinstance(layers[0], (_BatchNorm, nn.Conv2d)):
                self.called(str(node.target))
                between.append(str(node.target))
        layer: Any = self.layer(maker)
        producer = str(maker.target)
        end = between[-1] if between else producer
        norms = self.norms_behind((producer, *between))
        count = int(layer.weight.shape[0])
        return Span(producer, tuple(between), (), (), (), count, end, norms, *self.features_of(maker, ended=True))

    def _maker(self, name: str) -> fx.Node:
        """The call of the layer that makes the channels that a layer gives.

        Raises:
            RouteError: if they are not made by one layer.
        """
        node = self.called(name)
        while wise(node, self.layer(node)):
            sources = node.all_input_nodes
            if len(sources) != 1 or sources[0].op == "placeholder":
                raise RouteError(f"its channels are {OUTSIDE}")
            [node] = sources
        layer = self.layer(node)
        if not is_mixing(layer):
            raise RouteError(f"its channels are made by {described(node, layer)}, not by a convolution")
        self.called(str(node.target))
        return node


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
            "",
            self.region.norms_behind((str(self.producer.target), *self.between)),
            *self.region.features_of(self.producer, ended=False),
        )

    def _goes_on(self, user: fx.Node) -> bool:
        """Whether a node hands the channels on; notes what it does with them."""
        layer = self.region.layer(user)
        if passes(user, layer, self.region.layer(self.producer)):
            if isinstance(layer, (_BatchNorm, nn.Conv2d)):
                self.region.called(str(user.target))
                self.between.append(str(user.target))
            return True
        if is_mixing(layer):
            self.mixed.append(user)
            return False
        if user.target in MULTIPLIES:
            self.aligned += [name for factor in user.all_input_nodes for name in self._factor(factor)]
            return True
        if user.op == "output":
            raise RouteError(f"its channels are {LEAVES}, at {user.name!r}")
        if user.target in ADDS:
            raise RouteError(f"its channels are added to others or put beside them, at {user.name!r}")
        raise RouteError(f"its channels are read by {described(user, layer)}")

    def _factor(self, node: fx.Node) -> Iterator[str]:
        """The layer whose outputs a factor is, where it is not the channels themselves."""
        while node not in self.carry:
            layer = self.region.layer(node)
            if is_mixing(layer):
                yield str(node.target)
                return
            single = len(node.all_input_nodes) == 1
            if not single or not (wise(node, layer) or node.target in FACTORS):
                raise RouteError(f"its channels are multiplied with {described(node, layer)}")
            [node] = node.all_input_nodes

    def _into(self, node: fx.Node) -> list[str]:
        """The layers that what a layer gives goes into; those that are not known by the name of nothing."""
        found: list[str] = []
        waiting = [node]
        while waiting:
            for user in waiting.pop().users:
                if is_mixing(self.region.layer(user)):
                    found.append(str(user.target))
                elif wise(user, self.region.layer(user)) and not isinstance(self.region.layer(user), nn.Conv2d):
                    waiting.append(user)
                else:
                    found.append("")
        return found
