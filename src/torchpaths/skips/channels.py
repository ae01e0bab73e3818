"""``SkippingLayer``: a layer that computes the filters a single image opens, from the channels that are open before it.

The norm behind a layer is folded into its weights (`torchpaths.skips.folded`), so that nothing remains of it. In a
batch each image opens filters of its own; see `torchpaths.skips.singly`.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from torchpaths.junction import Junction, junctions
from torchpaths.places.channels.layer import Layer, is_full, means, nothing_of, spread
from torchpaths.places.channels.weights import channel_axis, kind_of, outputs, width
from torchpaths.skips.call import SkippingCall
from torchpaths.skips.folded import Folded, placed
from torchpaths.trace import Decision, Site

_EVERYWHERE = torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks


class SkippingLayer(Layer):
    """See above.

    Attributes:
        norm: the place of the norm that is folded into this layer; None for none.
        maker: of a norm: the place of the layer into which it is folded; None where it stands for itself.
        holder: of a norm that is folded: the table in which it stands, its name there, and its junction.
    """

    norm: SkippingLayer | None = None
    maker: SkippingLayer | None = None
    holder: tuple[dict[str, Any], str, Junction] | None = None

    def __init__(self, place: Layer) -> None:
        """
        Args:
            place: taken over: block, role and sites.
        """
        self.__dict__.update(place.__dict__)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": None, "holder": None}  # a copy stands in another model, see `fold_norms`

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See `Layer.run`."""
        call = self.slot.local.call
        if not isinstance(call, SkippingCall) or call.batch != 1 or x.shape[0] != 1:
            return super().run(x, *args, **kwargs)
        role, trace = self.role, call.trace
        block: Any = self.block
        columns = None
        if role.columns is not None:
            if trace[role.columns.name].whole is None:
                return super().run(x, *args, **kwargs)  # scaled, not chosen
            columns = self._open(role.columns, 1, call)
            if columns is None:
                x = _masked(x, trace[role.columns.name], channel_axis(block, x))
        if role.rows is not None and role.rows.name not in trace:
            x, _ = call.decide(
                role.rows,
                x,
                partial(means, layer=block, columns=columns if columns is not None and len(columns) else None),
            )
            if trace[role.rows.name].whole is None:
                return super().run(x, *args, **kwargs)
        rows = None if role.rows is None else self._open(role.rows, 0, call)
        if rows is not None and len(rows) == 0:
            return nothing_of(self.block, x, outputs(self.block))  # type: ignore[no-any-return]
        if self.maker is not None and self.maker.folds():
            y = x  # done already
        elif isinstance(block, (nn.Conv2d, nn.Linear)) and _is_plain(block):
            y = self.folded()(x, rows, columns)
        else:
            both = ((role.rows, rows), (role.columns, columns))
            y = self.compute(x, *(None if s is None or i is None else trace[s.name].whole for s, i in both))
        if role.ends and rows is None and role.rows is not None:
            y = _masked(y, trace[role.rows.name], channel_axis(block, y))
        if self.spreads:
            places = block.spread_places
            return block.widen(y, places if rows is None else places.index_select(0, rows))  # type: ignore[no-any-return]
        if not role.ends or rows is None:
            return y
        return placed(y, rows, width(block, 0), channel_axis(block, y))

    def _open(self, site: Site, axis: int, call: SkippingCall) -> Tensor | None:
        """The open channels of a site, long; None where all are computed."""
        made = call.trace[site.name]
        assert made.whole is not None
        if is_full(made) or sum(made.whole) >= call.prices.dense * len(made.whole):
            return None
        channels = width(self.block, axis)
        key = site.name, channels
        if key not in call.channels:
            units = made.open[0].nonzero().view(-1)
            each = channels // len(site.units)
            if each > 1:
                units = (units.unsqueeze(1) * each + torch.arange(each, device=units.device)).view(-1)
            call.channels[key] = units
        return call.channels[key]

    def folds(self) -> bool:
        """Whether the norm behind is computed here: nobody looks at what lies between."""
        norm = self.norm
        if norm is None or not _is_plain(self.block):
            return False
        own, other = self.block, norm.block
        if norm.holder is None or norm.holder[0].get(norm.holder[1]) is not norm.holder[2]:
            return False  # another layer stands there now
        if any(_EVERYWHERE) or "forward" in own.__dict__ or "forward" in other.__dict__:
            return False
        hooked = own._forward_hooks or own._forward_pre_hooks or other._forward_hooks or other._forward_pre_hooks
        known = kind_of(other).forward in (nn.BatchNorm2d.forward, nn.BatchNorm1d.forward)
        return known and not hooked and not other.training and other._buffers.get("running_mean") is not None

    def folded(self) -> Folded:
        """This layer with the norm behind it, kept until they change."""
        norm = self.norm.block if self.norm is not None and self.folds() else None
        kept: Folded | None = self.kept
        if kept is None or not kept.holds(self.block, norm):
            kept = self.kept = Folded(self.block, norm)
        return kept


def _masked(x: Tensor, made: Decision, axis: int) -> Tensor:
    """All channels, closed ones zero."""
    return x if is_full(made) else x * spread(made.z, x, axis)


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes as torch's own classes do."""
    if isinstance(layer, nn.Conv2d):
        return bool(kind_of(layer).forward is nn.Conv2d.forward and layer.padding_mode == "zeros")
    return bool(kind_of(layer).forward is nn.Linear.forward)


def skip_channels(model: nn.Module) -> tuple[str, ...]:
    """Put a `SkippingLayer` in the place of every layer that leaves channels out; norms that stand alone are folded.

    Returns:
        The names of their sites.
    """
    for _, junction in junctions(model):
        if type(junction._place) is Layer:
            junction.__dict__["_place"] = SkippingLayer(junction._place)
    return fold_norms(model)


def fold_norms(model: nn.Module) -> tuple[str, ...]:
    """Tell layers and norms of each other, as they stand in a model now. Returns as `skip_channels`."""
    placed_there = [(name, junction._place) for name, junction in junctions(model)]
    stand = Counter(name for name, _ in placed_there)
    found = {name: place for name, place in placed_there if isinstance(place, SkippingLayer)}
    followers = Counter(norm.role.behind for norm in found.values())  # two where norms are doubled
    for norm_name, norm in found.items():
        maker = found.get(norm.role.behind)
        if maker is not None and stand[norm_name] == stand[norm.role.behind] == followers[norm.role.behind] == 1:
            norm.maker, maker.norm = maker, norm
            parent, _, child = norm_name.rpartition(".")
            table: Any = model.get_submodule(parent)._modules
            norm.holder = table, child, table[child]
    return tuple(dict.fromkeys(site.name for place in found.values() for site in place.sites))
