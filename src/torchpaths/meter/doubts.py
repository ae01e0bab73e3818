"""What speaks against a time, in words that stand beside it: an interval that says nothing, a machine that was busy.

Pairing (see `torchpaths.meter.timing`) takes out what slows both networks alike. It cannot take out that a program
beside them takes the processor from one of them for a moment, nor make few rounds say more than they do.
"""

from __future__ import annotations

from collections.abc import Sequence

from torchpaths.meter.timing import Median

WIDE = 1.5
"""An interval whose upper end is so many times its lower one tells no gap from another."""
STEADY = 1.5
"""So many times may the plain network's slow rounds (the slowest tenth) take what its quick ones take."""
WAITED = 0.1
"""The share of its time that a process with one thread may be off the processor while it is timed."""


def doubts(
    ratio: Median, macs_ratio: float, spread: float | None = None, waited: float | None = None
) -> tuple[str, ...]:
    """Why a time should not be relied on; nothing where it can be.

    Args:
        ratio: time / the plain network's.
        macs_ratio: MACs / the plain network's.
        spread: the plain network's 90th percentile of times / its 10th; None where that is not known.
        waited: share of the time that the process was off the processor, 0 to 1; None where that is not known.
    """
    found = []
    all_or_nothing = ratio.low <= macs_ratio and ratio.high >= 1 and macs_ratio < 0.95
    if ratio.high > WIDE * ratio.low or all_or_nothing:
        told = "neither that time is saved nor that none is" if all_or_nothing else "little"
        found.append(
            f"the interval of its time, {ratio.low:.0%} to {ratio.high:.0%} of the plain network's, says {told}; "
            "measure longer"
        )
    return (*found, *busy(spread, waited))


def busy(spread: float | None, waited: float | None) -> tuple[str, ...]:
    """Why the machine was no quiet one; arguments as of `doubts`."""
    found = []
    if waited is not None and waited > WAITED:
        found.append(
            f"the machine was busy: other programs had the processor for {waited:.0%} of the time; stop them, or "
            "measure on other cores"
        )
    if spread is not None and spread > STEADY:
        found.append(
            f"the machine was not steady: the plain network's slow rounds took {spread:.1f} times its quick ones; "
            "measure longer, on a quiet machine"
        )
    return tuple(found)


def noted(of: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    """Lines for under a table: each doubt once, with those whom it concerns, or with nobody if it concerns all.

    Args:
        of: names and their doubts.
    """
    whom: dict[str, list[str]] = {}
    for name, found in of:
        for doubt in found:
            whom.setdefault(doubt, []).append(name)
    return [
        f"! {doubt}" if len(of) > 1 and len(names) == len(of) else f"! {', '.join(names)}: {doubt}"
        for doubt, names in whom.items()
    ]
