"""What each unit is worth by itself: ``shut_alone`` closes one at a time and counts what accuracy that costs.

The others do as they do: gates behind a closed unit may decide otherwise than before, as they would in use. Deciders
that draw by chance repeat what they drew with nothing shut, else the difference would be one of chance. A unit that an
image does not open is worth nothing for it, so only the images that open it are run again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchpaths.costs import evaluating
from torchpaths.errors import DataError
from torchpaths.inputs import device_of
from torchpaths.outputs import answer
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.skips.network import skipping
from torchpaths.surveys.checks import batches, check_logits, class_numbers, opened_units
from torchpaths.surveys.columns import Alone
from torchpaths.trace import Trace


def shut_alone(net: Routed, loader: Iterable[tuple[Tensor, Tensor]], *, progress: bool = False) -> Alone:
    """The accuracy lost where one unit is shut and the others do as they do, of every unit, and what runs then.

    Args:
        net: a routed network, in any mode; it is not changed.
        loader: labelled batches; each goes through the network once, and as far as units are open once for each.
        progress: draw a progress bar on the standard error stream.

    Raises:
        DataError: no images, labels that are no class numbers.
        RunError: scores that are not finite.
    """
    fast = skipping(net)
    device = device_of(net)
    layout = net.layout
    lost = np.zeros(len(layout.units), np.int64)
    saved, closed = (np.zeros(len(layout.units), np.int64) for _ in range(2))  # MACs and units, of all images
    before = np.zeros(2, np.int64)
    seen = right = 0
    with evaluating(fast), torch.no_grad():
        for number, (x, y) in enumerate(batches(loader, "each unit alone" if progress else None)):
            x = x.to(device, non_blocking=True)
            output, trace = fast(x)
            logits = answer(output)
            check_logits(logits, len(x), number)
            labels = torch.from_numpy(class_numbers(y, len(x), logits.shape[1], number)).to(device)
            hits = logits.argmax(1) == labels
            opened = opened_units(trace, layout, len(x))
            macs = layout.costs(opened)[:, 0]
            before += [int(macs.sum()), int(opened.sum())]
            for unit, rows, without, after in each_shut(fast, x, trace):
                check_logits(without, len(rows), number)
                own = rows.cpu().numpy()
                left = opened_units(after, layout, len(rows))
                saved[unit] += int(macs[own].sum()) - int(layout.costs(left)[:, 0].sum())
                closed[unit] += int(opened[own].sum()) - int(left.sum())
                lost[unit] += int(hits[rows].sum()) - int((without.argmax(1) == labels[rows]).sum())
            seen += len(x)
            right += int(hits.sum())
    if not seen:
        raise DataError("the loader gave no images, so nothing can be said of units; check the split and its folder.")
    costs = np.stack([before[0] - saved, before[1] - closed], 1) / seen
    cost = tuple((macs, units) for macs, units in costs.tolist())
    return Alone(
        tuple((lost / seen).tolist()), seen, right / seen, cost, (int(before[0]) / seen, int(before[1]) / seen)
    )


def each_shut(net: Routed, x: Tensor, trace: Trace) -> Iterator[tuple[int, Tensor, Tensor, Trace]]:
    """The scores of images with one unit shut, for each unit that any of them opens.

    Args:
        net: in evaluation mode, without gradients.
        x: the images.
        trace: what happened with nothing shut.

    Yields:
        The unit's number, the images that open it (long ``[n]``), their scores without it, ``[n, class]``, and what
        happened then.
    """
    opened = torch.from_numpy(opened_units(trace, net.layout, len(x))).to(x.device)
    drawn = {s.name for s in net.sites.values() if s.decider is not None and s.decider.draws and s.name in trace}
    # Where images touch each other, one that is left out would change the others.
    apart = all(site.apart for site in net.sites.values())
    for number, unit in enumerate(net.layout.units):
        rows = opened[:, number].nonzero().flatten()
        if not len(rows):
            continue
        if not apart:
            rows = torch.arange(len(x), device=x.device)
        choices: dict[str, Any] = {site: _alike(trace[site].open[rows]) for site in drawn}
        shut = trace[unit.site].open[rows].clone()
        shut[:, unit.index] = False
        choices[unit.site] = _alike(shut)
        output, after = net(x[rows], Path(choices, net.layout.fingerprint))
        yield number, rows, answer(output), after


def _alike(opened: Tensor) -> Tensor | list[bool]:
    """A choice for the whole batch where all images make the same one, which more networks can be given."""
    first: list[bool] = opened[0].tolist()
    return first if bool((opened == opened[0]).all()) else opened
