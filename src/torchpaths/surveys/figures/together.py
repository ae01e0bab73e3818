"""Which units open together: the correlation of each two units over images.

Rates alone do not tell: units that are open for nearly all images are open together for nearly all. The correlation of
two decisions (the phi coefficient, Pearson's of zeros and ones) is 0 where they have nothing to do with each other, 1
where they always agree, and -1 where one stands in for the other.
"""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from torchpaths.errors import DataError
from torchpaths.surveys.counts import Floats
from torchpaths.surveys.figures.style import (
    ACCENT,
    DEEP,
    FLOW,
    HAIRLINE,
    INK,
    PALE,
    PAPER,
    SMALL,
    SOFT,
    TINT,
    add_axes,
    heading,
    new_figure,
    room,
    styled,
    text_width,
)
from torchpaths.surveys.result import Survey
from torchpaths.surveys.stages import noun, stages

AGREE_MAP = LinearSegmentedColormap.from_list("torchpaths-agree", [ACCENT, "#e29264", TINT, PAPER, PALE, FLOW, DEEP])


def correlations(survey: Survey) -> tuple[NDArray[np.int64], Floats]:
    """How far two units open together, over all images.

    Returns:
        Numbers of the units that were looked at and are open for some images but not for all, int64 ``[n]``, and their
        correlations, float64 ``[n, n]``, -1 to 1.

    Raises:
        DataError: for a survey of an older version, which did not count it.
    """
    if survey.together is None:
        raise DataError(
            "this survey was made by an older version, which did not count pairs; survey the network again."
        )
    total = int(survey.images.sum())
    alone = survey.together.counts.diagonal()
    rows = np.flatnonzero((alone > 0) & (alone < total))
    both = survey.together.counts[np.ix_(rows, rows)] / total
    rates = alone[rows] / total
    spread = np.sqrt(rates * (1 - rates))
    found = (both - np.outer(rates, rates)) / np.outer(spread, spread)
    return survey.together.units[rows], np.clip(found, -1, 1)


@styled
def open_together(survey: Survey) -> Figure:
    """Heat map of correlations, units by units in order of execution; stages stand at both edges.

    Args:
        survey: any whose images differ in two units at least.

    Raises:
        DataError: for a survey of an older version, or one in which no two units differ between images.
    """
    numbers, values = correlations(survey)
    count = len(numbers)
    if count < 2:
        raise DataError(
            "no two units of this network are open for some images and not for others, so none go together."
        )
    part_of: dict[int, tuple[str, str]] = {}
    for part in stages(survey.layout):
        part_of |= {part.start + i: (part.name, label) for i, label in enumerate(part.labels)}
    names, labels = zip(*(part_of[number] for number in numbers.tolist()), strict=True)
    starts = [0, *(i for i in range(1, count) if names[i] != names[i - 1])]
    spans = [(names[a], a, b) for a, b in zip(starts, [*starts[1:], count], strict=True)]

    cell = float(np.clip(5.4 / count, 0.012, 0.3))
    side = cell * count
    word = noun(survey.layout)
    title = f"Which {word}s open together: {survey.title}"
    left_out = len(survey.layout.units) - count
    note = f"correlation over {int(survey.images.sum()):,} images, of {count} {word}s" + (
        f"; {left_out:,} are open for all, for none, or not looked at" if left_out else ""
    )
    size = min(SMALL, cell * 72 * 0.8)
    drawn = cell >= 0.1  # a name for each unit
    last = [name.rpartition(".")[2] for name, _, _ in spans]
    short = last if len(set(last)) == len(last) else [name for name, _, _ in spans]
    left = 0.3 + text_width(short, SMALL, "bold") + (text_width(labels, size) + 0.1 if drawn else 0.05)
    bottom = 0.3 + (text_width(labels, size) if drawn else 0.05) + 0.22
    figure = new_figure(max(left + side + 0.95, room(title, note)), bottom + side + 0.72)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, left, bottom, side, side)
    seen = values.copy()
    np.fill_diagonal(seen, np.nan)  # 1 of itself says nothing
    most = max(0.1, np.ceil(10 * np.nanmax(np.abs(seen))) / 10)
    shown = axes.imshow(np.ma.masked_invalid(seen), cmap=AGREE_MAP, vmin=-most, vmax=most, interpolation="nearest")
    for _, start, _ in spans[1:]:
        for line in (axes.axhline, axes.axvline):
            line(start - 0.5, color=INK, lw=0.5 if side / len(spans) > 0.4 else 0.15)
    if drawn:
        axes.set_yticks(range(count), labels, size=size)
        upright = text_width(labels, size) > cell * 0.92
        axes.set_xticks(range(count), labels, size=size, rotation=90 if upright else 0)
    else:
        axes.set_xticks([])
        axes.set_yticks([])
    axes.tick_params(length=0, pad=3)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(HAIRLINE)
    for name, (_, start, stop) in zip(short, spans, strict=True):
        middle = (start + stop - 1) / 2
        if (stop - start) * cell >= text_width([name], SMALL, "bold"):
            below = -(bottom - 0.2) / side
            axes.text(middle, below, name, transform=axes.get_xaxis_transform(), ha="center", size=SMALL, weight="bold")
        if (stop - start) * cell >= 0.12:
            beside = -(left - 0.2) / side
            axes.text(
                beside, middle, name, transform=axes.get_yaxis_transform(), va="center", size=SMALL, weight="bold"
            )
    bar = add_axes(figure, left + side + 0.2, bottom + side - min(side, 1.6), 0.09, min(side, 1.6))
    figure.colorbar(shown, cax=bar, ticks=[-most, 0, most])
    bar.set_yticklabels([f"−{most:.1f}\none or\nthe other", "0", f"{most:.1f}\nboth or\nneither"], size=6.5, color=SOFT)
    bar.tick_params(length=0, pad=3)
    bar.spines["outline"].set_visible(False)
    return figure
