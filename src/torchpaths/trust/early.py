"""What a coded network answers before its end: ``early_answers``, by the early decoder of one of its blocks (Coded
ResNeXt, section 4.4), from answers that hold all its energies.

The decoder's scores are minus the distances to the codewords. An image costs what ran until then; what it costs to go
on is the rest, since nothing must be computed again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from torchpaths.coding.decode import coded_sites, distances
from torchpaths.deciders.exit import Exit
from torchpaths.errors import CallError
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.skips.network import skipping
from torchpaths.trust.answers import Answers, Bools, Ints


@dataclass(frozen=True)
class Place:
    """A block behind which an image can be done.

    Attributes:
        site: the block.
        behind: MACs behind it that no unit closes, shortcuts and head.
    """

    site: str
    behind: int


def half_way(net: Routed, path: Path | None = None) -> Place | None:
    """The coded block at which the network has spent nearest to half of its MACs; None where nothing is coded, or no
    image can leave before the end (`torchpaths.skipping`), or a path chooses the branches.

    Args:
        net: a routed network.
        path: units chosen from outside.
    """
    coded = coded_sites(net)
    if len(coded) < 2 or (path is not None and set(coded) & set(path)):
        return None
    try:
        exits = skipping(net, exit=Exit(1, math.inf)).exits
    except CallError:
        return None
    assert exits is not None
    every = np.ones((1, len(net.layout.units)), bool)
    whole = float(net.layout.costs(every)[0, 0])
    places = [Place(site, int(behind)) for site, behind in exits.behind.items()]
    spent = [float(_until(net, every, place)[0]) for place in places[:-1]]  # the last block tells nothing early
    return None if not spent else places[int(np.argmin(np.abs(np.array(spent) - whole / 2)))]


def early_answers(seen: Answers, net: Routed, place: Place) -> Answers:
    """The answers of a block's decoder to images that ran through a whole coded network.

    Args:
        seen: of that network, its branches all open.
        net: the network.
        place: one of its coded blocks.

    Returns:
        Scores minus distance; of marks and units those until there; the MACs until there.
    """
    names = list(net.sites)
    until = set(names[: names.index(place.site) + 1])
    own = np.array([site == place.site for site in seen.sites])
    kept = np.array([site in until for site in seen.sites])
    energies = torch.from_numpy(seen.marks[:, own]).double()
    told = -distances(energies, coded_sites(net)[place.site].words.cpu())
    opened = seen.opened & np.array([unit.site in until for unit in net.layout.units])
    sites = tuple(site for site in seen.sites if site in until)
    macs = _until(net, seen.opened, place).astype(np.float64)
    return Answers(told.float().numpy(), seen.labels, seen.marks[:, kept], sites, seen.hard[kept], macs, opened)


def _until(net: Routed, opened: Bools, place: Place) -> Ints:
    """MACs of paths up to a block, and of telling nothing behind it, ``[image]``."""
    names = list(net.sites)
    before = np.array([names.index(unit.site) <= names.index(place.site) for unit in net.layout.units])
    return np.asarray(net.layout.costs(opened & before)[:, 0] - place.behind, np.int64)
