"""Figures 3 and 4 of AdaptiveDepth: accuracy by depth, distances of norms, activation maps by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from torchpaths.depth.norms import NormDistance
from torchpaths.depth.patterns import Depth
from torchpaths.surveys.figures.style import (
    ACCENT,
    DEPTH_MAP,
    FLOW,
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
    room,
    shorten,
    styled,
    text_width,
)

NAME = 5.5
"""Size of the norms' names in points."""


@styled
def draw_depths(depths: Sequence[Depth], plain_macs: int, title: str, references: Mapping[str, float]) -> Figure:
    """A dot of accuracy for each depth, its MACs under it (figure 3a): no bars, as the axis does not begin at 0.

    Args:
        depths: in the order in which they are drawn.
        plain_macs: of one image through the plain network.
        title: what was measured on what.
        references: name -> accuracy (0 to 1) of networks trained separately, drawn as lines.
    """
    left, bottom, height = 0.62, 0.62, 2.5
    title = f"Accuracy at every depth: {title}"
    note = "T: the stage leaves its last blocks out, F: it does not; dark: trained, light: never seen in training"
    wide = max(0.42 * len(depths), room(title, note) - left - 0.75)
    figure = new_figure(left + wide + 0.95, bottom + height + 0.62)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, left, bottom, wide, height)
    values = [100 * depth.accuracy for depth in depths]
    trained = [set(depth.skip) in ({"F"}, {"T"}) for depth in depths]
    for face, kind in ((FLOW, True), (PALE, False)):
        across = [i for i, t in enumerate(trained) if t is kind]
        axes.plot(across, [values[i] for i in across], "o", color=face, ms=7, zorder=3, clip_on=False)
    patch = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5}  # a line of a reference may run behind the number
    for i, value in enumerate(values):
        axes.annotate(
            f"{value:.1f}",
            (i, value),
            (0, 6),
            textcoords="offset points",
            ha="center",
            size=SMALL,
            bbox=patch,
            zorder=1.5,
        )
    shown = [*values, *(100 * r for r in references.values())]
    low = min(shown)
    span = max(max(shown) - low, 1.0)
    axes.set_ylim(max(0.0, low - 0.45 * span), min(100.0, max(shown) + 0.25 * span))
    for name, accuracy in references.items():
        axes.axhline(100 * accuracy, color=ACCENT, lw=0.8, ls=(0, (4, 3)), zorder=1)
        axes.text(len(depths) - 0.4, 100 * accuracy, f" {name}", size=SMALL, color=ACCENT, va="center")
    axes.set_xlim(-0.6, len(depths) - 0.4)
    labels = [f"{depth.skip}\n{depth.macs / plain_macs:.0%}" for depth in depths]
    axes.set_xticks(range(len(depths)), labels, size=SMALL)
    axes.tick_params(axis="x", length=0)
    axes.set_xlabel("stages left out, and MACs of the plain network’s")
    axes.set_ylabel("accuracy, %")
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)
    return figure


@styled
def draw_norms(distances: Sequence[NormDistance], title: str) -> Figure:
    """A bar for each norm with two versions, stages side by side in colours of depth (figure 3b)."""
    sites = list(dict.fromkeys(entry.site for entry in distances))
    names = [shorten(entry.norm) for entry in distances]
    left, bottom, height = 0.62, 0.5 + text_width(names, NAME), 2.2
    title = f"Norms with two versions: {title}"
    note = "distance of the running means for super-net and base-net, in standard deviations, mean over channels"
    wide = max(0.2 * (len(distances) + len(sites)), room(title, note) - left)
    figure = new_figure(left + wide + 0.2, bottom + height + 0.62)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, left, bottom, wide, height)
    position, ticks, places = 0.0, [], []
    for i, site in enumerate(sites):
        values = [entry.distance for entry in distances if entry.site == site]
        across = position + np.arange(len(values))
        axes.bar(across, values, width=0.7, color=DEPTH_MAP(i / max(1, len(sites) - 1)), zorder=2)
        ticks.append(float(across.mean()))
        places += across.tolist()
        position = float(across[-1]) + 2
    axes.set_xticks(places, names, size=NAME, rotation=90)
    axes.tick_params(axis="x", length=0)
    for tick, site in zip(ticks, sites, strict=True):
        axes.annotate(shorten(site), (tick, 1), (0, 2), ("data", "axes fraction"), "offset points", ha="center")
    axes.set_ylabel("distance, σ")
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)
    return figure


@styled
def draw_maps(
    pixels: NDArray[np.uint8], rows: Mapping[str, Mapping[str, Tensor]], blocks: Sequence[str], title: str
) -> Figure:
    """Activation maps by block over one image, a row for each network or depth (figure 4).

    Args:
        pixels: the image, uint8 ``[height, width, channel]``.
        rows: name -> {block -> map ``[height, width]``}; blocks left out are absent.
        blocks: columns.
        title: what is shown.
    """
    tile, gap, over, under = 0.82, 0.08, 0.84, 0.12
    left = max(text_width(list(rows), TEXT, "bold"), 0.5) + 0.3
    title, note = f"Where each block looks: {title}", "Grad-CAM of each block’s output, each map by itself"
    wide = max(left + (len(blocks) + 1) * (tile + gap), room(title, note))
    figure = new_figure(wide + 0.15, over + len(rows) * (tile + gap) + under)
    width, height = figure.get_size_inches()
    heading(figure, 0.15, title, note)
    shade = np.asarray(pixels[..., :3].mean(-1), np.float64)
    for row, (name, maps) in enumerate(rows.items()):
        bottom = height - over - (row + 1) * (tile + gap) + gap
        middle = (bottom + tile / 2) / height
        figure.text((left - 0.12) / width, middle, name, ha="right", va="center", size=TEXT, weight="bold")
        for column, block in enumerate([None, *blocks]):
            if block is not None and block not in maps:
                continue
            axes = add_axes(figure, left + column * (tile + gap), bottom, tile, tile)
            axes.set_xticks([])
            axes.set_yticks([])
            for spine in axes.spines.values():
                spine.set_visible(True)
                spine.set_color(HAIRLINE)
            if block is None:
                axes.imshow(pixels if pixels.shape[-1] == 3 else shade, cmap="gray", vmin=0, vmax=255)
            else:
                axes.imshow(shade, cmap="gray", vmin=0, vmax=255)
                axes.imshow(_stretched(maps[block], shade.shape), cmap="inferno", vmin=0, vmax=1, alpha=0.62)
            if row == 0:
                label = "image" if block is None else shorten(block, 12)
                axes.set_title(label, size=SMALL, color=SOFT if block is None else INK, pad=3)
    return figure


def _stretched(values: Tensor, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A map as large as the image, its largest value 1."""
    large = functional.interpolate(values.float()[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0]
    return np.asarray((large / large.max().clamp(min=1e-12)).cpu().numpy(), np.float32)
