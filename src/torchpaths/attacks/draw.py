"""Figures of attacks: accuracy against strength and rates before and after (ConvNet-AIG, figure 7), the way from one
class's path to another's, and how well attacks are told (which network decoupling, section 4.4, says by figures alone).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchpaths.attacks.changes import Crossing, Rates
from torchpaths.attacks.curves import Curve
from torchpaths.attacks.detection import Row
from torchpaths.surveys.figures.style import (
    ACCENT,
    DEEP,
    FLOW,
    HAIRLINE,
    INK,
    PALE,
    RULE,
    SMALL,
    add_axes,
    heading,
    new_figure,
    room,
    shorten,
    styled,
    text_width,
    up_to_all,
)

COLOURS = (ACCENT, FLOW, PALE, INK, HAIRLINE, DEEP)
LEFT, BOTTOM, HIGH = 0.62, 0.46, 2.5
MOST_SITES = 60
"""Up to so many are named one by one."""


@styled
def draw_curves(curves: Sequence[Curve], title: str) -> Figure:
    """Accuracy against strength, a colour for each network, dashed after JPEG, with 95 % intervals."""
    title = f"Accuracy under FGSM: {title}"
    note = f"{curves[0].images:,} test images; bars: 95 % intervals; dashed: compressed after the attack, JPEG"
    wide = max(4.2, room(title, note) - LEFT - 0.3)
    lines = -(-2 * len(curves) // 2)
    over = 0.62 + 0.16 * lines
    figure = new_figure(LEFT + wide + 0.3, BOTTOM + HIGH + over)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, LEFT, BOTTOM, wide, HIGH)
    for number, (colour, found) in enumerate(zip(COLOURS, curves, strict=False)):
        levels = np.array(found.strengths) * 255
        order = np.argsort(levels)
        for right, style, what in ((found.right, "-", ""), (found.compressed, (0, (3, 2)), ", JPEG")):
            if right is None:
                continue
            told = found.accuracy(right)
            middle = np.array([100 * accuracy for accuracy, _ in told])
            ends = np.array([[100 * low, 100 * high] for _, (low, high) in told]).T
            off = np.abs(ends - middle)
            axes.errorbar(
                levels[order], middle[order], off[:, order], color=colour, lw=1.3, ls=style, marker="o",
                ms=3, mfc=colour if not what else "none", elinewidth=0.7, label=f"{found.name}{what}",
                zorder=3 - 0.1 * number,  # the first, which the others stand beside, on top where they are equal
            )  # fmt: skip
    axes.set_xlabel("how far each pixel may be changed, of 255 levels")
    axes.set_ylabel("accuracy, %")
    axes.set_ylim(bottom=0)
    up_to_all(axes)
    _grid(axes)
    axes.legend(**_over(2))
    return figure


@styled
def draw_rates(found: Rates, title: str, of: str, strength: str) -> Figure:
    """Two bars for each site, before and after the attack; of many sites, two lines."""
    title = f"Rates before and after the attack: {title}"
    note = f"{of}, {found.images:,} images, FGSM {strength}"
    count = len(found.sites)
    labels = [shorten(site, 26) for site in found.sites]
    named = count <= MOST_SITES
    foot = text_width(labels, SMALL) + 0.4 if named else BOTTOM
    wide = max(0.19 * min(count, MOST_SITES), room(title, note) - LEFT - 0.2)
    figure = new_figure(LEFT + wide + 0.2, foot + 1.9 + 0.85)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, LEFT, foot, wide, 1.9)
    at = np.arange(count)
    parts = ((found.before, PALE, "before", -0.2), (found.after, ACCENT, "after", 0.2))
    for values, colour, name, off in parts:
        if named:
            axes.bar(at + off, 100 * values, width=0.4, color=colour, label=name)
        else:
            axes.plot(at, 100 * values, color=colour, lw=1.2, label=name)
    axes.set_xlim(-0.7, count - 0.3)
    axes.set_ylim(0, 100)
    _name_sites(axes, labels, named)
    axes.set_ylabel("units open, %")
    _grid(axes)
    axes.legend(**_over(2))
    return figure


@styled
def draw_crossing(found: Crossing, title: str) -> Figure:
    """By each layer alone, and by all layers so far: whose path it is."""
    title = f"From one class’s path to another’s: {title}"
    note = f"{found.images:,} images right before FGSM and taken for another class after it"
    count = len(found.sites)
    labels = [shorten(site, 26) for site in found.sites]
    named = count <= MOST_SITES
    foot = text_width(labels, SMALL) + 0.4 if named else BOTTOM
    each = max(2.6, 0.145 * min(count, MOST_SITES))
    gap = 0.3
    each = max(each, (room(title, note) - LEFT - gap - 0.2) / 2)
    figure = new_figure(LEFT + 2 * each + gap + 0.2, foot + 2.0 + 1.05)
    heading(figure, 0.15, title, note)
    kinds = {
        "clean": (FLOW, "before the attack"),
        "attacked": (ACCENT, "after"),
        "other": (INK, "images of the other class"),
    }
    for i, (name, values) in enumerate((("by this layer alone", found.alone), ("by all layers so far", found.so_far))):
        axes = add_axes(figure, LEFT + i * (each + gap), foot, each, 2.0)
        for kind, (colour, label) in kinds.items():
            marker: dict[str, Any] = {"marker": "o", "ms": 2.4} if named else {}
            axes.plot(range(count), 100 * values[kind], color=colour, lw=1.3, label=label, **marker)
        axes.axhline(50, color=HAIRLINE, lw=0.7, zorder=0)
        axes.set_ylim(0, 100)
        axes.set_xlim(-0.6, count - 0.4)
        _name_sites(axes, labels, named)
        _grid(axes)
        axes.text(0.01, 0.99, name, transform=axes.transAxes, va="top", size=SMALL, weight="bold")
        if i == 0:
            axes.set_ylabel("chance of the other class, %")
            axes.legend(**_over(3))
        else:
            axes.tick_params(labelleft=False)
    return figure


@styled
def draw_detection(rows: Sequence[Row], title: str) -> Figure:
    """The AUROC of each score of suspicion for each attack, with 95 % intervals."""
    title = f"Told by path and by score: {title}"
    note = "AUROC against clean images; filled: by path, hollow: by score; bars: 95 % intervals; line: chance"
    scores = list(dict.fromkeys(score for row in rows for score in row.scores))
    by_score = ("softmax", "energy")
    names = [f"{row.name} ({row.fooled:,})" for row in rows]
    left = text_width(names, SMALL) + 0.35
    each = 0.15 + 0.085 * len(scores)
    wide = max(3.6, room(title, note) - left - 0.3)
    figure = new_figure(left + wide + 0.3, BOTTOM + each * len(rows) + 0.98)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, left, BOTTOM, wide, each * len(rows))
    shown = dict(zip(scores, (ACCENT, DEEP, FLOW, PALE, INK, HAIRLINE), strict=False))
    for j, score in enumerate(scores):
        at = [i + (j - (len(scores) - 1) / 2) * 0.8 / len(scores) for i, row in enumerate(rows) if score in row.scores]
        found = [row.scores[score] for row in rows if score in row.scores]
        middle = np.array([f.auroc for f in found])
        off = np.abs(np.array([f.interval for f in found]).T - middle)
        colour = INK if score in by_score else shown[score]
        marker = {"softmax": "o", "energy": "s"}.get(score, "o")
        axes.errorbar(
            middle, at, xerr=off, ls="", marker=marker, ms=4, color=colour, elinewidth=0.7,
            mfc="none" if score in by_score else colour, label=score,
        )  # fmt: skip
    axes.axvline(0.5, color=HAIRLINE, lw=0.8, zorder=0)
    for i in range(1, len(rows)):
        axes.axhline(i - 0.5, color=RULE, lw=0.5, zorder=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.01, 1.01)
    axes.set_yticks(range(len(rows)), names, size=SMALL)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("AUROC")
    axes.grid(axis="x", color=RULE, lw=0.5)
    axes.set_axisbelow(True)
    axes.legend(**_over(len(scores)))
    return figure


def _name_sites(axes: Axes, labels: Sequence[str], named: bool) -> None:
    if named:
        axes.set_xticks(range(len(labels)), labels, rotation=90, size=SMALL)
        axes.tick_params(axis="x", length=0)
    axes.set_xlabel("" if named else "layer, from the first to the last")


def _grid(axes: Axes) -> None:
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)


def _over(columns: int) -> dict[str, Any]:
    """A legend above the axes."""
    return {
        "loc": "lower left",
        "bbox_to_anchor": (0, 1.0),
        "ncols": columns,
        "frameon": False,
        "fontsize": SMALL,
        "handletextpad": 0.4,
        "columnspacing": 1.4,
        "borderaxespad": 0.1,
    }
