"""Execution rate of each block over training (ConvNet-AIG, figure 5 right).

A panel for each stage, so that every line can carry its own name: which blocks become key blocks and which are left to
the images is read off the right end.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from torchpaths.errors import DataError
from torchpaths.files.disk import read_bytes
from torchpaths.layout import Layout
from torchpaths.schema import Count, MalformedError, convert, parse, reading
from torchpaths.surveys.figures.style import (
    ACCENT,
    DEPTH_MAP,
    RULE,
    SMALL,
    SOFT,
    TEXT,
    add_axes,
    heading,
    new_figure,
    shorten,
    spread_apart,
    styled,
    text_width,
)
from torchpaths.surveys.stages import Stage, noun, stages

MOST_NAMES = 40
"""Units of one stage that still get names at the ends of their lines."""


def read_rates(metrics: pathlib.Path | str, layout: Layout) -> tuple[list[int], NDArray[np.float64]]:
    """Epochs and execution rates ``[epoch, unit]`` from a run's metrics, one JSON object per line.

    Rows that have ``epoch`` and ``rates`` (a number for each unit, by name or as a list in layout order) count, others
    are passed over; of several rows of one epoch, as a resumed run may write them, the last. A last line that was cut
    short is passed over.

    Raises:
        DataError: for a missing file, one without such rows, damaged lines, or rates of another network.
    """
    file = pathlib.Path(metrics)
    with reading(file, DataError, "give the metrics.jsonl of a run folder"):
        try:
            lines = read_bytes(file).splitlines()
        except FileNotFoundError as error:
            raise MalformedError("no metrics there") from error
    found: dict[int, list[float]] = {}
    for number, line in enumerate(lines, 1):
        where = f"{file}, line {number}"
        with reading(where, DataError, "the file is damaged, remove that line"):
            try:
                row = parse(line) if line.strip() else None
            except MalformedError:
                if number == len(lines):
                    break
                raise
            if isinstance(row, dict) and "epoch" in row and "rates" in row:
                kept: _Row = convert(row, _Row)
                found[kept.epoch] = _in_order(kept.rates, layout, where)
    if not found:
        raise DataError(
            f"{file}: no row has both 'epoch' and 'rates'; the run has not ended an epoch with an evaluation yet."
        )
    epochs = sorted(found)
    return epochs, np.array([found[epoch] for epoch in epochs])


@dataclass(frozen=True)
class _Row:
    epoch: Count
    rates: dict[str, float | None] | list[float | None]


def _in_order(rates: dict[str, float | None] | list[float | None], layout: Layout, where: str) -> list[float]:
    """Rates as a list in layout order."""
    names = [unit.name for unit in layout.units]
    values = [rates.get(name) for name in names] if isinstance(rates, dict) else rates
    if len(rates) != len(names) or any(value is None for value in values):
        raise DataError(
            f"{where}: rates of {len(rates)} units do not belong to {layout.network} with its {len(names)}; "
            "give the metrics of the run that the survey was made from."
        )
    return [float(value) for value in values if value is not None]


@styled
def training_rates(
    epochs: Sequence[int], rates: NDArray[np.float64], layout: Layout, title: str = "", target: float | None = None
) -> Figure:
    """Lines of execution rate over epochs, one for each unit.

    Args:
        epochs: ``[epoch]``, from 0 as in the metrics; drawn as the number of epochs done.
        rates: ``[epoch, unit]``, in 0 to 1, units in layout order.
        layout: of the network, for names and stages.
        title: of the network and data, for the heading.
        target: the mean rate asked for, drawn as a line.

    Raises:
        DataError: if the rates do not belong to this layout.
    """
    if rates.shape != (len(epochs), len(layout.units)):
        raise DataError(
            f"rates of shape {rates.shape} for {len(epochs)} epochs and "
            f"the {len(layout.units)} units of {layout.network}; give [epoch, unit] of this network."
        )
    done = [epoch + 1 for epoch in epochs]
    parts = stages(layout)
    columns = min(len(parts), 4)
    lines = -(-len(parts) // columns)
    most = max(len(part.labels) for part in parts)
    width, height = 1.75 if len(parts) > 2 else 2.9, float(np.clip(0.125 * most, 2.2, 3.6))
    side, over, under, foot = 0.6, 0.9, 0.68, 0.45
    named = [label for part in parts if len(part.labels) <= MOST_NAMES for label in part.labels]
    between = 0.4 + text_width(named, SMALL)
    total = side + columns * (width + between)
    figure = new_figure(max(total, 4.6), over + lines * height + (lines - 1) * under + foot)
    heading(figure, 0.15, f"Execution rates over training{': ' + title if title else ''}", _note(done, rates, target))
    for i, part in enumerate(parts):
        across, down = i % columns, i // columns
        axes = add_axes(
            figure, side + across * (width + between), foot + (lines - 1 - down) * (height + under), width, height
        )
        _panel(axes, done, rates, part, target, height)
        axes.tick_params(labelleft=across == 0)
        if across == 0:
            axes.set_ylabel(f"images that run the {noun(layout)}, %")
        if i + columns >= len(parts):
            axes.set_xlabel("epoch")
    return figure


def _note(done: Sequence[int], rates: NDArray[np.float64], target: float | None) -> str:
    first, last = rates[0].mean() * 100, rates[-1].mean() * 100
    goal = f"; dashed: target {target:.1%}" if target is not None else ""
    return f"mean {first:.1f}% after epoch {done[0]}, {last:.1f}% after epoch {done[-1]}{goal}"


def _panel(
    axes: Axes, epochs: Sequence[int], rates: NDArray[np.float64], part: Stage, target: float | None, height: float
) -> None:
    count = len(part.labels)
    columns = rates[:, part.start : part.start + count] * 100
    shades = [DEPTH_MAP(i / max(count - 1, 1)) for i in range(count)]
    thin = 1.1 if count <= MOST_NAMES else 0.5
    marker = "o" if len(epochs) == 1 else ""
    for i in range(count):
        axes.plot(
            epochs, columns[:, i], color=shades[i], lw=thin, marker=marker, ms=3, clip_on=False, solid_joinstyle="round"
        )
    if target is not None:
        axes.axhline(target * 100, color=ACCENT, lw=1.0, ls=(0, (4, 3)), zorder=0)
    axes.set_ylim(0, 100)
    first, last = min(epochs), max(epochs)
    axes.set_xlim(first, max(last, first + 1))
    axes.locator_params(axis="x", integer=True, nbins=4)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)
    axes.set_title(shorten(part.name, 24) or "blocks", loc="left", size=TEXT, weight="bold", pad=6)
    if count > MOST_NAMES:
        return
    per_inch = 100 / height
    size = float(np.clip(height * 72 / count * 0.8, 4.0, SMALL))
    places = spread_apart(columns[-1].tolist(), size * 1.12 / 72 * per_inch, 0, 100)
    end = max(last, first + 1)
    step = (end - first) * 0.07
    for i, place in enumerate(places):
        axes.plot([last, end + step * 0.8], [columns[-1, i], place], color=shades[i], lw=0.6, clip_on=False)
        axes.text(end + step, place, part.labels[i], size=size, color=SOFT, va="center_baseline", clip_on=False)
