"""``Layer``: a layer of which a site's units close rows (outputs) or columns (inputs).

Each layer that has to do with a site obeys by itself, so the forward of their block runs as it is, inside whatever
closes the block as a whole. A decision for the whole batch leaves closed channels out in evaluation: rows and columns
of the weights are taken, the tensors between are narrow. One for each image, and any in training, multiplies what the
layers read that mix the channels; the norms in between then see all of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from torchpaths.errors import CallError, RouteError
from torchpaths.junction import Junction, Place
from torchpaths.path import Bools
from torchpaths.places.gradients import pool
from torchpaths.places.residual.along import trace
from torchpaths.trace import Decision, Site

Role: TypeAlias = Literal["makes", "passes", "mixes"]
"""What a layer does with the channels of a site: it makes them (rows), has an entry for each (rows), or mixes them
(columns)."""


class Layer(Place):
    """See above.

    Attributes:
        site: whose units are equal groups of consecutive channels.
        role: see `Role`.
        axis: of the weights along which the units lie, 0 for rows and 1 for columns.
    """

    def __init__(self, block: nn.Module, site: Site, role: Role, by_open: bool = False) -> None:
        """
        Args:
            block: a convolution, a linear layer or a batch normalisation.
            site: see above.
            role: see above.
            by_open: what it mixes is multiplied by what is open, not by ``z``.

        Raises:
            RouteError: if another method closes the same channels.
        """
        if isinstance(block, Junction):
            raise RouteError(
                f"site {site.name!r}: the channels of {site.modules[0]!r} are closed by another method already; "
                "take one of the methods."
            )
        super().__init__(block, (site,))
        self.site = site
        self.role = role
        self.by_open = by_open
        self.axis = int(role == "mixes")

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See `Place.run`.

        Raises:
            CallError: for a norm in training behind a convolution in evaluation, from which channels are missing.
        """
        x, decision = self.decide(self.site, x, partial(pool, axes=tuple(range(2, x.dim()))))  # the maker runs first
        if decision is None or is_full(decision):
            return self.whole(x)
        kept = decision.whole
        if self.role == "makes":
            return self.whole(x) if kept is None or self.training else self.narrow(x, kept)
        if x.shape[1] == width(self.block, self.role):
            return self.whole(x) if self.role == "passes" else self.masked(x, decision)
        if self.training and isinstance(self.block, _BatchNorm):
            raise CallError(
                f"site {self.site.name!r}: its norm trains and its convolution does not, so channels are missing "
                "from the norm's statistics; set both to one mode, or give each image a path of its own."
            )
        assert kept is not None
        return self.narrow(x, kept)

    def whole(self, x: Tensor) -> Tensor:
        """The layer as it is."""
        y: Tensor = self.block.forward(x)  # not its call: the junction fires its hooks
        return y

    def masked(self, x: Tensor, decision: Decision) -> Tensor:
        """The layer with all channels there, and some of them multiplied by zero."""
        return self.whole(x * spread(decision.open if self.by_open else decision.z, x))

    def narrow(self, x: Tensor, kept: Bools) -> Tensor:
        """The layer with its closed channels left out."""
        return computed(self.block, x, numbers(kept, width(self.block, self.role)), self.axis)

    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        """The layer with fewer rows or columns, which are copies. See `Place.cut`."""
        kept, layer = opened[self.site.name], self.block
        if all(kept):
            return layer
        if any(kept):
            return smaller(layer, numbers(kept, width(layer, self.role)), self.axis)
        if isinstance(layer, _BatchNorm):
            return nn.Identity().train(layer.training)
        return trace(layer, partial(_traced, axis=self.axis))


def is_full(decision: Decision) -> bool:
    """Whether all is open for the whole batch."""
    return decision.whole is not None and all(decision.whole)


def width(layer: nn.Module, role: Role) -> int:
    """How many channels of a site a layer has to do with."""
    if isinstance(layer, _BatchNorm):
        return int(layer.num_features)
    weight: Tensor = layer.weight  # type: ignore[assignment]
    return int(weight.shape[role == "mixes"])


def numbers(kept: Bools, channels: int) -> list[int]:
    """The channels of the units that are kept."""
    each = channels // len(kept)
    return [unit * each + i for unit, is_open in enumerate(kept) if is_open for i in range(each)]


