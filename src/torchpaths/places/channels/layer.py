"""``Layer``: a layer of which sites' units close rows (outputs), columns (inputs), or both.

Each layer that has to do with a site obeys by itself, so the forward of their block runs as it is, inside whatever
closes the block as a whole. A decision for the whole batch leaves closed channels out in evaluation: rows and columns
of the weights are taken, the tensors between are narrow. One for each image, and any in training, multiplies what the
layers read that mix the channels; the norms in between then see all of them. Where nothing of a site is open, the
tensors are not narrow but hold zeros, since a layer of no channels is none to torch.

Channels that no layer of the block mixes, since they go into a sum or a concatenation, end at the last layer that has
an entry for each of them (``ends``): behind it closed ones are zeros in their places (network decoupling, section 3.1:
the mask lies on a convolution's output; in the authors' code behind the norm and before the sum). In a network that was
cut before, that layer may spread the channels that are left (`torchpaths.models.spread`): then units are those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from torchpaths.errors import CallError, RouteError
from torchpaths.junction import Junction, Place
from torchpaths.models.spread import is_spread, spread_out
from torchpaths.path import Bools
from torchpaths.places.channels.weights import (
    biased,
    channel_axis,
    computed,
    is_torchs,
    numbers,
    outputs,
    smaller,
    width,
    zeros,
)
from torchpaths.places.gradients import pool
from torchpaths.places.residual.along import trace
from torchpaths.trace import Decision, Site

FEATURES = "features"
"""Under which a decision's response holds what its units give before any is closed, pooled, float32 ``[batch, unit]``:
``y`` of network decoupling (eq. 13), behind norm and ReLU (eq. 1), before any pooling; of channels that are added to
others before the sum, as in the authors' code. Not there for channels that were left out."""


