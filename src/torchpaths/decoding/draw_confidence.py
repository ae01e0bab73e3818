"""Figure 4 and table 3 of Coded ResNeXt, and the reliability of the network's confidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from torchpaths.decoding.calibration import Calibration
from torchpaths.decoding.early import Early
from torchpaths.surveys.figures.style import (
    ACCENT,
    DEPTH_MAP,
    FLOW,
    INK,
    PALE,
    PAPER,
    RULE,
    SMALL,
    SOFT,
    add_axes,
    heading,
    new_figure,
    room,
    styled,
    text_width,
)
from torchpaths.trust.reliability import BINS

WAYS = {"unscaled": "as it is", "temperature": "one temperature", "decoders": "with early decoders"}


@styled
def draw_decoders(early: Early, title: str) -> Figure:
    """A bar for each block: how often its energies are nearest to the codeword of the label (figure 4)."""
    blocks = len(early.sites)
    names = [site.removesuffix(".branches") for site in early.sites]
    heads = f"Early decoders: {title}", "how often a block’s energies are nearest to the label’s codeword"
    values = [None if np.isnan(value) else float(value) for value in early.decoders]
    colours = [DEPTH_MAP(i / max(1, blocks - 1)) for i in range(blocks)]
    long = text_width(names, SMALL)
    upright = long if long > 0.44 else 0.0
    return _bars(values, names, "coded block", heads, early.accuracy, "network", colours, each=0.5, upright=upright)


@styled
def draw_agreement(early: Early, title: str) -> Figure:
    """A bar for each number of decoders that agree with the network: how often it is right then (table 3)."""
    rows = early.table()
    heads = f"Agreement of early decoders: {title}", "how often the network is right, and on how many images"
    names = [f"{row.label}\n{row.images:,}" for row in rows]
    below = "decoders that agree with the network, images"
    return _bars([row.accuracy for row in rows], names, below, heads, early.accuracy, "all", FLOW, each=0.62)


def _bars(
    values: Sequence[float | None],
    names: Sequence[str],
    below: str,
    heads: tuple[str, str],
    whole: float,
    called: str,
    colours: Any,
    each: float,
    upright: float = 0.0,
) -> Figure:
    """Bars of accuracies, each with its number, and a line for that of everything.

    Args:
        values: accuracies, 0 to 1; None where there is none.
        names: under the bars.
        below: what the names are.
        heads: title and note.
        whole: the accuracy of everything.
        called: what that is.
        colours: of the bars.
        each: inches for a bar.
        upright: inches that the longest name takes; 0 to write names level.
    """
    count = len(values)
    left, bottom, height = 0.62, 0.42 + (upright or 0.2), 2.3
    wide = max(each * count, room(*heads) - left - 0.9)
    figure = new_figure(left + wide + 0.9, bottom + height + 0.66)
    heading(figure, 0.15, *heads)
    axes = add_axes(figure, left, bottom, wide, height)
    shown = [100 * (value or 0.0) for value in values]
    axes.bar(range(count), shown, width=0.62, color=colours, zorder=2)
    for i, value in enumerate(values):
        text = "–" if value is None else f"{100 * value:.1f}"
        axes.annotate(
            text, (i, shown[i]), (0, 3), textcoords="offset points", ha="center", size=SMALL, zorder=3,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.4},
        )  # fmt: skip
    axes.axhline(100 * whole, color=ACCENT, lw=0.9, ls=(0, (4, 3)), zorder=1)
    axes.text(count - 0.4, 100 * whole, f" {called}\n {whole:.1%}", size=SMALL, color=ACCENT, va="center")
    axes.set_xlim(-0.6, count - 0.4)
    axes.set_ylim(0, 100)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xticks(range(count), list(names), size=SMALL, rotation=90 if upright else 0)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel(below)
    axes.set_ylabel("accuracy, %")
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)
    return figure


@styled
def draw_reliability(calibration: Calibration, title: str) -> Figure:
    """Accuracy by confidence, for each way to calibrate, and the share of images in each bin."""
    left, bottom, side, low, gap = 0.62, 0.5, 1.9, 0.4, 0.34
    title = f"Confidence and accuracy: {title}"
    note = f"fitted on {calibration.fitted_on:,} test images, measured on {calibration.measured_on:,} others"
    wide = max(left + len(calibration.ways) * (side + gap), room(title, note))
    figure = new_figure(wide, bottom + low + 0.12 + side + 0.9)
    heading(figure, 0.15, title, note)
    centres = (np.arange(BINS) + 0.5) * 100 / BINS
    for i, (name, way) in enumerate(calibration.ways.items()):
        told = way.reliability
        axes = add_axes(figure, left + i * (side + gap), bottom + low + 0.12, side, side)
        axes.bar(centres, 100 * np.nan_to_num(told.accuracy), width=100 / BINS * 0.86, color=FLOW, zorder=2)
        filled = told.images > 0
        axes.plot(
            100 * told.confidence[filled],
            100 * told.accuracy[filled],
            "o",
            color=INK,
            ms=2.5,
            mew=0,
            zorder=4,
            clip_on=False,
        )
        axes.plot([0, 100], [0, 100], color=ACCENT, lw=0.9, ls=(0, (4, 3)), zorder=3)
        axes.set_title(f"{WAYS[name]}\nECE {told.ece:.2%}, NLL {way.nll:.3f}", size=SMALL, loc="left", color=INK)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.set_yticks([0, 50, 100])
        axes.tick_params(labelbottom=False, labelleft=i == 0)
        axes.grid(color=RULE, lw=0.5)
        axes.set_axisbelow(True)
        share = add_axes(figure, left + i * (side + gap), bottom, side, low)
        share.bar(centres, 100 * told.images / told.images.sum(), width=100 / BINS * 0.86, color=PALE)
        share.set_xlim(0, 100)
        share.set_ylim(0, 100)
        share.set_xticks([0, 50, 100])
        share.set_yticks([0, 100])
        share.tick_params(labelleft=i == 0)
        share.set_xlabel("confidence, %", labelpad=2)
        if i == 0:
            axes.set_ylabel("accuracy, %")
            share.set_ylabel("images, %", size=6.5, color=SOFT)
    return figure
