"""Execution rate of each block by class (ConvNet-AIG, figure 4).

Classes stand in order of similarity, so that groups show which the network made by itself; stages stand over the
columns, and two margins give what a row and a column add up to.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from torchpaths.surveys.figures.style import (
    FLOW,
    HAIRLINE,
    INK,
    PALE,
    PAPER,
    RATE_MAP,
    RULE,
    SMALL,
    SOFT,
    TEXT,
    add_axes,
    heading,
    new_figure,
    shorten,
    styled,
    text_width,
)
from torchpaths.surveys.order import similarity_order
from torchpaths.surveys.result import Survey
from torchpaths.surveys.stages import Stage, noun, stages


@styled
def class_rates(survey: Survey, order: Sequence[int] | None = None) -> Figure:
    """Heat map of execution rates, classes by blocks.

    Args:
        survey: any survey; classes without images are drawn hatched.
        order: class numbers from top to bottom; by similarity where None.
    """
    rows = similarity_order(survey.openness) if order is None else list(order)
    rates = survey.openness[rows]
    units = rates.shape[1]
    row = float(np.clip(5.2 / len(rows), 0.105, 0.26))
    column = float(np.clip(6.4 / units, 0.004, 0.30))
    size = min(TEXT, row * 72 * 0.82)
    names = [shorten(survey.classes[c]) for c in rows]
    left = max(text_width(names, size) + 0.28, 0.78)
    width, height = column * units, row * len(rows)
    margin = 1.05
    parts = stages(survey.layout)
    over, under = 1.48, 0.42
    foot = 0.5 + text_width([label for part in parts for label in part.labels], SMALL)
    total = max(left + width + margin + 0.62, 5.6)
    figure = new_figure(total, height + over + foot)
    word = noun(survey.layout)
    executed = f"{survey.executed[0]:.1f} of {units} {word}s executed on average"
    note = f"{int(survey.images.sum()):,} images · {executed} · {survey.accuracy:.1%} right"
    heading(figure, 0.15, f"Which {word}s run, class by class: {survey.title}", note)

    heat = add_axes(figure, left, foot, width, height)
    heat.set_facecolor(PAPER)
    heat.imshow(np.ma.masked_invalid(rates), aspect="auto", cmap=RATE_MAP, vmin=0, vmax=1, interpolation="nearest")
    _empty_rows(heat, rates)
    for part in parts[1:]:
        heat.axvline(part.start - 0.5, color=PAPER, lw=min(2.2, max(column * 36, 1.0)))
    _frame(heat)
    heat.set_yticks(range(len(rows)), names, size=size)
    heat.tick_params(axis="y", length=0, pad=4)
    _block_ticks(heat, parts, column)
    heat.set_xlabel(word, labelpad=2)

    share = add_axes(figure, left, foot + height + 0.06, width, under, sharex=heat)
    share.bar(range(units), survey.rates, width=0.78 if column > 0.06 else 1.0, color=PALE)
    share.set_ylim(0, 1)
    _quiet(share)
    share.set_yticks([0, 1], ["0", "100%"], size=6.5, color=SOFT)
    share.axhline(1, color=RULE, lw=0.6)
    share.set_ylabel("all", rotation=0, size=TEXT, ha="right", va="center", labelpad=4)
    _stage_names(share, parts, column)

    done = add_axes(figure, left + width + 0.08, foot, margin, height, sharey=heat)
    _executed(done, survey, rows, row)
    done.set_xlabel(f"{word}s executed\nmean ± std", size=6.5, labelpad=2)
    _colour_bar(figure, left + width + 0.08)
    return figure


def _empty_rows(heat: Axes, rates: NDArray[np.float64]) -> None:
    for i in np.flatnonzero(np.isnan(rates).any(1)):
        heat.add_patch(
            Rectangle((-0.5, i - 0.5), rates.shape[1], 1, facecolor=PAPER, hatch="/////", edgecolor=HAIRLINE, lw=0)
        )


def _frame(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(HAIRLINE)
        spine.set_linewidth(0.6)


def _quiet(axes: Axes) -> None:
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, labelbottom=False)


def _block_ticks(heat: Axes, parts: list[Stage], column: float) -> None:
    """Names within the stage, as many as fit; upright where they are long."""
    every = max(1, int(np.ceil(0.16 / column)))
    ticks = [
        (part.start + i, label)
        for part in parts
        for i, label in enumerate(part.labels)
        if i % every == 0 and (i == 0 or len(part.labels) - i >= every / 2)  # clear of the next stage's first
    ]
    size = min(SMALL, column * every * 72 * 0.8)
    upright = text_width([label for _, label in ticks], size) > column * every * 0.92
    heat.set_xticks([at for at, _ in ticks], [label for _, label in ticks], size=size, rotation=90 if upright else 0)
    heat.tick_params(axis="x", length=0, pad=3)


def _stage_names(axes: Axes, parts: list[Stage], column: float) -> None:
    place = axes.get_xaxis_transform()
    for part in parts:
        first, last = part.start - 0.42, part.start + len(part.labels) - 0.58
        axes.plot([first, last], [1.22, 1.22], transform=place, color=INK, lw=0.9, clip_on=False, solid_capstyle="butt")
        candidates = (part.name, part.name.rpartition(".")[2])
        room = column * len(part.labels)
        name = next((n for n in candidates if text_width([n], SMALL, "bold") <= room), "")
        axes.text((first + last) / 2, 1.32, name, transform=place, ha="center", va="bottom", size=SMALL, weight="bold")


def _executed(axes: Axes, survey: Survey, rows: list[int], row: float) -> None:
    """At the right of each row: how many blocks its images execute on average, on a scale that shows differences."""
    means = survey.executed_by_class[rows, 0]
    spreads = survey.executed_by_class[rows, 1]
    at = np.arange(len(rows))
    axes.axvline(survey.executed[0], color=HAIRLINE, lw=0.8, zorder=0)
    axes.hlines(at, means - spreads, means + spreads, color=PALE, lw=min(2.2, row * 12))
    axes.plot(means, at, "o", color=FLOW, ms=min(4.2, row * 22), mew=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.tick_params(axis="x", length=2, labelsize=6.5)
    axes.locator_params(axis="x", nbins=3, integer=True)


def _colour_bar(figure: Figure, left: float) -> None:
    _, height = figure.get_size_inches()
    bar = add_axes(figure, left, height - 0.86, 0.9, 0.09)
    bar.imshow(np.linspace(0, 1, 64)[None], aspect="auto", cmap=RATE_MAP, extent=(0, 1, 0, 1))
    bar.set_yticks([])
    bar.set_xticks([0, 0.5, 1], ["0", "50", "100%"], size=6.5)
    bar.tick_params(length=0, pad=2)
    _frame(bar)
    bar.set_title("share of images", size=6.5, color=SOFT, loc="left", pad=3)
