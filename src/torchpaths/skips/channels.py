"""``SkippingLayer``: a layer that computes the filters a single image opens, from the channels that are open before it.

The norm behind a layer is folded into its weights (`torchpaths.skips.folded`), so that nothing remains of it. Where to
leave something out would take longer than to compute it, it is computed (`torchpaths.skips.rates`). In a batch each
image opens filters of its own; see `torchpaths.skips.singly`.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from torchpaths.junction import Junction, junctions
from torchpaths.places.channels.layer import Layer, is_full, means, nothing_of, spread
from torchpaths.places.channels.weights import acts, channel_axis, is_torchs, outputs, width
from torchpaths.skips.call import SkippingCall
from torchpaths.skips.folded import Folded, placed
from torchpaths.skips.ways import way
from torchpaths.trace import Decision, Site

_EVERYWHERE = torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks


class SkippingLayer(Layer):
    """See above.

    Attributes:
        norm: the place of the norm that is folded into this layer; None for none.
        maker: of a norm: the place of the layer into which it is folded; None where it stands for itself.
        holder: of a norm that is folded: the table in which it stands, its name there, and its junction.
        kept: the layer with the norm behind it as they were last.
    """

    norm: SkippingLayer | None = None
    maker: SkippingLayer | None = None
    holder: tuple[dict[str, Any], str, Junction] | None = None
    kept: Folded | None = None

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
        axis = channel_axis(block, x)
        columns = None
        if role.columns is not None:
            made = trace[role.columns.name]
            if made.whole is None:
                return super().run(x, *args, **kwargs)  # scaled, not chosen
            columns = self._there(role.columns, x, axis, call)
            if columns is None:
                x = _masked(x, made, axis)
        if role.rows is None:
            return self._wide(self._computed(x, None, columns, call))
        if role.rows.name not in trace:
            index = columns if columns is not None and len(columns) else None
            x, _ = call.decide(role.rows, x, partial(means, layer=block, columns=index))
        made = trace[role.rows.name]
        if made.whole is None:
            return super().run(x, *args, **kwargs)
        if role.makes:
            rows = None if is_full(made) else call.channels_of(role.rows, width(block, 0))
        else:
            rows = self._there(role.rows, x, axis, call)
        if rows is not None and len(rows) == 0:
            return nothing_of(block, x, outputs(block))  # type: ignore[no-any-return]
        y = self._computed(x, rows, columns, call)
        return self._spread(y, made, rows, axis) if role.ends or self.spreads else y

    def _there(self, site: Site, x: Tensor, axis: int, call: SkippingCall) -> Tensor | None:
        """The channels of a site that ``x`` has, long; None for all. None where nothing is open: it holds zeros."""
        if x.shape[axis] == self.inputs and any(call.trace[site.name].whole or ()):
            return None
        return call.channels_of(site, self.inputs)

    def _computed(self, x: Tensor, rows: Tensor | None, columns: Tensor | None, call: SkippingCall) -> Tensor:
        """What the layer gives of some rows or of all, whichever is faster."""
        role, block = self.role, self.block
        if self.maker is not None and self.maker in call.folding:
            call.folding.discard(self.maker)
            return x  # done already
        if not (isinstance(block, (nn.Conv2d, nn.Linear)) and _is_plain(block)):
            both = ((role.rows, rows), (role.columns, columns))
            return self.compute(x, *(None if s is None or i is None else call.trace[s.name].whole for s, i in both))
        folded = self._folded(call)
        if columns is not None and len(columns) == 0:
            return folded(x, rows, columns)
        chosen = way(folded, x, rows, columns, call.prices)
        if columns is not None and not chosen.columns:
            x, columns = placed(x, columns, self.inputs, channel_axis(block, x)), None
        return folded(x, rows if chosen.rows or not role.makes else None, columns, chosen.unfold)

    def _spread(self, y: Tensor, made: Decision, rows: Tensor | None, axis: int) -> Tensor:
        """Where it ends or spreads its channels: all in their places, closed ones zero."""
        block: Any = self.block
        if y.shape[axis] == width(block, 0):
            rows = None
        if self.role.ends and rows is None:
            y = _masked(y, made, axis)
        if self.spreads:
            places = block.spread_places
            return block.widen(y, places if rows is None else places.index_select(0, rows))  # type: ignore[no-any-return]
        return y if rows is None else placed(y, rows, width(block, 0), axis)

    def _folded(self, call: SkippingCall) -> Folded:
        """This layer with the norm behind it, kept until they change."""
        folded = call.folded.get(self)
        if folded is None:
            norm = self.norm.block if self.norm is not None and self.folds() else None
            if self.kept is None or not self.kept.holds(self.block, norm):
                self.kept = Folded(self.block, norm)
            folded = call.folded[self] = self.kept
            call.met.append(self)
        if folded.norm is not None:
            call.folding.add(self)
        return folded

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
        known = is_torchs(other) and not acts(other)
        return known and not hooked and not other.training and other._buffers.get("running_mean") is not None


def _masked(x: Tensor, made: Decision, axis: int) -> Tensor:
    """All channels, closed ones zero."""
    return x if is_full(made) else x * spread(made.z, x, axis)


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes as torch's own classes do, with weights of its own."""
    if any(name not in layer._parameters for name in ("weight", "bias")):
        return False  # pruned, normalised or parametrised
    return is_torchs(layer) and getattr(layer, "padding_mode", "zeros") == "zeros"


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
