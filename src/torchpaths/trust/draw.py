"""Figures of trust: calibration by budget and by path; accuracy against MACs as suspicious images are asked again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

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
    styled,
    text_width,
)
from torchpaths.trust.calibration import Group
from torchpaths.trust.selective import Escalation

WAYS = {
    "unscaled": ("as it is", PALE),
    "first": ("the first budget’s temperature", FLOW),
    "one": ("one temperature", FLOW),
    "own": ("its own temperature", DEEP),
    "path": ("temperature by path", ACCENT),
}


@styled
def draw_calibration(budgets: Sequence[Group], paths: Sequence[Group], title: str) -> Figure:
    """The expected calibration error of each group, for each way to make confidence."""
    title = f"Calibration: {title}"
    note = "expected calibration error; under each group its accuracy and images; half of the images are fitted on"
    panels = [("by budget", budgets), *([("from common to rare paths", paths)] if paths else [])]
    left, bottom, high, gap = 0.62, 0.62, 1.8, 0.5
    widths = [max(0.95 * len(groups), 2.2) for _, groups in panels]
    spare = room(title, note) - left - 0.2 - sum(widths) - gap * (len(panels) - 1)
    widths = [wide + max(0.0, spare) / len(panels) for wide in widths]
    figure = new_figure(left + sum(widths) + gap * (len(panels) - 1) + 0.2, bottom + high + 1.2)
    heading(figure, 0.15, title, note)
    most = max(100 * way.reliability.ece for _, groups in panels for group in groups for way in group.ways.values())
    start = left
    for (name, groups), wide in zip(panels, widths, strict=True):
        axes = add_axes(figure, start, bottom, wide, high)
        ways = list(groups[0].ways)
        each = 0.75 / len(ways)
        for j, way in enumerate(ways):
            label, colour = WAYS[way]
            at = np.arange(len(groups)) + (j - (len(ways) - 1) / 2) * each
            axes.bar(at, [100 * g.ways[way].reliability.ece for g in groups], each * 0.9, color=colour, label=label)
        axes.set_xticks(
            range(len(groups)), [f"{g.name}\n{g.accuracy:.1%}, {g.images:,}" for g in groups], size=SMALL, color=INK
        )
        axes.tick_params(axis="x", length=0)
        axes.set_ylim(0, 1.08 * max(most, 0.1))
        axes.set_xlim(-0.55, len(groups) - 0.45)
        axes.set_xlabel(name, weight="bold")
        axes.grid(axis="y", color=RULE, lw=0.5)
        axes.set_axisbelow(True)
        axes.legend(
            loc="lower left", bbox_to_anchor=(0, 1.0), ncols=1, frameon=False, fontsize=SMALL, borderaxespad=0.1,
            labelspacing=0.25, handlelength=1.2,
        )  # fmt: skip
        if start == left:
            axes.set_ylabel("ECE, %")
        start += wide + gap
    return figure


@styled
def draw_escalations(found: Mapping[str, Escalation], plain: float, title: str, budgets: str = "") -> Figure:
    """Accuracy against MACs, a line for each score; grey: images drawn by chance.

    Args:
        found: score -> curve.
        plain: MACs of the plain network.
        title: of the network and data.
        budgets: the two, in words.
    """
    title = f"Asking suspicious images again: {title}"
    told = "at the small budget first, at the large one too"
    note = f"{budgets or told}, where the first answer is suspicious"
    names = list(found)
    left, bottom, high = 0.62, 0.46, 2.4
    wide = max(3.8, room(title, note) - left - 0.3)
    figure = new_figure(left + wide + 0.3, bottom + high + 0.98)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, left, bottom, wide, high)
    colours = dict(zip(names, (ACCENT, DEEP, FLOW, PALE, INK, HAIRLINE), strict=False))
    for name, curve in found.items():
        by_score = name in ("softmax", "energy")
        style = {"softmax": (0, (4, 2)), "energy": (0, (1, 1.5))}.get(name, "-")
        colour = INK if by_score else colours[name]
        axes.plot(100 * curve.macs / plain, 100 * curve.accuracy, color=colour, ls=style, lw=1.3, label=name)
    first = next(iter(found.values()))
    axes.plot(100 * first.macs / plain, 100 * first.chance, color=HAIRLINE, lw=1.1, label="by chance", zorder=1)
    axes.set_xlabel(f"mean MACs of an image, % of the plain network’s {plain / 1e6:,.4g} M")
    axes.set_ylabel("accuracy, %")
    axes.grid(color=RULE, lw=0.5)
    axes.set_axisbelow(True)
    columns = min(len(names) + 1, int(wide // (text_width(names, SMALL) + 0.55)))
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, frameon=False, fontsize=SMALL, borderaxespad=0.1,
        handletextpad=0.4, columnspacing=1.2,
    )  # fmt: skip
    return figure