@dataclass(frozen=True)
class Role:
    """What a layer has to do with channels that sites close. A site's units are equal groups of consecutive channels.

    Attributes:
        rows: the site whose channels it gives; None: all its outputs are always there.
        columns: the site whose channels it mixes; None: all its inputs are.
        makes: it makes the channels of ``rows``; otherwise it has an entry for each and reads them too.
        ends: behind it closed channels are zeros, see above.
        by_open: what it mixes is multiplied by what is open, not by ``z``.
        of_rows: it measures the features of the channels that it gives, see `FEATURES`.
        of_columns: it measures those of the channels that it mixes.
        rectified: a ReLU follows, behind which its features are.
        notes: it measures in training too.
        behind: of a norm: the layer before, by its name in the model, if nothing lies between; "" for others.
    """

    rows: Site | None = None
    columns: Site | None = None
    makes: bool = False
    ends: bool = False
    by_open: bool = False
    of_rows: bool = False
    of_columns: bool = False
    rectified: bool = False
    notes: bool = False
    behind: str = ""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Those whose units it obeys."""
        return tuple(site for site in (self.columns, self.rows) if site is not None)


class Layer(Place):
    """See above."""

    def __init__(self, block: nn.Module, role: Role) -> None:
        """
        Args:
            block: a convolution, a linear layer or a batch normalisation.
            role: see `Role`.

        Raises:
            RouteError: if another method closes the same channels, or they go further than a layer that spreads them.
        """
        if isinstance(block, Junction):
            site = role.sites[0]
            raise RouteError(
                f"site {site.name!r}: the channels of {site.modules[0]!r} are closed by another method already; "
                "take one of the methods."
            )
        super().__init__(block, role.sites)
        self.role = role
        self.spreads = is_spread(block)
        if self.spreads and role.rows is not None and not role.ends:
            raise RouteError(
                f"site {role.rows.name!r}: a {type(block).__name__} among its layers puts its channels among zeros, "
                "which only the last of them can; leave the site out, sites=."
            )

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See `Place.run`.

        Raises:
            CallError: for a norm in training behind a convolution in evaluation, from which channels are missing; and
                for an image without a batch.
        """
        if x.dim() < (4 if isinstance(self.block, nn.Conv2d) else 2):
            raise CallError(
                f"site {self.sites[0].name!r}: its layer was given values of shape {tuple(x.shape)}, no batch of them; "
                "call the network with a batch, one image x as x[None]."
            )
        columns: Bools | None = None
        role, axis = self.role, channel_axis(self.block, x)
        if role.columns is not None:
            x, decision = self.decide(role.columns, x, self._pooled(None))  # the layer that makes them ran first
            columns = self._missing(x, axis, decision)
            x = self.read(x, decision, columns)
        if role.rows is None:
            return self._wide(self.compute(x, None, columns))
        x, decision = self.decide(role.rows, x, self._pooled(columns))
        if role.makes:
            rows = None if decision is None or self.training or is_full(decision) else decision.whole
        else:
            rows = self._missing(x, axis, decision)
        if rows is not None and not any(rows):
            nothing: Tensor = nothing_of(self.block, x, outputs(self.block))
            return nothing
        y = self.compute(x, rows, columns)
        if role.of_rows and rows is None:
            self._note(role.rows, y)
        return self._ended(y, decision, rows) if role.ends else y

    def _missing(self, x: Tensor, axis: int, decision: Decision | None) -> Bools | None:
        """Which units of those it reads are there, where channels are missing from ``x``, or all are zeros."""
        if decision is None or decision.whole is None or is_full(decision):
            return None
        narrow = x.shape[axis] != self.inputs
        if narrow and self.training and isinstance(self.block, _BatchNorm):
            raise CallError(
                f"site {self.sites[0].name!r}: its norm trains and its convolution does not, so channels are missing "
                "from the norm's statistics; set both to one mode, or give each image a path of its own."
            )
        return decision.whole if narrow or not (self.training or any(decision.whole)) else None

    @property
    def inputs(self) -> int:
        """How many channels it reads if none is missing."""
        block = self.block
        return (
            block.in_channels if isinstance(block, nn.Conv2d) else width(block, int(not isinstance(block, _BatchNorm)))
        )

    def _pooled(self, columns: Bools | None) -> Any:
        """See `torchpaths.trace.Pooling`."""
        missing = columns is not None and any(columns)
        index = self._numbers(columns, 1) if missing else None
        return partial(means, layer=self.block, columns=index)

    def read(self, x: Tensor, decision: Decision | None, columns: Bools | None) -> Tensor:
        """The channels as the layer mixes them.

        Args:
            x: the channels.
            decision: of their site; None outside any call.
            columns: which of its units are there; None: all, and some may have to be closed.
        """
        if decision is None or columns is not None:
            return x
        assert self.role.columns is not None
        if self.role.of_columns:
            self._note(self.role.columns, x)
        if is_full(decision):
            return x
        return x * spread(decision.open if self.role.by_open else decision.z, x, channel_axis(self.block, x))

    def compute(self, x: Tensor, rows: Bools | None, columns: Bools | None) -> Tensor:
        """What the layer gives with the units that are there, side by side; None for all."""
        if rows is None and columns is None:
            block: Any = self.block
            y: Tensor = block.narrow(x) if self.spreads else block.forward(x)  # no call: the junction fires its hooks
            return y
        return computed(self.block, x, self._numbers(rows, 0), self._numbers(columns, 1))

    def _numbers(self, kept: Bools | None, along: int) -> list[int] | None:
        return None if kept is None else numbers(kept, width(self.block, along))

    def _ended(self, y: Tensor, decision: Decision | None, rows: Bools | None) -> Tensor:
        """What ends here, all channels in their places and closed ones zero."""
        assert self.role.rows is not None
        axis, block = channel_axis(self.block, y), self.block
        if rows is not None:
            index = torch.tensor(self._numbers(rows, 0), device=y.device)
            if self.spreads:
                index = block.spread_places.index_select(0, index)  # type: ignore[operator]
            shape = (*y.shape[:axis], outputs(block), *y.shape[axis + 1 :])
            return y.new_zeros(shape).index_copy(axis, index, y)
        return self._wide(y if decision is None or is_full(decision) else y * spread(decision.z, y, axis))

    def _wide(self, y: Tensor) -> Tensor:
        """All channels in their places, where the layer spreads them."""
        block: Any = self.block
        wide: Tensor = block.widen(y) if self.spreads else y
        return wide

    def _note(self, site: Site, y: Tensor) -> None:
        """Note the pooled features, for losses in training, for analyses else."""
        call = self.call
        if self.role.notes or not (self.training or (call is not None and call.gathers)):
            axis = channel_axis(self.block, y)
            rectified = self.role.rectified and site is self.role.rows
            self.note(site, FEATURES, lambda: pooled_units(y.relu() if rectified else y, axis, len(site.units)))

    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        """The layer with fewer rows or columns, which are copies. See `Place.cut`."""
        role, layer = self.role, self.block
        rows = None if role.rows is None or all(opened[role.rows.name]) else opened[role.rows.name]
        columns = None if role.columns is None or all(opened[role.columns.name]) else opened[role.columns.name]
        kept, count = self._numbers(rows, 0), outputs(layer)
        if kept is not None and not kept:
            gone = isinstance(layer, _BatchNorm) and not self.spreads
            return nn.Identity().train(layer.training) if gone else trace(layer, partial(_zeros, count=count))
        if columns is not None and not any(columns) and not is_torchs(layer):
            columns = None  # see `computed`
        if columns is not None and not any(columns):
            small: Any = smaller(layer, kept)
            places = small.spread_places.tolist() if self.spreads else kept if role.ends else None
            return trace(small, partial(_nothing, count=width(small, 0) if places is None else count, places=places))
        made = smaller(layer, kept, self._numbers(columns, 1))
        return made if kept is None or not role.ends or self.spreads else spread_out(made, kept, count)


