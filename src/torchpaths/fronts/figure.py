"""The front drawn: accuracy against MACs, and against milliseconds where times were measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from torchpaths.fronts.measured import Profile
from torchpaths.fronts.points import Point
from torchpaths.fronts.result import Front
from torchpaths.surveys.figures.style import (
    DEEP,
    FLOW,
    HAIRLINE,
    INK,
    PALE,
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

MARKS: dict[str, dict[str, Any]] = {
    "gates": {"marker": "o", "mfc": FLOW, "mec": PAPER, "ms": 6.5, "mew": 0.8},
    "path": {"marker": "D", "mfc": PAPER, "mec": DEEP, "ms": 4.6, "mew": 1.2},
    "plain": {"marker": "o", "mfc": PAPER, "mec": INK, "ms": 7.0, "mew": 1.5},
    "twin": {"marker": "s", "mfc": INK, "mec": PAPER, "ms": 6.0, "mew": 0.8},
}
NAMES = {
    "gates": "gates decide",
    "path": "one path for all images",
    "plain": "these weights, all open",
    "twin": "the plain network",
}

LEFT, BOTTOM, HEIGHT, WIDE, GAP = 0.66, 0.62, 2.62, 3.9, 0.34
"""Inches: where the first panel stands, how large panels are, how far apart."""

DEPTH = 0.25
"""How far below the plain network's accuracy points are still drawn: further down nobody would choose one, and they
would press the others together."""


@styled
def draw_front(front: Front, profile: Profile | None = None, twin: float | None = None) -> Figure:
    """The points worth having, what was tried, everything open, and the plain network where it is known.

    Args:
        front: any front.
        profile: one of its profiles, for the second panel; None draws the first one, or no second panel.
        twin: accuracy, 0 to 1, of the plain network trained alike; None where there is none.
    """
    profile = front.profiles[0] if profile is None and front.profiles else profile
    panels = 1 if profile is None else 2
    figure = new_figure(LEFT + panels * WIDE + (panels - 1) * GAP + 0.25, 4.15)
    lowest = front.accuracy - DEPTH
    menu = front.menu(profile)
    points = [point for point in menu if point.accuracy >= lowest]
    title = f": {front.name} on {front.dataset}" if front.dataset else f": {front.name}"
    heading(figure, 0.15, f"What accuracy costs{title}", _note(profile, len(menu) - len(points), lowest))
    first = add_axes(figure, LEFT, BOTTOM, WIDE, HEIGHT)
    scale = 100 / front.layout.plain.macs
    tried = [(macs * scale, accuracy * 100) for macs, accuracy in front.cloud if accuracy >= lowest]
    _panel(first, front, points, [point.macs * scale for point in points], 100.0, tried, twin)
    first.set_xlabel(f"mean MACs of an image, % of the plain network’s {front.layout.plain.macs / 1e6:,.4g} M")
    first.set_ylabel(f"accuracy on {front.images:,} images, %")
    if profile is not None:
        second = add_axes(figure, LEFT + WIDE + GAP, BOTTOM, WIDE, HEIGHT, sharey=first)
        _panel(second, front, points, [point.ms or 0.0 for point in points], profile.plain_ms, [], twin)
        second.tick_params(labelleft=False)
        batch = profile.setting.batch
        second.set_xlabel("milliseconds for an image" if batch == 1 else f"milliseconds for a batch of {batch}")
    first.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=5 if panels == 2 else 2,
        frameon=False,
        fontsize=SMALL,
        handletextpad=0.2,
        columnspacing=1.4,
        borderaxespad=0.1,
    )
    return figure


def _note(profile: Profile | None, below: int, lowest: float) -> str:
    parts = []
    if profile is not None:
        where = profile.setting
        threads = f"{where.threads} thread{'s' if where.threads > 1 else ''}"
        parts.append(f"times on {where.device}, {threads}, {where.dtype}, batch {where.batch}")
    if below:
        parts.append(f"{below} more point{'s' if below > 1 else ''} below {lowest:.0%}")
    return "; ".join(parts)


def _panel(
    axes: Axes,
    front: Front,
    points: Sequence[Point],
    across: Sequence[float],
    plain: float,
    tried: Sequence[tuple[float, float]],
    twin: float | None,
) -> None:
    """Points by accuracy and one cost, those joined that none of their kind beats in these two; ``plain``: the plain
    network's cost."""
    axes.axhline(front.accuracy * 100, color=INK, lw=0.7, ls=(0, (1, 3)), zorder=1)
    if tried:
        xs, ys = zip(*tried, strict=True)
        axes.plot(
            xs,
            ys,
            ls="",
            marker=".",
            ms=3.2,
            mfc=PALE,
            mec="none",
            zorder=2,
            label=f"tried, on {front.searched:,} images",
        )
    for fixed, role, colour in ((False, "gates", FLOW), (True, "path", HAIRLINE)):
        shown = sorted((x, p.accuracy * 100) for x, p in zip(across, points, strict=True) if p.fixed is fixed)
        if shown:
            axes.plot(*zip(*rising(shown), strict=True), color=colour, lw=1.1, zorder=3)
            axes.plot(*zip(*shown, strict=True), ls="", zorder=4, label=NAMES[role], **MARKS[role])
    axes.plot([plain], [front.accuracy * 100], ls="", zorder=5, label=NAMES["plain"], **MARKS["plain"])
    if twin is not None:
        axes.plot([plain], [twin * 100], ls="", zorder=5, label=NAMES["twin"], **MARKS["twin"])
    for x, point in zip(across, points, strict=True):
        if point.path is None and point.threshold == 0:
            axes.annotate(
                "as trained",
                (x, point.accuracy * 100),
                xytext=(12, -32),
                textcoords="offset points",
                ha="left",
                size=SMALL,
                color=SOFT,
                arrowprops={"arrowstyle": "-", "color": SOFT, "lw": 0.6, "shrinkB": 4},
                zorder=6,
            )
    axes.margins(0.07, 0.1)
    up_to_all(axes)
    axes.set_axisbelow(True)
    axes.grid(color=RULE, lw=0.5)
    axes.locator_params(nbins=7)


def rising(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of ``(cost, accuracy)`` in order of cost, those more accurate than all that cost less.

    A point that is on the menu for its MACs need not be worth its milliseconds.
    """
    before = itertools.accumulate((accuracy for _, accuracy in points), max, initial=-1.0)
    return [point for point, most in zip(points, before, strict=False) if point[1] > most]
