"""How many blocks do images execute? (ConvNet-AIG, figure 5 left.)

A histogram over all images and one for each class, with mean and standard deviation; classes from those that execute
the fewest blocks to those that execute the most.
"""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from torchpaths.surveys.figures.style import (
    ACCENT,
    DEEP,
    HAIRLINE,
    INK,
    PALE,
    PAPER,
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
from torchpaths.surveys.result import Survey
from torchpaths.surveys.stages import noun

MOST_ROWS = 24
"""Classes that stand in one column beside the histogram of all images; more stand in two columns under it."""


@styled
def executed_layers(survey: Survey) -> Figure:
    """Histogram of the number of executed blocks, over all images and by class."""
    means = survey.executed_by_class[:, 0]
    rows = [int(c) for c in np.argsort(means, kind="stable") if survey.images[c]]
    many = len(rows) > MOST_ROWS
    columns = [rows[: (len(rows) + 1) // 2], rows[(len(rows) + 1) // 2 :]] if many else [rows]
    row = 0.14 if many else float(np.clip(5.0 / len(rows), 0.2, 0.32))
    size = min(TEXT, row * 72 * 0.72)
    name_width = text_width([shorten(survey.classes[c]) for c in rows], size) + 0.1
    number_width = text_width(["00.0 ± 00.0"], max(size, SMALL)) + 0.2
    tall = row * len(columns[0])
    margin, wide, gap, over, foot = 0.55, 2.4 if many else 3.1, 0.45, 0.9, 0.5
    column = name_width + wide + number_width + gap
    if many:
        total, height, upper = margin + 2 * column - gap, over + 1.9 + 0.85 + tall + foot, 1.9
    else:
        total, upper = margin + wide + gap + column - gap, max(tall, 2.3)
        height = over + upper + foot
    figure = new_figure(total, height)
    word = noun(survey.layout)
    units = survey.histogram.shape[1] - 1
    note = f"{int(survey.images.sum()):,} images, {units} {word}s; dashed: mean over all images"
    heading(figure, 0.15, f"How many {word}s images execute: {survey.title}", note)

    limits = _range(survey.histogram.sum(0))
    first = add_axes(figure, margin, height - over - upper, total - margin - 0.3 if many else wide, upper)
    _everything(first, survey, limits)
    first.set_xlabel(f"{word}s executed")
    for i, members in enumerate(columns):
        left = margin + i * column + name_width + (0 if many else wide + gap)
        bottom = foot + (tall if many else upper) - row * len(members)
        axes = add_axes(figure, left, bottom, wide, row * len(members))
        _classes(axes, survey, members, limits, size, row)
        axes.set_xlabel(f"{word}s executed")
    return figure


def _range(counts: NDArray[np.int64]) -> tuple[float, float]:
    """The part of the axis that holds anything, with a block of air at both ends."""
    present = np.flatnonzero(counts)
    return float(present[0]) - 1.0, float(present[-1]) + 1.0


def _everything(axes: Axes, survey: Survey, limits: tuple[float, float]) -> None:
    counts = survey.histogram.sum(0)
    share = counts / counts.sum() * 100
    mean, std = survey.executed
    axes.bar(range(len(share)), share, width=0.86, color=PALE)
    top = float(share.max()) * 1.3
    axes.set_xlim(*limits)
    axes.set_ylim(0, top)
    axes.errorbar(mean, share.max() * 1.09, xerr=std, fmt="o", color=ACCENT, ms=4, elinewidth=1.2, capsize=2.5)
    axes.text(
        mean,
        share.max() * 1.14,
        f"{mean:.2f} ± {std:.2f}",
        color=ACCENT,
        ha="center",
        va="bottom",
        weight="bold",
        size=TEXT,
    )
    axes.locator_params(axis="x", integer=True, nbins=8)
    axes.set_ylabel("images, %")
    axes.set_title("all images", loc="left", size=TEXT, weight="bold", pad=6)


def _classes(axes: Axes, survey: Survey, rows: list[int], limits: tuple[float, float], size: float, row: float) -> None:
    """A strip for each class: its histogram, its mean and, where there is room, its standard deviation."""
    values = survey.executed_by_class
    tallest = max(float((survey.histogram[c] / survey.images[c]).max()) for c in rows)
    for i, c in enumerate(rows):
        share = survey.histogram[c] / survey.images[c] / tallest
        taken = np.flatnonzero(share)
        axes.bar(taken, -0.84 * share[taken], bottom=i + 0.42, width=0.9, color=PALE, zorder=1)
        axes.axhline(i + 0.42, color=RULE, lw=0.5, zorder=0)
        mean, std = values[c]
        if row < 0.2:
            axes.vlines(mean, i - 0.42, i + 0.42, color=DEEP, lw=1.4, zorder=3)
        else:
            axes.hlines(i + 0.14, mean - std, mean + std, color=DEEP, lw=1.0, zorder=3)
            axes.plot(mean, i + 0.14, "o", color=DEEP, ms=4.2, mec=PAPER, mew=0.6, zorder=4)
        axes.text(
            1.03, i, f"{mean:.1f} ± {std:.1f}", transform=axes.get_yaxis_transform(), va="center", size=size, color=INK
        )
    axes.axvline(survey.executed[0], color=ACCENT, lw=0.9, ls=(0, (4, 3)), zorder=2)
    axes.set_xlim(*limits)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(range(len(rows)), [shorten(survey.classes[c]) for c in rows], size=size)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_color(HAIRLINE)
    axes.locator_params(axis="x", integer=True, nbins=8)
    axes.set_title("by class", loc="left", size=TEXT, weight="bold", pad=6)
    axes.annotate(
        "mean ± std", (1.03, 1.0), (0, 6), "axes fraction", textcoords="offset points", size=SMALL, color=SOFT
    )
