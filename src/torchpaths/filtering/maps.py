"""Responses of a layer's filters in every place of an image: where a network computes them, and how to watch.

A filter's response is what it gives before any is closed, where the network pools it as ``y`` (network decoupling,
section 3.2): at the input of the layer that mixes the channels, behind norm and ReLU, or, where channels end before a
sum, at the output of the last layer that has an entry for each. Before a linear layer nothing is left of places; there
it is the last layer before with an entry for each channel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from torchpaths.errors import RouteError
from torchpaths.junction import junctions
from torchpaths.models.spread import is_spread
from torchpaths.places.channels.layer import Layer
from torchpaths.places.channels.weights import channel_axis, width
from torchpaths.routed import Routed


@contextmanager
def watched(net: Routed, sites: Mapping[str, int], maps: dict[str, Tensor]) -> Iterator[None]:
    """While it is open, every forward pass writes the responses of some layers down.

    Args:
        net: the network.
        sites: names of layers, and how many filters each has.
        maps: is filled: site -> ``[image, unit, place]``, places in the order of rows, then columns; a unit of several
            channels has their mean.

    Raises:
        RouteError: for a layer whose responses cannot be watched.
    """
    handles = []
    try:
        for name, units in sites.items():
            module, place, before = _where(net, name)
            keep = _keep(maps, name, place.block, units)
            if before:
                handles.append(module.register_forward_pre_hook(lambda _, args, keep=keep: keep(args[0])))
            else:
                handles.append(module.register_forward_hook(lambda _, args, y, keep=keep: keep(y)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep(maps: dict[str, Tensor], name: str, layer: nn.Module, units: int) -> Callable[[Tensor], None]:
    def keep(y: Tensor) -> None:
        y = y.detach().movedim(channel_axis(layer, y), 1)
        if is_spread(layer) and y.shape[1] != width(layer, 0):  # what is left of a layer, among zeros
            y = y.index_select(1, layer.spread_places)  # type: ignore[arg-type]
        maps[name] = y.reshape(len(y), units, y.shape[1] // units, -1).mean(2)

    return keep


def _where(net: Routed, site: str) -> tuple[Any, Layer, bool]:
    """A layer's module and place, and whether responses are its input (True) or its output."""
    own: list[tuple[Any, Layer]] = [
        (junction, junction._place) for _, junction in junctions(net.model) if isinstance(junction._place, Layer)
    ]
    giving = [(j, p) for j, p in own if p.role.rows is not None and p.role.rows.name == site]
    mixing = [
        (j, p) for j, p in own if p.role.columns is not None and p.role.columns.name == site and not p.role.by_open
    ]
    if not giving:
        raise RouteError(f"nothing in {net.layout.network} computes the filters of {site!r}; route the model anew.")
    ending = next((found for found in giving if found[1].role.ends), None)
    if ending is not None:
        return *ending, False
    flattened = bool(mixing) and _linear(mixing[0][1]) and not _linear(giving[0][1])
    if mixing and not flattened:
        return *mixing[0], True
    entries = [(j, p) for j, p in giving if not p.role.makes] or giving
    return *entries[-1], False


def _linear(place: Layer) -> bool:
    return isinstance(place.block, nn.Linear)
