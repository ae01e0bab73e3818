"""What a filter sees: the images for which its response is largest, and where (network decoupling, section 4.3,
figure 6). The paper finds these places as Zhou et al. do ("Object detectors emerge in deep scene CNNs", 2015); here
they are the pixels that can change the response at all.

An image's response is the largest of a filter's responses in all places, see `torchpaths.filtering.maps`, and only
images that open the filter are looked at: for the others it gives nothing to the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.errors import DataError, PathError
from torchpaths.filtering.maps import watched
from torchpaths.filtering.sites import Batches, came, chosen, filter_sites, passes
from torchpaths.routed import Routed


@dataclass(frozen=True, eq=False)
class Peaks:
    """The images of the largest responses of some filters of one layer, largest first.

    Attributes:
        site: the layer.
        filters: their numbers, ``[filter]``.
        images: int64 ``[filter, top]``, numbers in the loader's order; -1 where fewer images open the filter.
        places: int64 ``[filter, top]``, where the response is, see `torchpaths.filtering.maps.watched`.
        values: float32 ``[filter, top]``, the responses; NaN where there is no image.
        labels: int64 ``[filter, top]``, the images' classes; -1 where there is no image.
        opened: how many images open each filter, ``[filter]``.
    """

    site: str
    filters: tuple[int, ...]
    images: NDArray[np.int64]
    places: NDArray[np.int64]
    values: NDArray[np.float32]
    labels: NDArray[np.int64]
    opened: NDArray[np.int64]


def peaks(
    net: Routed,
    loader: Batches,
    site: str,
    filters: Sequence[int] | None = None,
    *,
    top: int = 8,
    progress: str | None = None,
) -> Peaks:
    """Find the images, in one pass. Of equal responses the earlier image counts, and in it the earlier place.

    Args:
        net: a network in any mode.
        loader: labelled batches that do not come shuffled, for images to be found again.
        site: the layer.
        filters: numbers of its filters; None for all.
        top: images for each, all that is kept.
        progress: name of a progress bar on the standard error stream; None for none.

    Raises:
        RouteError: for a network without filters.
        PathError: for a layer or filters that there are not.
        DataError: for no images, labels that are no classes, or ``top`` below 1.
        RunError: for scores that are not finite.
    """
    units = chosen(net, [site])[site]
    which = list(range(units)) if filters is None else [int(f) for f in filters]
    wrong = [f for f in which if not 0 <= f < units]
    if wrong or not which:
        raise PathError(f"filters={filters!r}: {site!r} has filters 0 to {units - 1}; name some of them.")
    if top < 1:
        raise DataError(f"top={top}: at least one image.")
    [(best, opened)] = _search(net, loader, {site: which}, top, progress).values()
    missing = best.values.isneginf()
    return Peaks(
        site,
        tuple(which),
        best.images.masked_fill(missing, -1).numpy(),
        best.places.numpy(),
        best.values.masked_fill(missing, torch.nan).numpy(),
        best.labels.masked_fill(missing, -1).numpy(),
        opened.numpy(),
    )


def top_images(net: Routed, loader: Batches, *, top: int = 9) -> dict[int, tuple[int, ...]]:
    """For every filter of a network the images to which it responds most, in one pass.

    Args:
        net: a network in any mode.
        loader: labelled batches that do not come shuffled; small ones, whose responses are held at once.
        top: images for each filter at most.

    Returns:
        Number of a unit, in layout order -> numbers of images in the loader's order, largest response first; a filter
        that none of them opens is absent.

    Raises:
        RouteError: for a network without filters.
        DataError: for no images, labels that are no classes.
        RunError: for scores that are not finite.
    """
    starts, start = {}, 0
    for name, members in net.layout.sites.items():
        starts[name] = start
        start += len(members)
    every = {site: list(range(units)) for site, units in filter_sites(net).items()}
    found: dict[int, tuple[int, ...]] = {}
    for site, (best, _) in _search(net, loader, every, top, None).items():
        kept = ~best.values.isneginf()
        for number, (images, there) in enumerate(zip(best.images, kept, strict=True), starts[site]):
            if bool(there.any()):
                found[number] = tuple(images[there].tolist())
    return found


def _search(
    net: Routed, loader: Batches, sites: Mapping[str, list[int]], top: int, progress: str | None
) -> dict[str, tuple[_Best, Tensor]]:
    """Site -> the images of the largest responses of some of its filters, and how many open each."""
    best, opened = {}, {}
    for site, which in sites.items():
        nothing = (torch.zeros(len(which), 0, dtype=torch.long) for _ in range(3))
        best[site] = _Best(torch.full((len(which), 0), -torch.inf), *nothing)
        opened[site] = torch.zeros(len(which), dtype=torch.long)
    known = filter_sites(net)
    maps: dict[str, Tensor] = {}
    seen = 0
    with watched(net, {site: known[site] for site in sites}, maps):
        for _, labels, _, trace in passes(net, loader, progress=progress):
            images = torch.arange(seen, seen + len(labels))
            for site, which in sites.items():
                if site not in trace:
                    continue
                here = (trace[site].open & came(trace[site])[:, None])[:, which].cpu()
                values, places = maps[site][:, which].float().cpu().max(2)
                values = torch.where(here, values, -torch.inf)
                numbers, classes = images.expand(len(which), -1), labels.expand(len(which), -1)
                best[site] = best[site].joined(_Best(values.T, places.T, numbers, classes), top)
                opened[site] += here.sum(0)
            seen += len(labels)
    return {site: (best[site], opened[site]) for site in sites}


@dataclass(frozen=True)
class _Best:
    """``[filter, image]``, largest values first."""

    values: Tensor
    places: Tensor
    images: Tensor
    labels: Tensor

    def joined(self, other: _Best, top: int) -> _Best:
        own, others = vars(self).values(), vars(other).values()
        values, *rest = (torch.cat([a, b], 1) for a, b in zip(own, others, strict=True))
        values, order = torch.sort(values, dim=1, descending=True, stable=True)
        return _Best(values[:, :top], *(t.gather(1, order[:, :top]) for t in rest))
