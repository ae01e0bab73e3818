"""Theorem 1 and figure 5 of network decoupling: what layers tell of the class, and their decisions in a plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from torchpaths.errors import DataError
from torchpaths.filtering.draw_states import by_position
from torchpaths.filtering.embedding import Points
from torchpaths.filtering.information import Bound, Information
from torchpaths.surveys.figures.style import (
    ACCENT,
    FLOW,
    INK,
    PAPER,
    RULE,
    SMALL,
    SOFT,
    add_axes,
    heading,
    in_key,
    new_figure,
    room,
    shorten,
    styled,
    text_width,
)

STYLES = (("-", "o", 1.0), ((0, (4, 2)), "s", 0.55), ((0, (1, 1.5)), "^", 0.4))
"""Of the networks compared: line, mark, opacity."""


@styled
def draw_information(found: Mapping[str, Information], title: str) -> Figure:
    """What decisions and features of each layer tell of the class, of one network or several, with two standard errors.

    Layers in the same position of their blocks stand in one panel.

    Args:
        found: name of a network -> its bounds; at most three.
        title: of the networks and data.

    Raises:
        DataError: for none, more than three, or networks without layers in common.
    """
    if not 1 <= len(found) <= len(STYLES):
        raise DataError(f"{len(found)} networks to compare; give one to {len(STYLES)}.")
    every = [set(one.encodings) for one in found.values()]
    sites = [s for s in next(iter(found.values())).encodings if all(s in names for names in every)]
    if not sites:
        raise DataError("the networks have no layer in common that images came to; compare networks of one model.")
    panels = by_position(sites)
    most = max(len(members) for members in panels.values())
    labels = {p: [shorten(m.removesuffix(f".{p}") if p else m, 26) for m in members] for p, members in panels.items()}
    under = max(text_width(names, SMALL) for names in labels.values()) + 0.12
    each, left, height, between = float(np.clip(8.0 / most, 0.16, 0.45)), 0.6, 1.7, 0.36
    handles, key = _key(found)
    over = 0.88 + 0.17 * (len(found) > 1)
    first = next(iter(found.values()))
    title = f"What layers tell of the class: {title}"
    note = "lower bounds of mutual information by linear classifiers; bars: ±2 standard errors"
    wide = max(each * most, max(room(title, note), key) - left - 0.7, 4.6)
    total = over + len(panels) * (height + between + under) - between + 0.34
    figure = new_figure(left + wide + 0.75, total)
    heading(figure, 0.15, title, note)
    for i, (position, members) in enumerate(panels.items()):
        bottom = total - over - (i + 1) * height - i * (between + under)
        axes = add_axes(figure, left, bottom, wide, height)
        at = np.arange(len(members))
        for one, (line, mark, opacity) in zip(found.values(), STYLES, strict=False):
            for bounds, colour in ((one.features, FLOW), (one.encodings, ACCENT), (one.heads, SOFT)):
                if not bounds:
                    continue
                values = [_of(bounds, m) for m in members]
                axes.errorbar(
                    at, [v for v, _ in values], [2 * e for _, e in values], color=colour, ls=line, marker=mark,
                    ms=3.2, lw=1.2, elinewidth=0.7, mec=PAPER, mew=0.4, alpha=opacity, zorder=3,
                )  # fmt: skip
        most_bits = next(iter(first.encodings.values())).entropy
        axes.axhline(most_bits, color=INK, lw=0.7, ls=(0, (1, 3)))
        axes.annotate(
            f"H(c)\n{most_bits:.2f}", (1, most_bits), (3, 0), ("axes fraction", "data"), textcoords="offset points",
            size=6.5, va="center",
        )  # fmt: skip
        axes.axhline(0, color=RULE, lw=0.8)
        drawn = [
            b[m].bits for o in found.values() for b in (o.features, o.encodings, o.heads) for m in members if m in b
        ]
        low = min(drawn, default=0.0)
        axes.set_ylim(min(-0.12, low - 0.1) if low > -1 else -1, most_bits * 1.08)
        axes.set_xlim(-0.6, most - 0.4)
        axes.set_xticks(at, labels[position], rotation=90, size=SMALL)
        axes.set_ylabel("bits")
        axes.grid(axis="y", color=RULE, lw=0.5)
        axes.set_axisbelow(True)
        if position:
            axes.set_title(position, size=SMALL, loc="left", weight="bold", pad=3)
        if i == len(panels) - 1:
            axes.set_xlabel("layer")
    for i, row in enumerate(handles):
        figure.legend(
            handles=row, loc="upper left", bbox_to_anchor=(0.15 / (left + wide + 0.75), 1 - (0.54 + 0.17 * i) / total),
            ncols=3, frameon=False, fontsize=SMALL, handlelength=2.2, columnspacing=1.3, borderaxespad=0, borderpad=0,
        )  # fmt: skip
    return figure


def _key(found: Mapping[str, Information]) -> tuple[list[list[Line2D]], float]:
    """Lines of the legend, what colours mean and, of several networks, what lines mean; and its width in inches."""
    colours = [("features, I(c; y)", FLOW), ("decisions, I(c; z)", ACCENT)]
    if any(one.heads for one in found.values()):
        colours.append(("decisions, by the training’s class heads", SOFT))
    lines = [[Line2D([], [], color=colour, lw=1.6, label=text) for text, colour in colours]]
    if len(found) > 1:
        lines.append(
            [
                Line2D(
                    [],
                    [],
                    color=INK,
                    ls=line,
                    marker=mark,
                    ms=3.2,
                    lw=1.2,
                    alpha=opacity,
                    label=in_key(name),
                )
                for name, (line, mark, opacity) in zip((shorten(n, 32) for n in found), STYLES, strict=False)
            ]
        )
    widths = [sum(text_width([str(h.get_label())], SMALL) + 0.5 for h in row) for row in lines]
    return lines, max(widths) + 0.3


def _of(bounds: Mapping[str, Bound], site: str) -> tuple[float, float]:
    return (bounds[site].bits, bounds[site].error) if site in bounds else (float("nan"), float("nan"))


@styled
def draw_points(found: Mapping[str, Points], classes: Sequence[str], title: str) -> Figure:
    """A panel for each layer: a point for each image, coloured by its class (figure 5).

    Args:
        found: see `torchpaths.filtering.embed`.
        classes: names; of more than twenty, colours go by number and are not told.
        title: of the network and data.

    Raises:
        DataError: if there is no layer to draw.
    """
    if not found:
        raise DataError("no layer decides differently for different images, so there is nothing to draw.")
    count = len(classes)
    colours = matplotlib.colormaps["tab10" if count <= 10 else "tab20"] if count <= 20 else matplotlib.colormaps["hsv"]
    side, left, bottom, gap, over = 2.4, 0.2, 0.25, 0.2, 0.96
    title = f"Decisions of layers in a plane: {title}"
    note = "t-SNE; a point is an image, its colour the class; equal decisions crowd around one spot; no unit"
    keyed = count <= 20
    key = text_width([shorten(c, 18) for c in classes], SMALL) + 0.35 if keyed else 0.1
    wide = max(left + len(found) * (side + gap) + key, room(title, note))
    figure = new_figure(wide, bottom + side + over)
    heading(figure, 0.15, title, note)
    for i, (site, points) in enumerate(found.items()):
        axes = add_axes(figure, left + i * (side + gap), bottom, side, side)
        at = _apart(points)
        for c in range(count):
            own, name = points.labels == c, in_key(shorten(classes[c], 18))
            colour = colours(c) if keyed else colours(c / count)
            axes.scatter(at[own, 0], at[own, 1], s=5, color=colour, lw=0, alpha=0.8, label=name)
        axes.set_title(
            f"{shorten(site, 28)}\n{len(points.labels):,} images, {points.distinct:,} different decisions",
            size=SMALL,
            loc="left",
        )
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color(RULE)
    if keyed:
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.04, 1.0), frameon=False, fontsize=SMALL, markerscale=2,
            handlelength=0.8, borderaxespad=0, handletextpad=0.4, labelspacing=0.3,
        )  # fmt: skip
    return figure


def _apart(points: Points) -> NDArray[np.float64]:
    """Images of one decision set apart around its spot, like the seeds of a sunflower, so that each can be seen."""
    at = points.at.astype(np.float64)
    span = np.maximum(np.ptp(at, axis=0), 1e-6)  # each axis by itself: panels are square
    for decision in range(points.distinct):
        own = np.flatnonzero(points.decision == decision)
        step = min(0.016, 0.09 / np.sqrt(len(own)))
        k = np.arange(len(own))
        turn = k * np.pi * (3 - np.sqrt(5))
        at[own] += step * span * np.sqrt(k)[:, None] * np.stack([np.cos(turn), np.sin(turn)], 1)
    return at
