"""Where choices come from, one function for each source. What follows sees only choices.

* Units chosen from outside (nothing looks at the image to decide them): `every` sub-network where they are few, else
  `greedy`: units are closed one at a time, always the one that costs least accuracy for each MAC it saves.
* Units decided from the image by a score: `thresholds` moves the score above which gates open, from all shut to all
  open; `rates` gives up deciding and opens the units that gates open most often, for all images alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.errors import CallError
from torchpaths.fronts.evaluate import Images, Worth, evaluate
from torchpaths.fronts.points import Choice
from torchpaths.inputs import device_of
from torchpaths.layout import Layout, Unit
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.surveys.checks import opened_units

EVERY = 256
"""Up to so many sub-networks are all tried."""

SHORTLIST = 8
"""How many units are tried in each step of the greedy search: those that cost least when they were tried last."""

STEPS = 16
"""Thresholds besides the trained one; and paths in order of rates, besides the shortest, at most."""

Try = Callable[[Sequence[Choice]], list[Worth]]
"""What choices are worth on the images of the search."""


@dataclass(frozen=True)
class Observed:
    """What gates did on the images of the search.

    Attributes:
        scores: site -> the scores of its decisions, float32 ``[image, unit]``, of the images that came to it; sites
            decided without one are absent.
        rates: share of images that open a unit, ``[unit]`` in layout order.
    """

    scores: dict[str, Tensor]
    rates: NDArray[np.float64]


def observe(net: Routed, images: Images) -> Observed:
    """Scores and rates of a network's own decisions, as trained.

    Raises:
        CallError: if decisions with a score do not follow it: gates that draw, or run everything, have no operating
            points.
    """
    device = device_of(net)
    as_trained = Choice("threshold", threshold=0.0).apply(net)
    # A gate inside others may come to no decision at all on these images.
    scores: dict[str, list[Tensor]] = {
        name: [] for name, site in net.sites.items() if site.decider is not None and site.decider.by_score
    }
    opened = np.zeros(len(net.layout.units))
    seen = 0
    for x, _ in images:
        _, trace = net(x.to(device), as_trained)
        seen += len(x)
        opened += opened_units(trace, net.layout, len(x)).sum(0)
        for site, decision in trace.items():
            if decision.score is None:
                continue
            score, made = decision.score, decision.open
            if decision.ran is not None:
                score, made = score[decision.ran], made[decision.ran]
            if not torch.equal(made, score > 0):
                raise CallError(
                    f"site {site!r} does not open where its score is above 0, so moving that threshold means nothing: "
                    "its decider draws by chance or runs everything. Let gates decide, inference='argmax'."
                )
            scores.setdefault(site, []).append(score.cpu())
    nothing = torch.empty(0)
    return Observed({site: torch.cat(parts or [nothing]) for site, parts in scores.items()}, opened / max(1, seen))


def every(layout: Layout, units: Sequence[Unit], threshold: float | None) -> list[Choice]:
    """All ways to open and close some units, each once: what stands inside a closed one is closed too."""
    ways = np.array(list(itertools.product((True, False), repeat=len(units))))
    numbers = _numbers(layout, units)
    opened = np.ones((len(ways), len(layout.units)), bool)
    opened[:, numbers] = ways
    different = (layout.running(opened) == opened)[:, numbers].all(1)
    return [Choice("every", _path(layout, units, way, threshold), threshold) for way in ways[different].tolist()]


def greedy(layout: Layout, units: Sequence[Unit], threshold: float | None, attempt: Try) -> list[Choice]:
    """Units closed one at a time, from all open to all closed: a choice for each step.

    In each step, of the `SHORTLIST` units that cost least when they were tried last (in the first step all), the one is
    closed that costs least accuracy for each MAC, both as of now, with those closed before; of equals, the one that
    leaves the least loss, then the earlier. What stands inside the closed one is closed with it.
    """
    numbers = _numbers(layout, units)
    opened = [True] * len(units)
    running = np.ones(len(layout.units), bool)
    steps = [Choice("greedy", _path(layout, units, opened, threshold), threshold)]
    [now] = attempt(steps)
    costs = dict.fromkeys(range(len(units)), (0.0, 0.0))
    while costs:
        shortlist = sorted(costs, key=lambda i: (costs[i], i))
        tried = shortlist if len(steps) == 1 else shortlist[:SHORTLIST]
        without = [[o and i != unit for i, o in enumerate(opened)] for unit in tried]
        worths = attempt([Choice("greedy", _path(layout, units, way, threshold), threshold) for way in without])
        saved = layout.gains(running)[numbers, 0].tolist()
        for unit, worth in zip(tried, worths, strict=True):
            lost = now.point.accuracy - worth.point.accuracy
            macs = max(1, saved[unit])
            costs[unit] = (lost / macs if lost > 0 else lost * macs, worth.loss)
        closed = min(tried, key=lambda i: (costs[i], i))
        now = worths[tried.index(closed)]
        running[numbers[closed]] = False
        running = layout.running(running)
        opened = running[numbers].tolist()
        costs = {unit: cost for unit, cost in costs.items() if opened[unit]}
        steps.append(Choice("greedy", _path(layout, units, opened, threshold), threshold))
    return steps


def thresholds(scores: dict[str, Tensor]) -> list[Choice]:
    """Gates as trained, and at thresholds between which equally many of the observed decisions lie."""
    observed = torch.cat([values.flatten() for values in scores.values()])
    observed = observed[observed.isfinite()]  # a filter that needs no gate has a score of infinity
    if not len(observed):
        return [Choice("threshold", threshold=0.0)]
    quantiles = np.quantile(observed.double().numpy(), np.linspace(0, 1, STEPS))
    values = sorted({0.0, *(float(q) for q in quantiles)})
    return [Choice("threshold", threshold=value) for value in values]


def rates(layout: Layout, observed: Observed) -> list[Choice]:
    """The most open units opened, for all images alike: none of those that are decided, one, two and so on.

    Units that nothing decides stay open. In networks of many units in steps of several.
    """
    decided = [i for i, unit in enumerate(layout.units) if unit.site in observed.scores]
    order = sorted(decided, key=lambda i: (-observed.rates[i], i))
    counts = sorted({round(n) for n in np.linspace(0, len(order), min(len(order), STEPS) + 1)})
    choices = []
    for count in counts:
        shut = set(order[count:])
        way = [i not in shut for i in range(len(layout.units))]
        choices.append(Choice("rate", _path(layout, layout.units, way, None)))
    return choices


def _numbers(layout: Layout, units: Sequence[Unit]) -> list[int]:
    """Where units stand in the layout."""
    found = {(unit.site, unit.index): i for i, unit in enumerate(layout.units)}
    return [found[unit.site, unit.index] for unit in units]


def _path(layout: Layout, units: Sequence[Unit], opened: Sequence[bool], threshold: float | None) -> Path:
    """Some units open or closed: with gates that go on deciding (``threshold``) only the sites of those units, else all
    sites, the others open."""
    chosen = {(unit.site, unit.index): o for unit, o in zip(units, opened, strict=True)}
    named = {unit.site for unit in units}
    sites = {
        site: [chosen.get((site, unit.index), True) for unit in members]
        for site, members in layout.sites.items()
        if threshold is None or site in named
    }
    return Path(sites, layout.fingerprint)


def search(net: Routed, images: list[tuple[Tensor, Tensor]], step: Callable[[str], None]) -> list[Choice]:
    """All choices worth trying for a network, each once; the first has everything open.

    Args:
        net: a routed network, in the state that `undisturbed` keeps.
        images: labelled images to search on.
        step: told what is going on.
    """
    observed = observe(net, images)
    layout = net.layout
    outside = [unit for unit in layout.units if unit.site not in observed.scores]
    threshold = 0.0 if observed.scores else None
    found: list[Choice] = [Choice("full", Path.full(net))]
    if outside and 2 ** len(outside) <= EVERY:
        found += every(layout, outside, threshold)
    elif outside:

        def attempt(choices: Sequence[Choice]) -> list[Worth]:
            step(f"closing units one at a time, {len(choices)} tried")
            return evaluate(net, choices, images)

        found += greedy(layout, outside, threshold, attempt)
    if observed.scores:
        found += [*thresholds(observed.scores), *rates(layout, observed)]
    first = {(choice.path, choice.threshold): choice for choice in reversed(found)}
    return [choice for choice in found if first[choice.path, choice.threshold] is choice]