def spread(z: Tensor, x: Tensor) -> Tensor:
    """``z`` ``[batch, unit]`` as a factor of ``x`` ``[batch, channels, ...]``."""
    factors = z.to(x.dtype).repeat_interleave(x.shape[1] // z.shape[1], 1)
    return factors.view(len(z), -1, *(1,) * (x.dim() - 2))


def computed(layer: Any, x: Tensor, kept: list[int], axis: int) -> Tensor:
    """What a layer gives, in evaluation, with only some of its rows or columns.

    Args:
        layer: a convolution, a linear layer or a batch normalisation.
        x: its input, with the channels of the others missing where it reads those.
        kept: the rows or columns, ascending.
        axis: 0 for rows, 1 for columns.
    """
    if not kept:
        return x if isinstance(layer, _BatchNorm) else nothing(layer, x, axis)
    index = torch.tensor(kept, device=x.device)
    taken = {name: t.index_select(axis, index) for name, t in _resized(layer, axis)}
    forward = type(layer).forward
    y: Tensor
    if isinstance(layer, _BatchNorm) and (forward is nn.BatchNorm2d.forward or _acts(layer)):
        mean, var = taken.get("running_mean"), taken.get("running_var")
        weight, bias = taken.get("weight"), taken.get("bias")
        y = functional.batch_norm(x, mean, var, weight, bias, training=mean is None, eps=layer.eps)
        return layer.act(layer.drop(y)) if _acts(layer) else y  # type: ignore[operator]
    bias = taken.get("bias", layer.bias)
    if forward is nn.Conv2d.forward and layer.padding_mode == "zeros":
        groups = _groups(layer, len(kept), axis)
        y = functional.conv2d(x, taken["weight"], bias, layer.stride, layer.padding, layer.dilation, groups)
        return y
    if forward is nn.Linear.forward:
        return functional.linear(x, taken["weight"], bias)
    y = _with(layer, taken, len(kept), axis).forward(x)  # a class built on these, with a forward of its own
    return y


def _acts(layer: nn.Module) -> bool:
    """Whether a norm is timm's, which has an activation in it; known by name, as timm need not be there."""
    kind = type(layer)
    return kind.__name__ == "BatchNormAct2d" and kind.__module__.startswith("timm.")


def nothing(layer: nn.Module, x: Any, axis: int) -> Any:
    """What a layer of no rows gives, or of no columns: torch gives no output channels, or raises."""
    if isinstance(layer, nn.Linear):
        y = x.new_zeros((*x.shape[:-1], 0 if axis == 0 else layer.out_features))
        return y if axis == 0 or layer.bias is None else y + layer.bias
    assert isinstance(layer, nn.Conv2d)
    sides = zip(layer.kernel_size, layer.stride, _padding(layer), layer.dilation, strict=True)
    sizes = [(x.shape[i + 2] + p - d * (k - 1) - 1) // s + 1 for i, (k, s, p, d) in enumerate(sides)]
    y = x.new_zeros((x.shape[0], 0 if axis == 0 else layer.out_channels, *sizes))
    return y if axis == 0 or layer.bias is None else y + layer.bias.view(1, -1, 1, 1)


def _padding(layer: nn.Conv2d) -> list[int]:
    """Pixels that are added on both sides together."""
    if isinstance(layer.padding, str):
        sides = zip(layer.kernel_size, layer.dilation, strict=True)
        return [d * (k - 1) if layer.padding == "same" else 0 for k, d in sides]
    return [2 * int(p) for p in layer.padding]


def _traced(layer: nn.Module, arguments: Mapping[str, Any], axis: int) -> Any:
    return nothing(layer, next(iter(arguments.values())), axis)


def _resized(layer: nn.Module, axis: int) -> Iterator[tuple[str, Tensor]]:
    """The parameters and buffers that have an entry for each row (0), or column (1)."""
    for name, t in (*layer._parameters.items(), *layer._buffers.items()):
        if t is not None and t.dim() > 0 and (axis == 0 or name == "weight"):
            yield name, t


def _groups(layer: nn.Conv2d, kept: int, axis: int) -> int:
    """The groups of a convolution that keeps some of its channels: whole groups, or equal parts of each."""
    return layer.groups * kept // layer.out_channels if axis == 0 and layer.groups > 1 else layer.groups


def smaller(layer: nn.Module, kept: list[int], axis: int) -> nn.Module:
    """A layer of the same class with only some of the rows or columns, as a copy."""
    index = torch.tensor(kept, device=next(t for _, t in _resized(layer, axis)).device)
    taken = {name: t.detach().index_select(axis, index) for name, t in _resized(layer, axis)}
    own = {n: nn.Parameter(t, layer._parameters[n].requires_grad) for n, t in taken.items() if n in layer._parameters}  # type: ignore[union-attr]
    return _with(layer, {**taken, **own}, len(kept), axis)


def _with(layer: nn.Module, taken: Mapping[str, Tensor], kept: int, axis: int) -> nn.Module:
    """The same layer with other weights, and the sizes that they have."""
    made = copy.copy(layer)
    made._parameters = {name: taken.get(name, p) for name, p in layer._parameters.items()}  # type: ignore[misc]
    made._buffers = {name: taken.get(name, b) for name, b in layer._buffers.items()}
    if isinstance(made, _BatchNorm):
        made.num_features = kept
    elif isinstance(made, nn.Linear):
        made.out_features, made.in_features = made.weight.shape
    else:
        assert isinstance(made, nn.Conv2d) and isinstance(layer, nn.Conv2d)  # noqa: PT018
        made.groups = _groups(layer, kept, axis)
        made.out_channels, made.in_channels = len(made.weight), made.weight.shape[1] * made.groups
    return made


def pixels(y: Tensor) -> int:
    """In how many places of an image a layer computed."""
    return math.prod(y.shape[2:])
