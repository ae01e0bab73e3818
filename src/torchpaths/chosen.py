"""What verbs take where a path stands: a ``Path``, or a point of a front, which is a path, or a threshold at which
deciders open, or both."""

from __future__ import annotations

import itertools
from typing import Protocol, TypeVar

from torchpaths.copies import copied
from torchpaths.errors import PathError
from torchpaths.path import Path
from torchpaths.routed import Routed

Network = TypeVar("Network", bound=Routed)


class OperatingPoint(Protocol):
    """A point of a front as far as it says how to run a network, see `torchpaths.fronts.Choice`."""

    @property
    def path(self) -> Path | None: ...
    @property
    def threshold(self) -> float | None: ...


def fixed_path(choice: Path | OperatingPoint) -> Path:
    """The one path for all images that a choice is.

    Raises:
        PathError: if deciders have a say.
    """
    if isinstance(choice, Path):
        return choice
    if choice.path is None or choice.threshold is not None:
        raise PathError(
            f"at this point gates decide, at threshold {choice.threshold:.3g}, so it is no single path; choose one "
            "that is, front.best(budget, fixed=True), or take a verb that lets gates decide: export, measure."
        )
    return choice.path


def set_up(net: Network, choice: Path | OperatingPoint | None) -> tuple[Network, Path | None]:
    """A network set up for a choice, and the path to call it with.

    Args:
        net: a routed network; it is not changed.
        choice: see above.

    Returns:
        ``net``, or where deciders are to open at another threshold a copy that shares its weights.

    Raises:
        PathError: for a threshold, where no decider goes by a score.
    """
    if choice is None or isinstance(choice, Path):
        return net, choice
    if choice.threshold is None:
        return net, choice.path
    made = copied(net, itertools.chain(net.parameters(), net.buffers()))
    scored = [site.decider for site in made.sites.values() if site.decider is not None and site.decider.by_score]
    if not scored:
        raise PathError(f"no decider of this {net.layout.network} goes by a score, so none opens at a threshold.")
    for decider in scored:
        decider.threshold = choice.threshold
    return made, choice.path
