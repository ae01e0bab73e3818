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
        skip: the paper's notation, a letter for each unit of the path in order: T where it is closed, F where it is
            open.
        path: the path; units that gates decide stand in none.
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
        net: a network whose units are chosen from outside; gates it may have beside them go on deciding.
        loader: labelled batches.
        progress: show it on the standard error stream.

    Raises:
        PathError: for more depths than can all be tried; `torchpaths.front` searches among them.
        DataError: for no images, or labels that are no class numbers.
    """
    gates = [name for name, site in net.sites.items() if site.decider is not None and site.decider.by_score]
    outside = [unit for unit in net.layout.units if unit.site not in gates]
    units = outside or net.layout.units
    if 2 ** len(units) > EVERY:
        raise PathError(
            f"{len(units)} units make 2^{len(units)} depths, too many to try all; torchpaths.front(net, loader) "
            "searches among them."
        )
    choices = every(net.layout, units, 0.0 if gates and outside else None)
    fast = skipping(net)
    with undisturbed(fast):
        worths = evaluate(fast, choices, loader, "depths" if progress else None)
    found = []
    for worth in worths:
        path = worth.point.path
        assert path is not None
        letters = "".join("F" if opened else "T" for site in net.sites if site in path for opened in path[site])
        found.append(Depth(letters, path, worth.point.accuracy, worth.point.macs))
    return tuple(sorted(found, key=lambda depth: (-depth.macs, depth.skip)))
