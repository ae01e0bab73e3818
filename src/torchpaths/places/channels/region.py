"""What a module of a network does with the layers in it, every layer opaque: ``Region``.

The module's forward is recorded, and what it makes is computed once for the example: only shapes tell on which axis
channels stand. Hooks that modules have already are steps of their own, of which nothing is known but where they are.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_map

from torchpaths.costs import evaluating
from torchpaths.errors import RouteError, reason
from torchpaths.places.channels.nodes import Hooked, behind, described, is_mean, is_mixing, is_pool, is_relu, wise
from torchpaths.places.residual.evaluated import Evaluated
from torchpaths.places.residual.rest import Rest
from torchpaths.places.residual.tracing import Held

OUTSIDE = "made outside of the block"
"""Why a layer is none that passes a block's own channels on."""

LEAVES = "used outside of the block"
"""Why channels are not followed to where they are mixed: that is in a module around."""


class HookedError(RouteError):
    """Channels that a hook sees which was there before."""


class _Leaves(Evaluated):
    """Every layer opaque, and what is made of layers seen through; flags for training are what they are."""

    def flag(self, name: str) -> Any:
        return operator.attrgetter(name)(self.block)

    def _called(self, name: str, *args: Any, **kwargs: Any) -> Any:
        module = self.block.get_submodule(name)
        if any(_is_users(hook) for hook in module._forward_pre_hooks.values()):
            args, kwargs = self._hooked((args, kwargs), Hooked(name, "forward pre-hook"))
        twin = self.twin.get_submodule(name)
        y = super()._called(name, *args, **kwargs) if is_leaf(module) else twin.forward(*args, **kwargs)
        hooked = any(_is_users(hook) for hook in module._forward_hooks.values())
        return self._hooked(y, Hooked(name, "forward hook")) if hooked else y

    def _hooked(self, values: Any, hook: Hooked) -> Any:
        """Values as a hook hands them on."""

        def one(value: Any) -> Any:
            recorded = issubclass(type(value), fx.Proxy) and not issubclass(type(value), (Rest, Held))
            return self.create_proxy("call_function", hook, (value,), {}) if recorded else value

        return tree_map(one, values)

    def shapes(self) -> dict[fx.Node, tuple[int, ...]]:
        """The shapes of all tensors for the example, but for what cannot be computed by itself."""
        found: dict[fx.Node, tuple[int, ...]] = {}
        failed: set[fx.Node] = set()
        readers = {node: len(node.users) for node in self.graph.nodes}
        with evaluating(self.block), torch.random.fork_rng(devices=[]):
            for node in [node for node in self.graph.nodes if node.op != "output"]:
                try:
                    value = None if failed.intersection(node.all_input_nodes) else self.value(node)
                except Exception:  # whatever a module of somebody's raises, such as behind a hook that is not run
                    value = None
                if isinstance(value, Tensor):
                    found[node] = tuple(value.shape)
                elif value is None:
                    failed.add(node)
                for source in node.all_input_nodes:
                    readers[source] -= 1
                    if readers[source] == 0:
                        self._values.pop(source, None)  # all of a network's values would be many
        return found


def _is_users(hook: Any) -> bool:
    """Whether a hook is somebody's own: those of torch that compute weights, as for pruning, see no channels."""
    return not any(kind.__module__.startswith("torch.nn.utils") for kind in type(hook).__mro__)


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
        self.order = {node: i for i, node in enumerate(self.graph.nodes)}
        self._shapes = recorder.shapes()

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        """What a node gives, for one image.

        Raises:
            RouteError: where that is not known.
        """
        if node not in self._shapes:
            raise RouteError(
                f"what {described(node, self.layer(node))} gives is no tensor, or not known before it runs"
            )
        return self._shapes[node]

    def made_on(self, maker: fx.Node) -> int:
        """On which axis a layer makes channels, counted from the last, see `behind`.

        Raises:
            RouteError: for a convolution of an image without a batch.
        """
        if isinstance(self.layer(maker), nn.Linear):
            return -1
        if len(self.shape(maker)) != 4:
            raise RouteError("it is given an image and no batch of images")
        return -3

    def behind(self, source: fx.Node, node: fx.Node, axis: int) -> int | None:
        """See `torchpaths.places.channels.nodes.behind`, of what a source gives a node."""
        layer = self.layer(node)
        return behind(node, layer, len(self.shape(source)), axis) if wise(node, layer) else None

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
            if node in self._shapes and is_mean(node, layer, self._shapes[node]):
                return True
            larger = isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1)
            if larger or not (wise(node, layer) or is_mixing(layer) or isinstance(node.target, Hooked)):
                return False

    def features_of(self, maker: fx.Node, ended: bool) -> tuple[str, bool]:
        """See `Span.features` and `Span.rectified`.

        Args:
            maker: the call of the layer that makes the channels.
            ended: whether no layer mixes them.
        """
        node, axis = maker, self.made_on(maker)
        users = list(node.users)
        normed = len(users) == 1 and isinstance(self.layer(users[0]), _BatchNorm)
        if normed and self.behind(node, users[0], axis) is not None:
            [node] = users
        users = list(node.users)
        only = users[0] if len(users) == 1 else None
        layer = None if only is None else self.layer(only)
        rectified = only is not None and is_relu(only, layer)
        readers = list(only.users) if only is not None and rectified else users
        acts = only is not None and self.behind(node, only, axis) is not None and not is_pool(only, layer)
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

    def maker(self, name: str) -> fx.Node:
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
