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
from torchpaths.places.channels.layer import Layer
from torchpaths.places.channels.weights import channel_axis
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
            layer, before = _where(net, name)
            keep = _keep(maps, name, layer, units)
            if before:
                handles.append(layer.register_forward_pre_hook(lambda _, args, keep=keep: keep(args[0])))
            else:
                handles.append(layer.register_forward_hook(lambda _, args, y, keep=keep: keep(y)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _keep(maps: dict[str, Tensor], name: str, layer: nn.Module, units: int) -> Callable[[Tensor], None]:
    def keep(y: Tensor) -> None:
        flat = y.detach().movedim(channel_axis(layer, y), 1).reshape(len(y), y.shape[channel_axis(layer, y)], -1)
        maps[name] = flat.reshape(len(y), units, -1, flat.shape[2]).mean(2)

    return keep


def _where(net: Routed, site: str) -> tuple[Any, bool]:
    """A layer's module, and whether responses are its input (True) or its output."""
    own: list[tuple[Any, Layer]] = [
        (junction, junction._place) for _, junction in junctions(net.model) if isinstance(junction._place, Layer)
    ]
    rows = [(j, p) for j, p in own if p.role.rows is not None and p.role.rows.name == site]
    for junction, place in rows:
        if place.role.ends:
            return junction, False
    for junction, place in own:
        columns = place.role.columns
        if columns is not None and columns.name == site and not place.role.by_open:
            flat = isinstance(place.block, nn.Linear) and not isinstance(rows[0][1].block, nn.Linear) if rows else False
            if not flat:
                return junction, True
    aligned = [(j, p) for j, p in rows if not p.role.makes] or rows
    if not aligned:
        raise RouteError(f"nothing in {net.layout.network} computes the filters of {site!r}; route the model anew.")
    return aligned[-1][0], False
