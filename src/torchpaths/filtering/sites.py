"""One pass over images for all analyses of filters: which sites there are, what came of each image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor

from torchpaths.costs import evaluating
from torchpaths.errors import DataError, PathError, RouteError, near
from torchpaths.inputs import device_of
from torchpaths.layout import HasLayout
from torchpaths.routed import Routed
from torchpaths.surveys.checks import batches, check_logits, class_numbers
from torchpaths.trace import Decision, Trace

KIND = "filters"
"""The kind of the sites looked at, see `torchpaths.layout.Unit.kind`."""

Batches: TypeAlias = Iterable[tuple[Tensor, Any]]
"""Images and their class numbers, batch by batch."""

Pass: TypeAlias = tuple[Tensor, Tensor, Tensor, Trace]
"""One batch: images, labels long ``[B]``, scores ``[B, class]``, what happened."""


def filter_sites(net: HasLayout) -> dict[str, int]:
    """The sites of filters in order of execution, and how many filters each has.

    Args:
        net: a routed network, or anything else with a layout, such as a survey.

    Raises:
        RouteError: if there are none.
    """
    found = {name: len(units) for name, units in net.layout.sites.items() if units[0].kind == KIND}
    if not found:
        raise RouteError(
            f"{net.layout.network or 'this network'} has no site of filters, so there is nothing to see of them; route "
            "it with GatedFilters, tp.route(model, tp.GatedFilters(), example=x), or train it with --method "
            "GatedFilters."
        )
    return found


def chosen(net: HasLayout, sites: Iterable[str] | None) -> dict[str, int]:
    """As `filter_sites`, of some sites, in order of execution.

    Args:
        net: see there.
        sites: names; None for all.

    Raises:
        RouteError: as `filter_sites`.
        PathError: for a name that is no site of filters.
    """
    known = filter_sites(net)
    if sites is None:
        return known
    asked = list(sites)
    for name in asked:
        if name not in known:
            raise PathError(f"{name!r} is no site of filters. {near(name, known)}")
    return {name: units for name, units in known.items() if name in asked}


def came(decision: Decision) -> Tensor:
    """Which images came to a site that ran, bool ``[B]``, on the decision's device."""
    if decision.ran is None:
        return torch.ones(len(decision.open), dtype=torch.bool, device=decision.open.device)
    return decision.ran


def passes(net: Routed, loader: Batches, *, progress: str | None = None) -> Iterator[Pass]:
    """Run a network over images, in evaluation and without gradients; its training modes are put back after the last
    batch, also after an exception.

    Args:
        net: a routed network in any mode.
        loader: labelled batches.
        progress: name of a progress bar on the standard error stream; None for none.

    Raises:
        DataError: for no images, or labels that are no classes of the network.
        RunError: for scores that are not finite.
    """
    device = device_of(net)
    empty = True
    for number, (x, y) in enumerate(batches(loader, progress)):
        # Entered for each batch, so that whoever stops early leaves nothing behind.
        with evaluating(net), torch.no_grad():
            logits, trace = net(x.to(device, non_blocking=True))
        check_logits(logits, len(x), number)
        labels = torch.from_numpy(class_numbers(y, len(x), logits.shape[1], number))
        empty = False
        yield x, labels, logits, trace
    if empty:
        raise no_images()


def no_images() -> DataError:
    """What to say of a loader that gave nothing."""
    return DataError("the loader gave no images to see filters with; check the split, its folder and drop_last.")
