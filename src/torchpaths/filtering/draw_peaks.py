"""Figure 6 of network decoupling: the images for which filters respond most, dark where the response does not reach."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from torchpaths.filtering.fields import Fields
from torchpaths.filtering.peaks import Peaks
from torchpaths.surveys.figures.images import ImageSource
from torchpaths.surveys.figures.style import (
    HAIRLINE,
    PAPER,
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

DIM = 0.22
"""How bright a pixel outside of the receptive field is left."""


@styled
def draw_peaks(found: Peaks, fields: Fields, images: ImageSource, classes: Sequence[str], title: str) -> Figure:
    """A row for each filter: the images of its largest responses, dimmed outside of the receptive field (figure 6).

    Args:
        found: of some filters, see `torchpaths.filtering.peaks.peaks`.
        fields: of the same layer.
        images: the same data; ``read(indices)`` gives uint8 ``[n, height, width, channel]``.
        classes: names, under the images.
        title: of the network and data.
    """
    rows, top = found.images.shape
    tile, gap, under, over = 0.72, 0.07, 0.22, 0.72
    names = [f"filter {f}" for f in found.filters]
    notes = [f"{n:,} images" for n in found.opened]
    left = max(text_width(names, TEXT, "bold"), text_width(notes, SMALL)) + 0.32
    high, wide = fields.size
    title = f"What filters of {shorten(found.site, 30)} see: {title}"
    note = (
        f"largest responses first; bright: receptive field, at most {high} × {wide} pixels; left: images that open it"
    )
    figure = new_figure(max(left + top * (tile + gap) + 0.15, room(title, note)), over + rows * (tile + under) + 0.06)
    width, height = figure.get_size_inches()
    heading(figure, 0.15, title, note)
    for i in range(rows):
        bottom = height - over - (i + 1) * (tile + under) + under
        middle = (bottom + tile / 2) / height
        at = (left - 0.14) / width
        figure.text(at, middle + 0.08 / height, names[i], ha="right", va="center", weight="bold", size=TEXT)
        figure.text(at, middle - 0.08 / height, notes[i], ha="right", va="center", size=SMALL, color=SOFT)
        there = found.images[i] >= 0
        pixels = np.asarray(images.read(found.images[i][there]))
        for k in range(int(there.sum())):
            axes = add_axes(figure, left + k * (tile + gap), bottom, tile, tile)
            _tile(axes, pixels[k], fields.mask(int(found.places[i, k])))
            name = shorten(classes[int(found.labels[i, k])], 11)
            axes.text(0.5, -0.05, name, transform=axes.transAxes, va="top", ha="center", size=6, color=SOFT)
        if not there.any():
            figure.text(left / width, middle, "no image opens it", size=SMALL, color=SOFT, va="center")
    return figure


def _tile(axes: Axes, pixels: NDArray[np.uint8], field: NDArray[np.bool_]) -> None:
    shown = pixels.repeat(3, -1) if pixels.shape[-1] == 1 else pixels
    bright = np.where(field[..., None], shown, shown * DIM).astype(np.uint8)
    axes.imshow(bright, interpolation="nearest", vmin=0, vmax=255)
    lines = np.flatnonzero(field.any(1)), np.flatnonzero(field.any(0))
    if all(map(len, lines)):
        (y0, y1), (x0, x1) = ((v[0] - 0.5, v[-1] + 0.5) for v in lines)
        axes.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=PAPER, lw=0.7, solid_joinstyle="miter")
    axes.set_xlim(-0.5, pixels.shape[1] - 0.5)
    axes.set_ylim(pixels.shape[0] - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(HAIRLINE)
        spine.set_linewidth(0.5)
