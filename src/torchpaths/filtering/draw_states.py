"""Figures 3 and 8 of network decoupling: states of filters by layer, and by the weights of the losses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from torchpaths.filtering.runs import Trained, ordered
from torchpaths.filtering.states import STATES, FilterStates
from torchpaths.surveys.figures.style import (
    ACCENT,
    DEEP,
    INK,
    PALE,
    RULE,
    SMALL,
    SOFT,
    add_axes,
    heading,
    new_figure,
    room,
    shorten,
    styled,
    text_width,
)

COLOURS = {"active": DEEP, "dynamic": ACCENT, "silent": PALE}
NAMES = {
    "active": "active: open for every image",
    "dynamic": "dynamic: for some",
    "silent": "silent: for none",
}
MOST_PANELS = 6


def by_position(sites: Sequence[str]) -> dict[str, list[str]]:
    """Layers that stand in the same position of their blocks, as the paper puts them together: what their names are
    within their blocks -> sites. All in one, under no name, where positions do not repeat."""
    found: dict[str, list[str]] = {}
    for site in sites:
        parts = site.split(".")
        numbered = [i for i, part in enumerate(parts[:-1]) if part.isdigit() and not parts[i + 1].isdigit()]
        found.setdefault(".".join(parts[max(numbered, default=-1) + 1 :]), []).append(site)
    if 1 < len(found) <= MOST_PANELS and all(len(members) > 1 for members in found.values()):
        return found
    return {"": list(sites)}


@styled
def draw_states(states: FilterStates, title: str) -> Figure:
    """A bar for each layer: how its filters divide into active, dynamic and silent (figure 3).

    Layers in the same position of their blocks stand in one panel; under each bar stands the number of filters.

    Args:
        states: what was counted.
        title: of the network and data.
    """
    panels = by_position(list(states.opened))
    most = max(len(members) for members in panels.values())
    names = {p: [m.removesuffix(f".{p}") if p else m for m in members] for p, members in panels.items()}
    each = float(np.clip(9.0 / most, 0.16, 0.4))
    labels = {p: [shorten(name, 26) for name in found] for p, found in names.items()}
    under = max(text_width(found, SMALL) for found in labels.values()) + 0.12
    left, height, over, between = 0.62, 1.5, 0.92, 0.34
    shares = states.shares
    title = f"States of filters: {title}"
    note = "share of all filters: " + ", ".join(f"{s} {shares[s]:.1%}" for s in STATES)
    wide = max(most * each, room(title, note) - left, 4.9 - left)
    total = over + len(panels) * (height + between + under) - between + 0.3
    figure = new_figure(left + wide + 0.2, total)
    heading(figure, 0.15, title, note)
    counts = states.counts
    for i, (position, members) in enumerate(panels.items()):
        bottom = total - over - (i + 1) * height - i * (between + under)
        axes = add_axes(figure, left, bottom, wide, height)
        values = np.array([[counts[m][s] for s in STATES] for m in members], float)
        _stack(axes, values, len(members))
        axes.set_xlim(-0.6, most - 0.4)
        axes.set_xticks(range(len(members)), labels[position], size=SMALL, rotation=90)
        axes.tick_params(axis="x", length=0)
        axes.set_ylabel("filters, %")
        if position:
            axes.set_title(position, size=SMALL, loc="left", weight="bold", pad=3)
        if i == len(panels) - 1:
            axes.set_xlabel("layer")
    handles = [Patch(color=COLOURS[s], label=NAMES[s]) for s in STATES]
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0.15 / (left + wide + 0.2), 1 - 0.54 / total), ncols=3,
        frameon=False, fontsize=SMALL, handlelength=1.0, columnspacing=1.3, borderaxespad=0, borderpad=0,
    )  # fmt: skip
    return figure


def _stack(axes: Axes, values: NDArray[np.float64], count: int) -> None:
    """Stacked bars of shares of ``[bar, state]``, percent; an empty place where nothing is known."""
    sums = values.sum(1)
    base = np.zeros(count)
    for k, state in enumerate(STATES):
        share = 100 * np.divide(values[:, k], sums, out=np.zeros(count), where=sums > 0)
        axes.bar(range(count), share, bottom=base, width=0.84, color=COLOURS[state])
        base += share
    for at in np.flatnonzero(sums == 0).tolist():
        axes.text(at, 4, "no image came", rotation=90, size=6, color=SOFT, ha="center", va="bottom")
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)


@styled
def draw_runs(rows: Sequence[Trained], title: str) -> Figure:
    """States of filters of several networks by the weights of their losses, with accuracy and MACs (figure 8, table 4).

    Args:
        rows: the networks, measured on the same images.
        title: of the model and data.
    """
    rows = ordered(list(rows))
    title = f"Filters by the weights of the losses: {title}"
    note = "bars: states, % of filters; mean MACs of an image, gates included"
    line, over, foot, gap = 0.27, 0.9, 0.45, 0.12
    cells = [
        [f"{r.sparse:g}", f"{r.mutual:g}", f"{r.kl:g}", f"{r.macs / 1e6:.1f} M", f"{r.accuracy:.2%}"] for r in rows
    ]
    heads = ["λs", "λm", "λk", "MACs", "accuracy"]
    widths = [
        max(text_width([h, *column], SMALL) for column in [[c[i] for c in cells]]) + 0.18 for i, h in enumerate(heads)
    ]
    left = 0.15 + sum(widths)
    wide = max(3.0, room(title, note) - left - 0.2)
    total = over + line * len(rows) + foot
    figure = new_figure(left + gap + wide + 0.3, total)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, left + gap, foot, wide, line * len(rows))
    base = np.zeros(len(rows))
    for state in STATES:
        share = np.array([100 * getattr(r, state) for r in rows])
        axes.barh(range(len(rows)), np.nan_to_num(share), left=base, height=0.72, color=COLOURS[state])
        for i, value in enumerate(share):
            if value >= 8:
                colour = INK if state == "silent" else "white"
                axes.text(base[i] + value / 2, i, f"{value:.0f}", size=6.5, color=colour, ha="center", va="center")
        base += np.nan_to_num(share)
    axes.set_xlim(0, 100)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xlabel("filters, %")
    w, h = figure.get_size_inches()
    at = 0.15
    for i, head in enumerate(heads):
        at += widths[i]
        figure.text((at - 0.06) / w, (foot + line * len(rows) + 0.05) / h, head, size=SMALL, color=SOFT, ha="right")
        for k, row in enumerate(cells):
            y = foot + line * (len(rows) - k - 0.5)
            figure.text((at - 0.06) / w, y / h, row[i], size=SMALL, ha="right", va="center")
    handles = [Patch(color=COLOURS[s], label=s) for s in STATES]
    axes.legend(
        handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=SMALL,
        handlelength=1.0, columnspacing=1.3, borderaxespad=0.2,
    )  # fmt: skip
    return figure
