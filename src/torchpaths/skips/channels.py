"""``SkippingLayer``: a layer that computes the filters a single image opens, from the channels that are open before it.

Rows and columns are taken from weights into which the norm behind a layer is folded once, so that nothing remains of
it. What that costs is mostly the copying of weights, which is why it is done in memory order: a convolution for
channels_last images keeps its weights as ``[N, pixels, C]``, of which rows are copied whole. For several images at once
see `torchpaths.skips.singly`.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.junction import junctions
from torchpaths.places.channels.layer import Layer, is_full, nothing_of
from torchpaths.places.channels.weights import biased, channel_axis, kind_of, outputs, width, zeros
from torchpaths.places.gradients import pool
from torchpaths.skips.call import SkippingCall
from torchpaths.trace import Site


class SkippingLayer(Layer):
    """See above.

    Attributes:
        norm: the place of the norm that is folded into this layer; None for none.
        maker: of a norm: the place of the layer into which it is folded; None where it stands for itself.
    """

    norm: SkippingLayer | None = None
    maker: SkippingLayer | None = None

    def __init__(self, place: Layer) -> None:
        """
        Args:
            place: taken over: block, role and sites.
        """
        self.__dict__.update(place.__dict__)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": None}

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See `Layer.run`."""
        call = self.slot.local.call
        if not isinstance(call, SkippingCall) or call.batch != 1 or x.shape[0] != 1:
            return super().run(x, *args, **kwargs)
        role, trace = self.role, call.trace
        if role.rows is not None and role.rows.name not in trace:
            x, _ = call.decide(role.rows, x, partial(self._means, call=call))
        if any(trace[site.name].whole is None for site in self.sites):
            return super().run(x, *args, **kwargs)  # scaled, not chosen
        rows, columns = self._open(role.rows, 0, call), self._open(role.columns, 1, call)
        if rows is not None and len(rows) == 0:
            return nothing_of(self.block, x, outputs(self.block))  # type: ignore[no-any-return]
        block: Any = self.block
        if self.maker is not None and self.maker.folds():
            y = x  # done already
        elif isinstance(block, (nn.Conv2d, nn.Linear)) and _is_plain(block):
            y = self._narrow(x, rows, columns)
        else:
            both = ((role.rows, rows), (role.columns, columns))
            y = self.compute(x, *(None if s is None or i is None else trace[s.name].whole for s, i in both))
        if self.spreads:
            places = block.spread_places
            return block.widen(y, places if rows is None else places.index_select(0, rows))  # type: ignore[no-any-return]
        if not role.ends or rows is None:
            return y
        axis = channel_axis(block, y)
        shape = (*y.shape[:axis], width(block, 0), *y.shape[axis + 1 :])
        return y.new_zeros(shape).index_copy_(axis, rows, y)

    def _open(self, site: Site | None, axis: int, call: SkippingCall) -> Tensor | None:
        """The open channels of a site, long; None for all."""
        if site is None or is_full(call.trace[site.name]):
            return None
        channels = width(self.block, axis)
        key = site.name, channels
        if key not in call.channels:
            units = call.trace[site.name].open[0].nonzero().view(-1)
            each = channels // len(site.units)
            steps = torch.arange(each, device=units.device)
            call.channels[key] = units if each == 1 else (units.unsqueeze(1) * each + steps).view(-1)
        return call.channels[key]

    def _means(self, x: Tensor, call: SkippingCall) -> tuple[Tensor, Tensor]:
        """``x`` and the mean of every channel over pixels or tokens, 0 for those that are missing."""
        axis = channel_axis(self.block, x)
        others = tuple(i for i in range(1, x.dim()) if i != axis)
        features = pool(x, others)[1] if others else x.float()
        count = width(self.block, 1)
        if features.shape[1] == count:
            return x, features
        columns = self._open(self.role.columns, 1, call)
        assert columns is not None
        return x, features.new_zeros(1, count).index_copy_(1, columns, features)

    def folds(self) -> bool:
        """Whether the norm behind is computed here: nobody looks at what lies between."""
        norm = self.norm
        if norm is None or not _is_plain(self.block):
            return False
        own, other = self.block, norm.block
        hooked = own._forward_hooks or own._forward_pre_hooks or other._forward_hooks or other._forward_pre_hooks
        known = kind_of(other).forward in (nn.BatchNorm2d.forward, nn.BatchNorm1d.forward)
        return known and not hooked and not other.training and other._buffers.get("running_mean") is not None

    def _folded(self, last: bool) -> tuple[Tensor, Tensor | None]:
        """Weights, in memory order if channels lie ``last``, and biases, the norm in both. Kept until they change."""
        layer: Any = self.block
        norm: Any = self.norm.block if self.norm is not None and self.folds() else None
        of = [layer.weight, layer.bias]
        if norm is not None:
            of += [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        seen = [(t.data_ptr(), t._version) for t in of if t is not None]
        kept = self.kept
        if kept is not None and kept[0] == seen and kept[1] == last:
            return kept[2], kept[3]
        with torch.no_grad():
            weight, bias = layer.weight, layer.bias
            if norm is not None:
                scale = torch.rsqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
                weight = weight * scale.view(-1, *(1,) * (weight.dim() - 1))
                bias = -norm.running_mean if bias is None else bias - norm.running_mean
                bias = bias * scale if norm.bias is None else bias * scale + norm.bias
            if last and weight.dim() == 4:
                weight = weight.permute(0, 2, 3, 1).contiguous()
        # What is kept refers to the tensors it was made of, so that no others can come to lie in their memory.
        self.kept = seen, last, weight, bias, of
        return weight, bias

    def _narrow(self, x: Tensor, rows: Tensor | None, columns: Tensor | None) -> Tensor:
        """What the layer, and the norm behind it, give with some rows and columns."""
        layer: Any = self.block
        count = width(layer, 0)
        last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        weight, bias = self._folded(last and isinstance(layer, nn.Conv2d))
        bias = bias if rows is None or bias is None else bias.index_select(0, rows)
        if columns is not None and len(columns) == 0:
            return biased(layer, zeros(layer, x, count if rows is None else len(rows)), bias)  # type: ignore[no-any-return]
        weight = weight if rows is None else weight.index_select(0, rows)
        if isinstance(layer, nn.Linear):
            return functional.linear(x, weight if columns is None else weight.index_select(1, columns), bias)
        if last:
            n, height, breadth, channels = weight.shape
            if columns is not None:
                flat = weight.view(-1, channels)
                weight = torch.gather(flat, 1, columns.expand(len(flat), -1)).view(n, height, breadth, -1)
            weight = weight.permute(0, 3, 1, 2)
        elif columns is not None:
            weight = weight.index_select(1, columns)
        groups = layer.groups if rows is None or layer.groups == 1 else layer.groups * len(rows) // layer.out_channels
        return functional.conv2d(x, weight, bias, layer.stride, layer.padding, layer.dilation, groups)


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer computes as torch's own classes do."""
    if isinstance(layer, nn.Conv2d):
        return bool(kind_of(layer).forward is nn.Conv2d.forward and layer.padding_mode == "zeros")
    return bool(kind_of(layer).forward is nn.Linear.forward)


def skip_channels(model: nn.Module) -> None:
    """Put a `SkippingLayer` in the place of every layer that leaves channels out; norms that stand alone are folded."""
    found: dict[str, SkippingLayer] = {}
    stand = Counter(name for name, _ in junctions(model))
    for name, junction in junctions(model):
        if type(junction._place) is Layer:
            made = found[name] = SkippingLayer(junction._place)
            junction.__dict__["_place"] = made
    followers = Counter(norm.role.behind for norm in found.values())  # two where norms are doubled
    for norm_name, norm in found.items():
        maker = found.get(norm.role.behind)
        if maker is not None and stand[norm_name] == stand[norm.role.behind] == followers[norm.role.behind] == 1:
            norm.maker, maker.norm = maker, norm
