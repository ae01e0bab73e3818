"""``Plan``: one module to be replaced by a junction, and what its sites cost. Data; routing does the swapping."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from torchpaths.junction import Place
from torchpaths.places.covers import Cover
from torchpaths.trace import Site


@dataclass(frozen=True)
class Plan:
    """One module to be replaced by a junction.

    Attributes:
        module: dotted name of the module.
        sites: the sites its place obeys.
        build: makes the place from the module as it stands at the moment of swapping: places may stand in one another.
        covers: what of the network runs only with units of these sites.
        level: where several places are about one module, those of a higher level are around the others: 0 for layers
            that leave channels out, 1 for blocks taken apart, 2 for modules that run as they are or not at all.
        reference: where the place changes what the module computes, another module of it that computes the same in the
            plainest way; None: with everything open the place computes what the module does, bit for bit.
    """

    module: str
    sites: tuple[Site, ...]
    build: Callable[[nn.Module], Place]
    covers: tuple[Cover, ...] = ()
    level: int = 0
    reference: Callable[[nn.Module], nn.Module] | None = None
