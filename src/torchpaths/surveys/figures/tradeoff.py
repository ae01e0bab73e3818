"""Accuracy against the work done, of several runs, the plain network and controls (ConvNet-AIG, figure 3)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from torchpaths.errors import DataError
from torchpaths.surveys.figures.style import (
    FLOW,
    HAIRLINE,
    INK,
    PAPER,
    RULE,
    SMALL,
    SOFT,
    add_axes,
    heading,
    new_figure,
    styled,
    up_to_all,
)


@dataclass(frozen=True)
class Point:
    """One network in the figure.

    Attributes:
        label: its name, beside the mark.
        macs: mean MACs of one image.
        accuracy: top-1 accuracy, in 0 to 1.
        role: what the mark says: a run, the plain network, or a control.
    """

    label: str
    macs: float
    accuracy: float
    role: Literal["run", "plain", "control"] = "run"


MARKS: dict[str, dict[str, Any]] = {
    "run": {"marker": "o", "mfc": FLOW, "mec": PAPER, "ms": 7.5, "mew": 1.0},
    "plain": {"marker": "o", "mfc": PAPER, "mec": INK, "ms": 7.0, "mew": 1.5},
    "control": {"marker": "s", "mfc": PAPER, "mec": SOFT, "ms": 6.0, "mew": 1.2},
}
NAMES = {"run": "routed", "plain": "plain network", "control": "control"}

# Where a label may stand, in points from its mark, in order of liking.
OFFSETS = ((8, 0, "left", "center"), (0, 8, "center", "bottom"), (0, -8, "center", "top"), (-8, 0, "right", "center"),
           (7, 7, "left", "bottom"), (7, -7, "left", "top"), (-7, 7, "right", "bottom"), (-7, -7, "right", "top"),
           (0, 18, "center", "bottom"), (0, -18, "center", "top"))  # fmt: skip


@styled
def accuracy_macs(points: Sequence[Point], title: str = "", joined: bool = True) -> Figure:
    """Scatter of networks, MACs of one image across and accuracy up.

    Args:
        points: networks; MACs are also given as a share of the first plain network's.
        title: of the network and data, for the heading.
        joined: lines join the runs, and the controls, in order of MACs; not for what was made in different ways.

    Raises:
        DataError: for no points.
    """
    if not points:
        raise DataError("no points to draw; give at least one Point(label, macs, accuracy).")
    figure = new_figure(5.4, 4.0)
    axes = add_axes(figure, 0.72, 0.58, 4.45, 2.62)
    plain = next((p for p in points if p.role == "plain"), None)
    note = f"share of the plain network’s {plain.macs / 1e6:,.4g} M MACs" if plain else "mean over the test images"
    heading(figure, 0.15, f"Accuracy against work{': ' + title if title else ''}", note)
    scale, unit = (100 / plain.macs, "% of the plain network") if plain else (1e-6, "million")
    lines: list[Line2D] = []
    for role, colour in (("control", HAIRLINE), ("run", FLOW)) if joined else ():
        along = sorted((p for p in points if p.role == role), key=lambda p: p.macs)
        lines += axes.plot(
            [p.macs * scale for p in along], [p.accuracy * 100 for p in along], color=colour, lw=1.2, zorder=2
        )
    if plain:
        axes.axhline(plain.accuracy * 100, color=INK, lw=0.7, ls=(0, (1, 3)), zorder=1)
    for role, mark in MARKS.items():
        shown = [p for p in points if p.role == role]
        if shown:
            xs, ys = [p.macs * scale for p in shown], [p.accuracy * 100 for p in shown]
            axes.plot(xs, ys, ls="", zorder=3, label=NAMES[role], **mark)
    axes.margins(0.14, 0.18)
    up_to_all(axes)
    axes.set_axisbelow(True)
    axes.grid(color=RULE, lw=0.5)
    axes.locator_params(nbins=7)
    axes.set_xlabel(f"MACs of one image, {unit}")
    axes.set_ylabel("accuracy, %")
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=3,
        frameon=False,
        fontsize=SMALL,
        handletextpad=0.2,
        columnspacing=1.4,
        borderaxespad=0.1,
    )
    _labels(figure, axes, points, scale, lines)
    return figure


def _labels(figure: Figure, axes: Axes, points: Sequence[Point], scale: float, lines: Sequence[Line2D]) -> None:
    """Beside each mark, at the first place where a label covers no mark, no line, no other label and not the edge."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    figure.draw_without_rendering()
    inside = axes.get_window_extent(renderer)
    centres = [axes.transData.transform((p.macs * scale, p.accuracy * 100)) for p in points]
    along = [xy for line in lines for xy in _along(axes.transData.transform(line.get_xydata()))]
    level = [axes.transData.transform((0, p.accuracy * 100))[1] for p in points if p.role == "plain"][:1]
    radius = 5 * figure.dpi / 72
    taken: list[Any] = []
    for point in points:
        best, least = None, None
        for dx, dy, ha, va in OFFSETS:
            text = axes.annotate(
                point.label, (point.macs * scale, point.accuracy * 100), xytext=(dx, dy), textcoords="offset points",
                ha=ha, va=va, size=SMALL, color=INK, zorder=4,
            )  # fmt: skip
            box = text.get_window_extent(renderer)
            marks = sum(
                box.x0 - radius < x < box.x1 + radius and box.y0 - radius < y < box.y1 + radius for x, y in centres
            )
            crossed = any(box.x0 < x < box.x1 and box.y0 < y < box.y1 for x, y in along)
            crossed = crossed or any(box.y0 < y < box.y1 for y in level)
            outside = not (inside.x0 <= box.x0 and box.x1 <= inside.x1 and inside.y0 <= box.y0 and box.y1 <= inside.y1)
            cost = marks + 0.5 * crossed + 3 * sum(box.overlaps(other) for other in taken) + 2 * outside
            if least is None or cost < least:
                if best is not None:
                    best.remove()
                best, least = text, cost
            else:
                text.remove()
            if least == 0:
                break
        assert best is not None
        taken.append(best.get_window_extent(renderer))


def _along(corners: Any) -> list[tuple[float, float]]:
    """Points along a line through some corners, close enough that no label slips between them."""
    ends = itertools.pairwise(corners)
    return [(float(x), float(y)) for a, b in ends for x, y in a + (b - a) * np.linspace(0, 1, 100)[:, None]]
