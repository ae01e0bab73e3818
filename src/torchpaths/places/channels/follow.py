"""Follow the channels of a layer to where they are mixed, `followed`, or as far as nothing but them goes on, `ended`.

On the way it is noted on which axis they stand: a layer that mixes another one, such as a linear layer over an image's
width, does not mix channels.
"""

from __future__ import annotations

from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchpaths.errors import RouteError
from torchpaths.places.channels.nodes import (
    ADDS,
    FACTORS,
    MULTIPLIES,
    TOGETHER,
    Hooked,
    described,
    is_mixing,
    mixed_axis,
    wise,
)
from torchpaths.places.channels.region import LEAVES, HookedError, Region
from torchpaths.places.channels.spans import Span


def followed(region: Region, name: str) -> Span:
    """The channels that a layer of a region makes, or that pass it.

    Raises:
        RouteError: if they are not made by one layer, or go elsewhere than into layers that mix them.
    """
    return _Follow(region, region.maker(name)).span()


def ended(region: Region, name: str) -> Span:
    """The channels that a layer of a region makes, as far as nothing but them goes on: up to a sum, a concatenation, or
    where several read them.

    Raises:
        RouteError: if they are not made by one layer, or a norm over several channels follows, behind which a closed
            channel would not be zero.
    """
    maker = region.maker(name)
    node, axis, between = maker, region.made_on(maker), []
    while True:
        users = list(node.users)
        together = next((user for user in users if isinstance(region.layer(user), TOGETHER)), None)
        if together is not None:
            raise RouteError(f"its channels are normalised together, by {described(together, region.layer(together))}")
        on = region.behind(node, users[0], axis) if len(users) == 1 else None
        if on is None:
            break
        [node], axis = users, on
        if isinstance(region.layer(node), (_BatchNorm, nn.Conv2d)):
            region.called(str(node.target))
            between.append(str(node.target))
    layer: Any = region.layer(maker)
    producer = str(maker.target)
    end = between[-1] if between else producer
    norms = region.norms_behind((producer, *between))
    count = int(layer.weight.shape[0])
    return Span(producer, tuple(between), (), (), (), count, end, norms, *region.features_of(maker, ended=True))


class _Follow:
    """Goes from a producer to all that its channels reach, and those that they are multiplied with.

    Attributes:
        carry: what holds the channels, and on which axis, counted from the last.
    """

    def __init__(self, region: Region, producer: fx.Node) -> None:
        self.region = region
        self.producer = producer
        self.carry = {producer: region.made_on(producer)}
        self.waiting = [producer]
        self.between: list[str] = []
        self.aligned: list[fx.Node] = []
        self.mixed: list[fx.Node] = []

    def span(self) -> Span:
        while self.waiting:
            node = self.waiting.pop(0)
            for user in node.users:
                axis = self._goes_on(node, user)
                if axis is not None and user not in self.carry:
                    self.waiting.append(user)
                if axis is not None and self.carry.setdefault(user, axis) != axis:
                    raise RouteError(f"its channels meet themselves along another axis, at {user.name!r}")
        both = next((node for node in self.mixed if node in self.aligned), None)
        if both is not None:
            raise RouteError(f"{str(both.target)!r} mixes its channels and makes the factors of the same ones")
        aligned = [str(node.target) for node in self.aligned]
        squeezes = [n for n in self.mixed if all(name in aligned for name in self._into(n))]
        consumers = [n for n in self.mixed if n not in squeezes]
        names = {str(n.target) for n in self.mixed}
        if len(names) != len(self.mixed):
            raise RouteError("a layer that mixes its channels runs several times")
        if not consumers:
            raise RouteError("no layer mixes its channels")
        return Span(
            str(self.producer.target),
            tuple(dict.fromkeys(self.between)),
            tuple(aligned),
            tuple(str(n.target) for n in squeezes),
            tuple(str(n.target) for n in consumers),
            self._width(self.producer),
            "",
            self.region.norms_behind((str(self.producer.target), *self.between)),
            *self.region.features_of(self.producer, ended=False),
        )

    def _width(self, maker: fx.Node) -> int:
        layer: Any = self.region.layer(maker)
        return int(layer.weight.shape[0])

    def _goes_on(self, node: fx.Node, user: fx.Node) -> int | None:
        """On which axis a user of what holds the channels hands them on; None where it mixes them. Notes what it does.

        Raises:
            RouteError: where they go elsewhere.
        """
        layer, axis = self.region.layer(user), self.carry[node]
        on = self.region.behind(node, user, axis)
        if on is not None:
            if isinstance(layer, (_BatchNorm, nn.Conv2d)):
                self.region.called(str(user.target))
                self.between.append(str(user.target))
            return on
        if layer is not None and is_mixing(layer):
            self._check_mixes(node, user, layer)
            self.mixed.append(user)
            return None
        if user.target in MULTIPLIES:
            self._multiply(node, user)
            return axis
        if user.op == "output":
            raise RouteError(f"its channels are {LEAVES}, at {user.name!r}")
        if user.target in ADDS:
            raise RouteError(f"its channels are added to others or put beside them, at {user.name!r}")
        if isinstance(user.target, Hooked):
            raise HookedError(f"its channels are seen by {user.target}; take it away, route, and register it again")
        raise RouteError(f"its channels are read by {described(user, layer)}")

    def _check_mixes(self, node: fx.Node, user: fx.Node, layer: nn.Module) -> None:
        """Raise `RouteError` unless the axis that a layer mixes is that of the channels."""
        dims = len(self.region.shape(node))
        axis, mixed = self.carry[node], mixed_axis(layer, dims)
        if axis != mixed:
            raise RouteError(
                f"its channels stand on axis {dims + axis} where {described(user, layer)}, mixes axis {dims + mixed}"
            )

    def _multiply(self, node: fx.Node, user: fx.Node) -> None:
        """Note which layers make what the channels are multiplied with, to be followed too.

        Raises:
            RouteError: where that is not known, or does not close with the channels.
        """
        axis = self.carry[node]
        count = self.region.shape(node)[axis]
        if self.region.shape(user)[axis] != count:
            raise RouteError(f"each of its channels is multiplied with several, at {user.name!r}")
        for factor in user.all_input_nodes:
            maker = self._maker_of(factor)
            shape = self.region.shape(factor)
            if maker is None or maker in self.carry or len(shape) < -axis or shape[axis] < count:
                continue  # the channels themselves, or one factor for all of them
            self.region.called(str(maker.target))
            if self.region.order[maker] < self.region.order[self.producer]:
                raise RouteError(
                    f"its channels are multiplied with what {str(maker.target)!r} makes, which runs before it: what it "
                    "reads itself is not known by then"
                )
            if self._width(maker) != self._width(self.producer):
                raise RouteError(f"its channels are multiplied with those of {str(maker.target)!r}, which are others")
            self.aligned.append(maker)
            self.carry[maker] = self.region.made_on(maker)
            self.waiting.append(maker)

    def _maker_of(self, node: fx.Node) -> fx.Node | None:
        """The layer that makes a factor; None where that is the channels themselves."""
        while node not in self.carry:
            layer = self.region.layer(node)
            if is_mixing(layer):
                return node
            single = len(node.all_input_nodes) == 1
            if isinstance(node.target, Hooked):
                raise HookedError(f"its channels are multiplied with what {node.target} sees")
            if not single or not (wise(node, layer) or node.target in FACTORS):
                raise RouteError(f"its channels are multiplied with {described(node, layer)}")
            [node] = node.all_input_nodes
        return None

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