def is_full(decision: Decision) -> bool:
    """Whether all is open for the whole batch."""
    return decision.whole is not None and all(decision.whole)


def spread(z: Tensor, x: Tensor, axis: int = 1) -> Tensor:
    """``z`` ``[batch, unit]`` as a factor of ``x``, whose ``axis`` holds channels."""
    factors = z.to(x.dtype).repeat_interleave(x.shape[axis] // z.shape[1], 1)
    if axis == 1:
        return factors.view(*factors.shape, *(1,) * (x.dim() - 2))
    return factors.view(len(z), *(1,) * (x.dim() - 2), factors.shape[1])


def pooled_units(y: Tensor, axis: int, units: int) -> Tensor:
    """The mean of each unit's channels over pixels or tokens, float32 ``[batch, unit]``."""
    others = tuple(i for i in range(1, y.dim()) if i != axis)
    means = y.mean(others).float() if others else y.float()
    return means.view(len(y), units, y.shape[axis] // units).mean(2)


def means(x: Tensor, layer: nn.Module, columns: Sequence[int] | Tensor | None) -> tuple[Tensor, Tensor]:
    """``x`` and its mean over pixels or tokens ``[batch, channels]``, 0 for channels that are missing.

    Args:
        x: what the layer is given.
        layer: whose number of columns the features have.
        columns: numbers of the channels that ``x`` has; None for all.
    """
    axis = channel_axis(layer, x)
    others = tuple(i for i in range(1, x.dim()) if i != axis)
    x, features = pool(x, others) if others else (x, x.float())
    if columns is None:
        return x, features
    index = columns if isinstance(columns, Tensor) else torch.tensor(columns, device=x.device)
    return x, features.new_zeros(len(x), width(layer, 1)).index_copy(1, index, features)


def nothing_of(layer: nn.Module, x: Any, count: int) -> Any:
    """Zeros of the size of what a layer gives, of so many channels; a norm that spreads nothing hands them on."""
    if not isinstance(layer, _BatchNorm):
        return zeros(layer, x, count)
    return x.new_zeros(x.shape[:1] + (count,) + x.shape[2:]) if is_spread(layer) else x  # noqa: RUF005, maybe a proxy


def _zeros(layer: nn.Module, arguments: Mapping[str, Any], count: int) -> Any:
    return nothing_of(layer, next(iter(arguments.values())), count)


def _nothing(layer: Any, arguments: Mapping[str, Any], count: int, places: list[int] | None) -> Any:
    """The biases of a layer without columns; in their places among zeros, where these are given."""
    bias = layer.bias
    if places is not None and bias is not None:
        where = {place: i for i, place in enumerate(places)}
        parts = [bias[where[i] : where[i] + 1] if i in where else bias.new_zeros(1) for i in range(count)]
        bias = torch.cat(parts)
    return biased(layer, zeros(layer, next(iter(arguments.values())), count), bias)
