"""Figures 4, 7 and 9 of network decoupling: calculation paths, and filters by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from torchpaths.errors import DataError
from torchpaths.filtering.paths import ClassPaths, Floats, ImagePaths
from torchpaths.surveys.figures.style import (
    HAIRLINE,
    PAPER,
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
    text_width,
)

MOST_CLASSES = 10
DIVERGING = LinearSegmentedColormap.from_list(
    "torchpaths-diverging", ["#bf4408", "#f6d9c6", "#faf8f3", "#a9c1d4", "#103456"]
)


def _choose(count: int) -> list[int]:
    """Rows to draw, spread evenly where there are too many."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(count, MOST_CLASSES))})


@styled
def draw_class_paths(
    paths: ClassPaths, classes: Sequence[str], title: str, *, dynamic: bool = True, unit: str = "filter"
) -> Figure:
    """A panel for each class: layers from left to right, their filters from top to bottom, the darker the more of its
    images open a filter (figures 4 and 9).

    Args:
        paths: of all classes; of more than ten, ten are drawn.
        classes: names.
        title: of the network and data.
        dynamic: leave out filters that are active or silent, as the paper does; layers without dynamic ones too.
        unit: what a filter is called, where paths are made of other units.

    Raises:
        DataError: if there is nothing to draw.
    """
    shares = {name: np.asarray(values) for name, values in paths.shares.items()}
    if dynamic:
        masks = paths.states.dynamic
        shares = {name: values[:, masks[name].numpy()] for name, values in shares.items() if bool(masks[name].any())}
    if not shares:
        raise DataError(f"no {unit} is open for some images only, so classes' paths do not differ; draw them whole.")
    counts = {c: float(np.nansum([n[c] for n in paths.open_filters.values()])) for c in range(len(classes))}
    rows = [
        (f"{shorten(classes[c], 18)}\n{counts[c]:,.0f} {plural(unit)}", [values[c] for values in shares.values()])
        for c in _choose(len(classes))
    ]
    note = (
        f"one column a layer, one cell a {unit}"
        + (f"; {plural(unit)} always or never open are left out" if dynamic else "")
        + f"; number: {plural(unit)} an image opens, mean"
    )
    return _panels(
        rows, list(shares), f"Paths of classes: {title}", note, f"images of the class that open the {unit}, %"
    )


def plural(unit: str) -> str:
    """Several of a unit."""
    return f"{unit}es" if unit.endswith("ch") else f"{unit}s"


@styled
def draw_image_paths(paths: ImagePaths, names: Sequence[str], title: str) -> Figure:
    """A panel for each image, as `draw_class_paths`: what it opens. Layers that it did not come to are empty.

    Args:
        paths: of some images; at most ten are drawn.
        names: a line for each image, such as its class.
        title: of the network and data.
    """
    rows: list[tuple[str, list[NDArray[Any]]]] = []
    for i in _choose(len(names)):
        columns = [
            np.where(paths.came[site][i], opened[i].astype(float), np.nan) for site, opened in paths.opened.items()
        ]
        total = sum(int(opened[i].sum()) for opened in paths.opened.values())
        rows.append((f"{shorten(names[i], 18)}\n{total:,} filters", columns))
    note = "one column a layer, one cell a filter: dark, if the image opens it"
    return _panels(rows, list(paths.opened), f"Paths of images: {title}", note, "")


