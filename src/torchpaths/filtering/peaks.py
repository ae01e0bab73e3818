"""What a filter sees: the images for which its response is largest, and where (network decoupling, section 4.3,
figure 6). The paper finds these places as Zhou et al. do ("Object detectors emerge in deep scene CNNs", 2015); here
they are the pixels that can change the response at all.

An image's response is the largest of a filter's responses in all places, see `torchpaths.filtering.maps`, and only
images that open the filter are looked at: for the others it gives nothing to the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.errors import DataError, PathError
from torchpaths.filtering.maps import watched
from torchpaths.filtering.sites import Batches, came, chosen, passes
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
    count = len(which)
    best = _Best(
        torch.full((count, 0), -torch.inf), *(torch.zeros(count, 0, dtype=torch.long) for _ in range(3))
    )  # fmt: skip
    opened = torch.zeros(count, dtype=torch.long)
    maps: dict[str, Tensor] = {}
    seen = 0
    with watched(net, {site: units}, maps):
        for _, labels, _, trace in passes(net, loader, progress=progress):
            if site in trace:
                here = (trace[site].open & came(trace[site])[:, None])[:, which].cpu()
                values, places = maps[site][:, which].float().cpu().max(2)
                values = torch.where(here, values, -torch.inf)
                images = torch.arange(seen, seen + len(labels)).expand(count, -1)
                best = best.joined(_Best(values.T, places.T, images, labels.expand(count, -1)), top)
                opened += here.sum(0)
            seen += len(labels)
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
