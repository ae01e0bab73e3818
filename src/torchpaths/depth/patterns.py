"""Accuracy and MACs of every way to leave stages out (AdaptiveDepth, figure 3a)."""

from __future__ import annotations

from dataclasses import dataclass

from torchpaths.errors import PathError
from torchpaths.fronts.candidates import EVERY, every
from torchpaths.fronts.evaluate import Images, evaluate, undisturbed
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.skips.network import skipping


@dataclass(frozen=True)
class Depth:
    """One of the depths.

    Attributes:
        skip: the paper's notation, a letter for each site in order: T where it is closed, F where it is open.
        path: the path.
        accuracy: share of the images classified rightly (top-1), in 0 to 1.
        macs: of one image.
    """

    skip: str
    path: Path
    accuracy: float
    macs: float


def depths(net: Routed, loader: Images, progress: bool = False) -> tuple[Depth, ...]:
    """Accuracy and MACs of every depth, in one pass over the images; in order of MACs, the whole network first.

    Args:
        net: a network whose units are chosen from outside.
        loader: labelled batches.
        progress: show it on the standard error stream.

    Raises:
        PathError: for more depths than can all be tried; `torchpaths.front` searches among them.
        DataError: for no images, or labels that are no class numbers.
    """
    units = net.layout.units
    if 2 ** len(units) > EVERY:
        raise PathError(
            f"{len(units)} units make 2^{len(units)} depths, too many to try all; torchpaths.front(net, loader) "
            "searches among them."
        )
    choices = every(net.layout, units, None)
    fast = skipping(net)
    with undisturbed(fast):
        worths = evaluate(fast, choices, loader, "depths" if progress else None)
    found = []
    for worth in worths:
        path = worth.point.path
        assert path is not None
        letters = "".join("F" if opened else "T" for site in net.sites for opened in path[site])
        found.append(Depth(letters, path, worth.point.accuracy, worth.point.macs))
    return tuple(sorted(found, key=lambda depth: (-depth.macs, depth.skip)))