def _panels(
    rows: Sequence[tuple[str, list[NDArray[Any]]]], sites: list[str], title: str, note: str, bar: str
) -> Figure:
    """Panels one under another, layers named under the last."""
    most = max(len(column) for _, columns in rows for column in columns)
    each = float(np.clip(8.0 / len(sites), 0.14, 0.5))
    high = float(np.clip(most * 0.03, 0.5, 0.9)) if len(rows) > 3 else float(np.clip(most * 0.06, 0.7, 1.8))
    left, over, gap = text_width([line for row, _ in rows for line in row.split("\n")], TEXT, "bold") + 0.35, 0.72, 0.1
    labels = [shorten(site, 26) for site in sites]
    foot = text_width(labels, SMALL) + 0.34
    right = 1.0 if bar else 0.3
    wide = max(each * len(sites), 3.2, room(title, note) - left - right)
    total = over + len(rows) * (high + gap) + foot
    figure = new_figure(left + wide + right, total)
    heading(figure, 0.15, title, note)
    w, h = figure.get_size_inches()
    drawn = None
    for i, (name, columns) in enumerate(rows):
        grid = np.full((most, len(columns)), np.nan)
        for k, column in enumerate(columns):
            grid[: len(column), k] = 100 * column
        bottom = total - over - (i + 1) * (high + gap) + gap
        axes = add_axes(figure, left, bottom, wide, high)
        drawn = axes.imshow(
            np.ma.masked_invalid(grid), cmap=RATE_MAP, vmin=0, vmax=100, aspect="auto", interpolation="nearest"
        )
        axes.set_facecolor(PAPER)
        air = 0.06 if each > 0.2 else 0.1
        for k, column in enumerate(columns):  # closed filters are as pale as the paper: a frame around each layer's
            axes.vlines([k - 0.5, k + 0.5], -0.5, most - 0.5, color=PAPER, lw=2 * air * each * 72, zorder=2)
            box = ((k - 0.5 + air, -0.5), 1 - 2 * air, len(column))
            axes.add_patch(Rectangle(*box, fill=False, edgecolor=HAIRLINE, lw=0.5, zorder=3, clip_on=False))
        axes.set_ylim(most - 0.5, -0.5)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_yticks([])
        last = i == len(rows) - 1
        axes.set_xticks(range(len(sites)) if last else [], labels if last else [], rotation=90, size=SMALL)
        axes.tick_params(axis="x", length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        if last:
            axes.set_xlabel("layer")
        bold, _, soft = name.partition("\n")
        middle = (bottom + high / 2) / h
        figure.text((left - 0.12) / w, middle + 0.08 / h, bold, size=TEXT, weight="bold", ha="right", va="center")
        figure.text((left - 0.12) / w, middle - 0.08 / h, soft, size=SMALL, color=SOFT, ha="right", va="center")
    if bar and drawn is not None:
        tall = min(1.8, total - over - foot)
        axes = add_axes(figure, left + wide + 0.22, total - over - tall, 0.11, tall)
        figure.colorbar(drawn, cax=axes, ticks=[0, 50, 100])
        axes.set_ylabel(bar if tall > 1.7 else "images, %", size=6, color=SOFT)
        axes.tick_params(length=0, labelsize=6.5)
    return figure


@styled
def draw_categories(
    values: Mapping[str, Floats],
    classes: Sequence[str],
    title: str,
    *,
    weights: bool = False,
    sites: Sequence[str] | None = None,
) -> Figure:
    """A panel for each of some layers: classes from top to bottom, filters from left to right (figure 7).

    Filters are ordered by the class they tell most of; those that are open for all images or for none are left
    out. Without ``sites``, of the layers that have others six are drawn, spread evenly.

    Args:
        values: site -> ``[class, unit]``: class heads' weights, or shares or probabilities, 0 to 1.
        classes: names.
        title: of the network and data.
        weights: they are weights, of either sign; each panel has a scale of its own.
        sites: which layers.
    """
    known = {name: v for name, v in values.items() if np.isfinite(v).any()}
    differing = [name for name, v in known.items() if weights or bool(_differs(v).any())]
    names = list(sites) if sites is not None else differing or list(known)
    if sites is None and len(names) > 6:
        names = [names[round(i)] for i in np.linspace(0, len(names) - 1, 6)]
    if not names:
        raise DataError("no layer has values to draw; no image came to any.")
    title = f"Filters and classes: {title}"
    kind = (
        "weights of the class heads; blue: for the class, red: against"
        if weights
        else "images of the class that open the filter, %"
    )
    note = f"{kind}; filters ordered by class"
    count = len(classes)
    line = float(np.clip(3.0 / count, 0.012, 0.15))
    named = line >= 0.1
    left = (text_width([shorten(c, 16) for c in classes], SMALL) if named else 0.2) + 0.35
    high, over, between = line * count, 0.78, 0.44
    columns = 1 if len(names) == 1 else 2
    wide = max(3.1, (room(title, note) - left) / columns - 0.3)
    across = -(-len(names) // columns)
    total = over + across * (high + between)
    figure = new_figure(left + columns * (wide + 0.3) + 0.55, total)
    heading(figure, 0.15, title, note)
    drawn = None
    for i, name in enumerate(names):
        row, column = divmod(i, columns)
        grid = known[name]
        number = grid.shape[1]
        if not weights and name in differing:
            grid = grid[:, _differs(grid)]
        filled = np.nan_to_num(grid, nan=-np.inf)
        order = np.lexsort((-filled.max(0), filled.argmax(0)))
        axes = add_axes(figure, left + column * (wide + 0.3), total - over - row * (high + between) - high, wide, high)
        top = float(np.nanmax(np.abs(grid))) or 1.0
        limits: dict[str, Any] = (
            {"vmin": -top, "vmax": top, "cmap": DIVERGING} if weights else {"vmin": 0, "vmax": 100, "cmap": RATE_MAP}
        )
        shown = np.ma.masked_invalid(grid[:, order] * (1 if weights else 100))
        drawn = axes.imshow(shown, aspect="auto", interpolation="nearest", **limits)
        told = number if grid.shape[1] == number else f"{grid.shape[1]} dynamic of {number}"
        scale = f", weights to ±{top:.2g}" if weights else ""
        axes.set_title(f"{shorten(name, 30)}: {told} filters{scale}", size=SMALL, loc="left", pad=3)
        own = named and column == 0
        axes.set_yticks(range(count) if own else [], [shorten(c, 16) for c in classes] if own else [], size=SMALL)
        axes.tick_params(axis="both", length=0)
        axes.set_xticks([])
        if not named and column == 0:
            axes.set_ylabel(f"{count} classes", size=SMALL)
        for spine in axes.spines.values():
            spine.set_visible(False)
    if drawn is not None and not weights:
        axes = add_axes(figure, left + columns * (wide + 0.3) - 0.1, total - over - min(high, 1.5), 0.1, min(high, 1.5))
        figure.colorbar(drawn, cax=axes, ticks=[0, 50, 100])
        axes.tick_params(length=0, labelsize=6.5)
    return figure


def _differs(grid: Floats) -> NDArray[np.bool_]:
    """Which filters are neither open for all nor for none, of shares ``[class, unit]``."""
    known = grid[np.isfinite(grid).all(1)]
    alike: NDArray[np.bool_] = (known == 0).all(0) | (known == 1).all(0)
    return ~alike
