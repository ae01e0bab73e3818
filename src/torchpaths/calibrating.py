"""``calibrate``: gates that open in use as often as they were trained to.

In training a gate draws: open with probability p, and its rate, which the loss holds at a target, is the mean of p
(ConvNet-AIG, Eq. 9). In use it opens where p > 1/2. Gates that are seldom sure then open for nearly all images or
nearly none, whatever their rate in training was. Another threshold, at which the target's share of training images
lies above it, gives the rate back; which images these are stays what the gate learnt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchpaths.costs import evaluating
from torchpaths.errors import BudgetError, DataError, near
from torchpaths.inputs import device_of, images_of
from torchpaths.routed import Routed
from torchpaths.trace import Decider

ROUNDS = 8
"""Passes over the images at most: what a gate sees depends on those before it."""

NEAR = 0.002
"""Rates this close to their targets are reached."""


def calibrate(net: Routed, images: Iterable[Any], targets: Mapping[str, float] | float) -> dict[str, float]:
    """Set the thresholds of a network's gates so that each opens for its target's share of images.

    Args:
        net: a routed network in any mode; only the thresholds of its deciders are changed.
        images: batches of training images, prepared as for evaluation, with labels or without, or mappings as for
            models of transformers; read up to `ROUNDS` times.
        targets: site -> share of the images that come to it, in (0, 1), as ``method.target_rates(net)`` gives; or one
            share for all sites that decide by a score.

    Returns:
        Site -> threshold, log-odds of being open; 0 is what gates are trained with.

    Raises:
        BudgetError: for a share out of range, a site that does not decide by a score, or if there is none.
        DataError: for no images, or an iterator that can be read only once.
    """
    scored = {n: s.decider for n, s in net.sites.items() if s.decider is not None and s.decider.by_score}
    wanted = dict.fromkeys(scored, targets) if isinstance(targets, (int, float)) else dict(targets)
    if not wanted:
        raise BudgetError("no gate of this network goes by a score and has a target, so none has a threshold to set.")
    for site, share in wanted.items():
        if site not in scored:
            raise BudgetError(f"no gate at {site!r} goes by a score. {near(site, scored)}")
        if not 0 < share < 1:
            raise BudgetError(f"targets[{site!r}]={share!r}: the share of images that opens a gate lies in (0, 1).")
    if iter(images) is images:
        raise DataError("these images are an iterator, gone after one pass; give a list of batches or a DataLoader.")
    deciders = {site: scored[site] for site in wanted}
    with torch.no_grad(), evaluating(net):
        for _ in range(ROUNDS):
            scores = _scores(net, images, wanted)
            if all(abs(_rate(s, deciders[site]) - wanted[site]) <= NEAR for site, s in scores.items() if len(s)):
                break
            for site, seen in scores.items():
                if len(seen):
                    deciders[site].threshold = float(np.quantile(seen, 1 - wanted[site]))
    return {site: decider.threshold for site, decider in deciders.items()}


def _rate(scores: np.ndarray[tuple[int], np.dtype[np.float64]], decider: Decider) -> float:
    return float((scores > decider.threshold).mean())


def _scores(
    net: Routed, images: Iterable[Any], sites: Iterable[str]
) -> dict[str, np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Site -> the scores of the images that come to it, of all its units."""
    device = device_of(net)
    found: dict[str, list[Tensor]] = {site: [] for site in sites}
    seen = 0
    for batch in images:
        _, trace = net(images_of(batch, device))
        seen += 1
        for site, parts in found.items():
            made = trace.get(site)
            if made is not None and made.score is not None:
                parts.append((made.score if made.ran is None else made.score[made.ran]).flatten().double().cpu())
    if not seen:
        raise DataError("no images were given, so nothing says how often gates open; give training images.")
    return {site: torch.cat(parts).numpy() if parts else np.empty(0) for site, parts in found.items()}
