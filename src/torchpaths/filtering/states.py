"""States of filters: active, silent or dynamic (network decoupling, section 4.3, figure 3).

A filter is active if it is open for every image, silent if for none, dynamic otherwise. Only images that came to the
layer count: a block around it that was closed says nothing about its filters. Silent filters can be taken out of the
network without changing what it answers for these images (section 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchpaths.errors import DataError
from torchpaths.filtering.sites import Batches, came, filter_sites, passes
from torchpaths.routed import Routed
from torchpaths.schema import Count, convert, reading
from torchpaths.surveys import Survey

STATES = ("active", "dynamic", "silent")


@dataclass(frozen=True, eq=False)
class FilterStates:
    """How often each filter was open, and what follows from it. Sites in order of execution.

    A layer to which no image came has no active, silent or dynamic filters: nothing is known of them.

    Attributes:
        opened: site -> for how many images each filter was open, long ``[unit]``, on the CPU.
        came: site -> how many images came to it.
    """

    opened: dict[str, Tensor]
    came: dict[str, int]

    def __post_init__(self) -> None:
        if self.opened.keys() != self.came.keys():
            raise DataError("opened and came name different sites; count both for every site.")

    @property
    def silent(self) -> dict[str, Tensor]:
        """Site -> which filters were open for no image that came, bool ``[unit]``."""
        return {name: (n == 0) & (self.came[name] > 0) for name, n in self.opened.items()}

    @property
    def active(self) -> dict[str, Tensor]:
        """Site -> which filters were open for every image that came, bool ``[unit]``."""
        return {name: (n == self.came[name]) & (self.came[name] > 0) for name, n in self.opened.items()}

    @property
    def dynamic(self) -> dict[str, Tensor]:
        """Site -> which filters were open for some images that came and not for others, bool ``[unit]``."""
        return {name: (n > 0) & (n < self.came[name]) for name, n in self.opened.items()}

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Site -> state -> how many filters; all 0 where no image came."""
        masks: dict[str, Mapping[str, Tensor]] = {state: getattr(self, state) for state in STATES}
        return {name: {state: int(masks[state][name].sum()) for state in STATES} for name in self.opened}

    @property
    def shares(self) -> dict[str, float]:
        """State -> its share of all filters to whose layer an image came, 0 to 1; NaN if there are none."""
        counts = self.counts
        known = sum(len(n) for name, n in self.opened.items() if self.came[name])
        return {s: sum(c[s] for c in counts.values()) / known if known else float("nan") for s in STATES}

    def to_json(self) -> dict[str, Any]:
        """Counts and shares, and of each filter for how many images it was open, as JSON values."""
        counts = self.counts
        sites = {
            name: {"came": self.came[name], **counts[name], "opened": opened.tolist()}
            for name, opened in self.opened.items()
        }
        return {"shares": {s: None if v != v else v for s, v in self.shares.items()}, "sites": sites}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FilterStates:
        """The inverse of `to_json`.

        Raises:
            DataError: if something is missing.
        """
        with reading("no states of filters", DataError, "write them anew"):
            sites: dict[str, _Site] = convert(data, _Written).sites
            return cls(
                {name: torch.tensor(site.opened, dtype=torch.long) for name, site in sites.items()},
                {name: site.came for name, site in sites.items()},
            )


@dataclass(frozen=True)
class _Site:
    came: Count
    opened: list[Count]


@dataclass(frozen=True)
class _Written:
    sites: dict[str, _Site]


def filter_states(
    source: Routed | Survey, loader: Batches | None = None, *, progress: str | None = None
) -> FilterStates:
    """For how many images each filter is open, counted in one pass or read off a survey. Nothing is kept of an image.

    Args:
        source: a network in any mode, or a survey of one.
        loader: labelled batches for the network; labels are not looked at but to be class numbers. None with a survey.
        progress: name of a progress bar on the standard error stream; None for none.

    Raises:
        RouteError: for a network without filters.
        DataError: for no images; a network without a loader; a survey that cannot say which images came to a layer.
        RunError: for scores that are not finite.
    """
    sites = filter_sites(source)
    if isinstance(source, Survey):
        return _of_survey(source, sites)
    if loader is None:
        raise DataError("a network by itself opens nothing; give a loader of images too, filter_states(net, loader).")
    opened = {name: torch.zeros(units, dtype=torch.long) for name, units in sites.items()}
    counts = dict.fromkeys(sites, 0)
    for _, _, _, trace in passes(source, loader, progress=progress):
        for name in sites:
            if name in trace:  # else nobody came
                opened[name] += trace[name].open.sum(0).cpu()
                counts[name] += int(came(trace[name]).sum())
    return FilterStates(opened, counts)


def _of_survey(survey: Survey, sites: Mapping[str, int]) -> FilterStates:
    by_class = opened_by_class(survey)
    arrived = came_by_class(survey)
    return FilterStates(
        {name: torch.from_numpy(by_class[name].sum(0)) for name in sites},
        {name: int(arrived[name].sum()) for name in sites},
    )


def opened_by_class(survey: Survey) -> dict[str, Any]:
    """Site of filters -> images of each class that opened each filter, int64 ``[class, unit]``."""
    numbers = {(unit.site, unit.index): i for i, unit in enumerate(survey.layout.units)}
    return {
        name: survey.opened[:, numbers[name, 0] : numbers[name, 0] + units]
        for name, units in filter_sites(survey).items()
    }


def came_by_class(survey: Survey) -> dict[str, Any]:
    """Site of filters -> images of each class that came to it, int64 ``[class]``.

    What older versions wrote counts no arrivals, but what is around a layer has units too, open for those that come: of
    several around one another the innermost.

    Raises:
        DataError: where a layer lies inside several units that are not inside one another, and no paths were kept.
    """
    layout = survey.layout
    if survey.ran is not None:
        columns = {name: number for number, name in enumerate(layout.sites)}
        return {name: survey.ran[:, columns[name]].copy() for name in filter_sites(survey)}
    numbers = {(unit.site, unit.index): i for i, unit in enumerate(layout.units)}
    found = {}
    for name in filter_sites(survey):
        around = set(layout.inside.get(name, ()))
        inner = next((u for u in around if around - {u} <= set(layout.inside.get(u[0], ()))), None)
        if not around:
            found[name] = survey.images.copy()
        elif inner is not None:
            found[name] = survey.opened[:, numbers[inner]].copy()
        elif survey.samples is not None:
            opened = survey.samples.opened(len(layout.units))[:, [numbers[u] for u in around]].all(1)
            found[name] = np.bincount(survey.samples.labels[opened], minlength=len(survey.classes))
        else:
            raise DataError(
                f"{name} lies inside {', '.join(sorted(site for site, _ in around))}, and this survey does not say "
                "which images came through all of them; make it with keep_paths=True, or count from the network, "
                "filter_states(net, loader)."
            )
    return found
