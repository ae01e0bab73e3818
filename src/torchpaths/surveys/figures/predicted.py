"""Images with the path that each took beneath it: what ran, what did not, and what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from torchpaths.errors import DataError
from torchpaths.layout import Layout
from torchpaths.surveys.figures.style import (
    HAIRLINE,
    RATE_MAP,
    SMALL,
    SOFT,
    TEXT,
    add_axes,
    heading,
    new_figure,
    room,
    shorten,
    styled,
)

TILE, GAP, STRIP, UNDER = 1.7, 0.25, 0.16, 0.62
"""Inches: an image, what is between two, the path beneath, and room for words."""
COLUMNS, MOST = 4, 24


@dataclass(frozen=True, eq=False)
class Taken:
    """An image and the path it took.

    Attributes:
        pixels: uint8 ``[H, W, C]``.
        said: what stands above it.
        opened: unit -> whether it ran.
        macs: of what ran, as a share of the plain network's.
        name: what the image is called, beneath.
    """

    pixels: NDArray[np.uint8]
    said: str
    opened: Mapping[str, bool]
    macs: float
    name: str = ""


@styled
def paths_taken(taken: Sequence[Taken], layout: Layout, title: str = "") -> Figure:
    """Images in a grid, each with a cell for every site beneath it, from left to right in order of execution: the
    darker, the more of its units ran.

    Args:
        taken: what to draw, at most `MOST`.
        layout: of the network.
        title: of the network, for the heading.

    Raises:
        DataError: for nothing to draw.
    """
    if not taken:
        raise DataError("nothing to draw; give at least one image.")
    shown = taken[:MOST]
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    above = 0.78
    words = f"Which blocks ran{': ' + title if title else ''}"
    note = "beneath each image a cell for each block, in order; filled: it ran"
    wide = max(columns * (TILE + GAP) + 0.15, room(words, note) if layout.units else 0.0)
    figure = new_figure(wide, above + rows * (TILE + STRIP + UNDER))
    if layout.units:
        heading(figure, 0.15, words, note)
    tall = figure.get_size_inches()[1]
    for number, one in enumerate(shown):
        row, column = divmod(number, columns)
        left = 0.15 + column * (TILE + GAP)
        bottom = tall - above - row * (TILE + STRIP + UNDER) - TILE
        axes = add_axes(figure, left, bottom, TILE, TILE)
        axes.imshow(one.pixels.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axes.set_title(shorten(one.said, 26), size=TEXT, loc="left", pad=3)
        axes.set_axis_off()
        if layout.units:
            _strip(figure, one, layout, left, bottom - 0.04 - STRIP)
    return figure


def _strip(figure: Figure, one: Taken, layout: Layout, left: float, bottom: float) -> None:
    axes = add_axes(figure, left, bottom, TILE, STRIP)
    shares = [np.mean([one.opened[unit.name] for unit in units]) for units in layout.sites.values()]
    for i, share in enumerate(shares):
        face = RATE_MAP(float(share)) if share else "none"
        axes.add_patch(Rectangle((i + 0.08, 0), 0.84, 1, facecolor=face, edgecolor=HAIRLINE, linewidth=0.6))
    axes.set(xlim=(0, len(shares)), ylim=(-0.05, 1.05))
    axes.set_axis_off()
    ran = sum(one.opened.values())
    told = f"{ran} of {len(one.opened)} ran, {one.macs:.1%} of the MACs"
    if one.name:
        told = f"{shorten(one.name, 32)}\n{told}"
    axes.annotate(told, (0, 0), xytext=(0, -3), textcoords="offset points", va="top", size=SMALL, color=SOFT)
