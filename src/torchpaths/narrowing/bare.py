"""A routed network's model without junctions, in which layers lack the filters that are removed.

Everything else stands as it was, under its old names, closed or not: unlike a network that is cut along a path this one
is to be routed again.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from torchpaths.junction import Junction, junctions
from torchpaths.narrowing.left import Left
from torchpaths.places.channels.layer import Layer
from torchpaths.places.channels.weights import numbers, width
from torchpaths.routed import Routed


def bare(net: Routed, left: Mapping[str, Left]) -> nn.Module:
    """A model of its own, with copies of the weights that are left.

    Args:
        net: is not changed.
        left: what is left of its sites; sites that are not named keep everything.
    """
    tensors = itertools.chain(net.model.parameters(), net.model.buffers())
    shared: Iterable[Any] = itertools.chain(tensors, net.sites.values())
    tree = copy.deepcopy(net.model, {id(part): part for part in shared})
    return copy.deepcopy(without(tree, left))


def without(module: nn.Module, left: Mapping[str, Left]) -> nn.Module:
    """A module or junction with all junctions in it taken away, its layers narrowed; the module itself is changed, its
    weights are not."""
    while isinstance(module, Junction):
        place = module._place
        if isinstance(place, Layer) and any(site.name in left for site in place.sites):
            opened = {s.name: left[s.name].kept if s.name in left else (True,) * len(s.units) for s in place.sites}
            module = place.cut(opened)
        else:
            module = place.block
    for name, child in module._modules.items():
        if child is not None:
            module._modules[name] = without(child, left)
    return module


Numbers = tuple[list[int] | None, list[int] | None]
"""The rows and the columns of a layer that are left; None for all."""


def kept_numbers(net: Routed, left: Mapping[str, Left]) -> dict[str, Numbers]:
    """Which rows and columns are left of the layers of a network that lose some; layers by their names in the model."""
    found: dict[str, Numbers] = {}
    for name, junction in junctions(net.model):
        place = junction._place
        if isinstance(place, Layer):
            sites = place.role.rows, place.role.columns
            rows, columns = (
                None
                if site is None or site.name not in left
                else numbers(left[site.name].kept, width(place.block, axis))
                for axis, site in enumerate(sites)
            )
            if rows is not None or columns is not None:
                found[name] = rows, columns
    return found
