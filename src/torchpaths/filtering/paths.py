"""Calculation paths: which filters open for a class and for an image (network decoupling, section 4.3, figures 4, 9).

The path of a class is the share of its images that open each filter; that of an image is what it opens. Only images
that came to a layer count there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.costs import evaluating
from torchpaths.errors import DataError
from torchpaths.filtering.sites import Batches, came, filter_sites, passes
from torchpaths.filtering.states import FilterStates, came_by_class, opened_by_class
from torchpaths.inputs import device_of
from torchpaths.routed import Routed
from torchpaths.surveys import Survey

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassPaths:
    """What the images of each class open. Sites in order of execution.

    Attributes:
        opened: site -> how many images of each class open each filter, ``[class, unit]``.
        came: site -> how many images of each class came to it, ``[class]``.
    """

    opened: dict[str, Ints]
    came: dict[str, Ints]

    @property
    def shares(self) -> dict[str, Floats]:
        """Site -> share of a class's images, of those that came, that open a filter, ``[class, unit]``, 0 to 1; NaN for
        a class of which none came."""
        with np.errstate(invalid="ignore"):
            return {name: np.asarray(n / self.came[name][:, None], np.float64) for name, n in self.opened.items()}

    @property
    def open_filters(self) -> dict[str, Floats]:
        """Site -> how many filters an image of each class opens, the mean over those that came, ``[class]``: how thick
        its path is."""
        return {name: share.sum(1) for name, share in self.shares.items()}

    @property
    def states(self) -> FilterStates:
        """Of all classes together."""
        return FilterStates(
            {name: torch.from_numpy(n.sum(0)) for name, n in self.opened.items()},
            {name: int(n.sum()) for name, n in self.came.items()},
        )


@dataclass(frozen=True, eq=False)
class ImagePaths:
    """What single images open.

    Attributes:
        opened: site -> ``[image, unit]``.
        came: site -> which images came to it, ``[image]``.
        predicted: the class of each image's highest score, ``[image]``.
    """

    opened: dict[str, NDArray[np.bool_]]
    came: dict[str, NDArray[np.bool_]]
    predicted: Ints


def class_paths(source: Routed | Survey, loader: Batches | None = None, *, progress: str | None = None) -> ClassPaths:
    """The path of every class, counted in one pass or read off a survey. Nothing is kept of an image.

    Args:
        source: a network in any mode, or a survey of one.
        loader: labelled batches for the network; None with a survey.
        progress: name of a progress bar on the standard error stream; None for none.

    Raises:
        RouteError: for a network without filters.
        DataError: for no images, labels that are no classes, a network without a loader; a survey that cannot say
            which images came to a layer.
        RunError: for scores that are not finite.
    """
    sites = filter_sites(source)
    if isinstance(source, Survey):
        return ClassPaths(opened_by_class(source), came_by_class(source))
    if loader is None:
        raise DataError("a network by itself opens nothing; give a loader of images too, class_paths(net, loader).")
    opened: dict[str, Ints] = {}
    arrived: dict[str, Ints] = {}
    for _, labels, logits, trace in passes(source, loader, progress=progress):
        classes = logits.shape[1]
        if not opened:
            opened = {name: np.zeros((classes, units), np.int64) for name, units in sites.items()}
            arrived = {name: np.zeros(classes, np.int64) for name in sites}
        members = torch.nn.functional.one_hot(labels, classes).double()
        for name in sites:
            if name in trace:  # else nobody came
                # Products of zeros and ones in double precision: sums are exact.
                opened[name] += (members.T @ trace[name].open.cpu().double()).long().numpy()
                arrived[name] += (members.T @ came(trace[name]).cpu().double()).long().numpy()
    return ClassPaths(opened, arrived)


def image_paths(net: Routed, x: Tensor) -> ImagePaths:
    """The paths of some images.

    Args:
        net: a network in any mode.
        x: a batch of images.

    Raises:
        RouteError: for a network without filters.
    """
    sites = filter_sites(net)
    with evaluating(net), torch.no_grad():
        logits, trace = net(x.to(device_of(net)))
    none: dict[str, Any] = {
        name: (np.zeros((len(x), units), bool), np.zeros(len(x), bool)) for name, units in sites.items()
    }
    found = {
        name: (trace[name].open.cpu().numpy(), came(trace[name]).cpu().numpy()) if name in trace else none[name]
        for name in sites
    }
    return ImagePaths(
        {name: opened for name, (opened, _) in found.items()},
        {name: arrived for name, (_, arrived) in found.items()},
        logits.argmax(1).cpu().numpy(),
    )
