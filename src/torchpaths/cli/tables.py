"""Tables for people: accuracy, MACs and units open, by class, of one run or of several side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from torchpaths.cuts.spec import Spec
from torchpaths.surveys import Survey
from torchpaths.text import visible

MOST_CLASSES = 20
"""Up to so many classes are all shown; of more, the five that open the fewest units and the five that open the most."""


def side_by_side(surveys: Sequence[Survey]) -> Table:
    """A row for each class and one for all images; for each survey accuracy, units open and MACs.

    Args:
        surveys: of networks of the same classes over the same images; rows are ordered as the last one needs it.
    """
    last = surveys[-1]
    table = Table(
        title=f"{visible(last.title)}, {last.split} split, {last.images.sum():,} images",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("\nclass")
    for found in surveys:
        table.add_column(f"{', '.join(found.method) or 'plain'}\naccuracy", justify="right")
        table.add_column("\nunits open", justify="right")
        table.add_column("\nMACs", justify="right")
    rows, left_out = _rows(last)
    for i, row in enumerate(rows):
        table.add_row(
            visible(last.classes[row]),
            *(cell for found in surveys for cell in _class(found, row)),
            end_section=i == len(rows) - 1,
        )
    table.add_row("all", *(cell for found in surveys for cell in _all(found)), style="bold")
    if any(found.top5 is not None for found in surveys):
        table.add_row("among the best 5", *(cell for found in surveys for cell in (_best(found), "", "")))
    table.add_row("of plain", *(cell for found in surveys for cell in _shares(found)))
    if left_out:
        table.caption = (
            f"{left_out} classes left out, between those that open the fewest units and those that open the most"
        )
    return table


def _rows(found: Survey) -> tuple[list[int], int]:
    """The classes to show, and how many are left out."""
    count = len(found.classes)
    if count <= MOST_CLASSES:
        return list(range(count)), 0
    means = found.executed_by_class[:, 0]
    order = sorted((c for c in range(count) if not math.isnan(means[c])), key=lambda c: float(means[c]))
    if len(order) <= MOST_CLASSES:
        return order, count - len(order)
    return [*order[:5], *order[-5:]], count - 10


def _class(found: Survey, row: int) -> tuple[str, str, str]:
    if found.images[row] == 0:
        return "–", "–", "–"
    units, macs = float(found.executed_by_class[row, 0]), float(found.macs_by_class[row])
    return f"{found.accuracy_by_class[row]:.2%}", f"{units:.2f}", count(macs)


def _best(found: Survey) -> str:
    return "–" if found.accuracy_top5 is None else f"{found.accuracy_top5:.2%}"


def _all(found: Survey) -> tuple[str, str, str]:
    return f"{found.accuracy:.2%}", f"{found.executed[0]:.2f}", count(found.macs)


def _shares(found: Survey) -> tuple[str, str, str]:
    """What of the plain network's units, of each kind, and MACs that is."""
    several = len(found.shares) > 1
    units = "\n".join(f"{kind} {share:.1%}" if several else f"{share:.1%}" for kind, share in found.shares.items())
    return "", units, f"{found.macs / found.layout.plain.macs:.1%}"


def beside_original(spec: Spec) -> str:
    """What of its original a cut network is, in words."""
    shares = {"MACs": (spec.cut.macs, spec.plain.macs), "parameters": (spec.cut.params, spec.plain.params)}
    told = (f"{count(cut)} of {count(plain)} {what} ({cut / plain:.1%})" for what, (cut, plain) in shares.items())
    return f"cut out of {spec.source}: {', '.join(told)}"


def count(macs: float) -> str:
    """A number of MACs in three significant digits: ``"1.26 M"``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if macs >= size:
            return f"{macs / size:#.3g} {unit}".replace(". ", " ")
    return f"{macs:.0f}"
