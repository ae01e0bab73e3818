"""Figure 4 and table 3 of Coded ResNeXt, and the reliability of the network's confidence."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from torchpaths.decoding.calibration import BINS, Calibration
from torchpaths.decoding.draw_classes import room
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
    styled,
    text_width,
)

WAYS = {"unscaled": "as it is", "temperature": "one temperature", "decoders": "with early decoders"}


@styled
def draw_decoders(early: Early, title: str) -> Figure:
    """A bar for each block: how often its energies are nearest to the codeword of the label (figure 4)."""
    blocks = len(early.sites)
    names = [site.removesuffix(".branches") for site in early.sites]
    title, note = f"Early decoders: {title}", "how often a block’s energies are nearest to the label’s codeword"
    long = text_width(names, SMALL)
    upright = long > 0.44
    left, bottom, height = 0.62, 0.42 + (long if upright else 0.14), 2.3
    wide = max(0.5 * blocks, room(title, note) - left - 0.9)
    figure = new_figure(left + wide + 0.9, bottom + height + 0.66)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, left, bottom, wide, height)
    colours = [DEPTH_MAP(i / max(1, blocks - 1)) for i in range(blocks)]
    values = 100 * np.nan_to_num(early.decoders)
    axes.bar(range(blocks), values, width=0.62, color=colours, zorder=2)
    for i, value in enumerate(early.decoders):
        text = "–" if np.isnan(value) else f"{100 * value:.1f}"
        axes.annotate(
            text, (i, values[i]), (0, 3), textcoords="offset points", ha="center", size=SMALL, zorder=3,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.4},
        )  # fmt: skip
    axes.axhline(100 * early.accuracy, color=ACCENT, lw=0.9, ls=(0, (4, 3)), zorder=1)
    axes.text(
        blocks - 0.45,
        100 * early.accuracy,
        f" network\n {100 * early.accuracy:.1f} %",
        size=SMALL,
        color=ACCENT,
        va="center",
    )
    axes.set_xlim(-0.55, blocks - 0.45)
    axes.set_ylim(0, 112)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xticks(range(blocks), names, size=SMALL, rotation=90 if upright else 0)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("coded block")
    axes.set_ylabel("accuracy, %")
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)
    return figure


@styled
def draw_agreement(early: Early, title: str) -> Figure:
    """A bar for each number of decoders that agree with the network: how often it is right then (table 3)."""
    rows = early.table()
    title, note = f"Agreement of early decoders: {title}", "how often the network is right, and on how many images"
    left, bottom, height = 0.62, 0.62, 2.3
    wide = max(0.62 * len(rows), room(title, note) - left - 0.9)
    figure = new_figure(left + wide + 0.9, bottom + height + 0.66)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, left, bottom, wide, height)
    values = [100 * (row.accuracy or 0.0) for row in rows]
    axes.bar(range(len(rows)), values, width=0.62, color=FLOW, zorder=2)
    for i, row in enumerate(rows):
        text = "–" if row.accuracy is None else f"{100 * row.accuracy:.1f}"
        axes.annotate(
            text, (i, values[i]), (0, 3), textcoords="offset points", ha="center", size=SMALL, zorder=3,
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.4},
        )  # fmt: skip
    axes.axhline(100 * early.accuracy, color=ACCENT, lw=0.9, ls=(0, (4, 3)), zorder=1)
    axes.text(
        len(rows) - 0.4,
        100 * early.accuracy,
        f" all\n {100 * early.accuracy:.1f} %",
        size=SMALL,
        color=ACCENT,
        va="center",
    )
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylim(0, 112)
    axes.set_yticks(range(0, 101, 20))
    axes.set_xticks(range(len(rows)), [f"{row.label}\n{row.images:,}" for row in rows], size=SMALL)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("decoders that agree with the network, images")
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
        axes.set_title(
            f"{WAYS[name]}\nECE {100 * told.ece:.2f} %, NLL {way.nll:.3f}", size=SMALL, loc="left", color=INK
        )
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
