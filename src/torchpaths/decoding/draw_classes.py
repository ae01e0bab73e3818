"""Figures 2 and 3 of Coded ResNeXt: branches removed, classifiers of single classes, and what their logits are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from torchpaths.decoding.binary import Classifiers, Quality, Scores
from torchpaths.decoding.removal import Removal
from torchpaths.surveys.figures.style import (
    ACCENT,
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
    in_key,
    new_figure,
    room,
    shorten,
    spread_apart,
    styled,
)

NAMES = {"paths": "class paths", "whole": "whole network", "twin": "twin’s class paths", "twin_whole": "whole twin"}
MARKERS = {"paths": "o", "whole": "s", "twin": "^", "twin_whole": "D"}


@styled
def draw_removal(removal: Removal, title: str) -> Figure:
    """Accuracy by the number of branches that are removed from one block, two lines (figure 2a).

    Args:
        removal: what was measured; bands go from the least to the greatest repeat.
        title: of the network and data.
    """
    left, bottom, height = 0.62, 0.5, 2.5
    title = f"Branches removed from {removal.site}: {title}"
    repeats = len(removal.active)
    note = f"{removal.images:,} images; drawn for each image, {repeats} times; bands: least to greatest"
    wide = max(3.6, room(title, note) - left - 1.4)
    figure = new_figure(left + wide + 1.4, bottom + height + 0.66)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, left, bottom, wide, height)
    axes.axhline(100 * removal.active[0, 0], color=INK, lw=0.7, ls=(0, (1, 3)), zorder=1)
    lines = (("of the image’s class", removal.active, ACCENT, "o"), ("of other classes", removal.inactive, FLOW, "s"))
    for _, values, colour, marker in lines:
        at = np.arange(values.shape[1])
        axes.fill_between(at, 100 * values.min(0), 100 * values.max(0), color=colour, alpha=0.18, lw=0)
        axes.plot(at, 100 * values.mean(0), color=colour, marker=marker, ms=4.5, mec=PAPER, lw=1.4, zorder=3)
    axes.margins(0.03, 0.12)
    low, high = axes.get_ylim()
    ends = [100 * float(values[:, -1].mean()) for _, values, _, _ in lines]
    levels = spread_apart(ends, 0.07 * (high - low), low, high)
    for (name, values, colour, _), level in zip(lines, levels, strict=True):
        right = values.shape[1] - 1
        axes.annotate(name, (right, level), (7, 0), textcoords="offset points", color=colour, size=SMALL, va="center")
    most = max(values.shape[1] for _, values, _, _ in lines) - 1
    axes.set_xticks(range(0, most + 1, max(1, most // 10)))
    axes.set_xlabel("branches removed")
    axes.set_ylabel("accuracy, %")
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)
    return figure


@styled
def draw_classifiers(found: Mapping[str, Classifiers], classes: Sequence[str], title: str) -> Figure:
    """Precision and recall of every class's classifier, and the means of the networks compared (figures 2b and 2c).

    Negatives are test images in one panel, and images of another data set, if there are, in a second.

    Args:
        found: ``paths`` (class by class) and, of which the means are shown, others of `NAMES`.
        classes: names.
        title: of the network and data.
    """
    title, note = f"Classifiers of single classes: {title}", "small: a class; large: the mean; lines: equal F1"
    left, bottom, side, gap, key = 0.62, 0.5, 2.7, 0.55, 1.15
    sets = [("test", "negatives: test images", DEEP)]
    if found["paths"].foreign is not None:
        sets.append(("foreign", "negatives: another data set", ACCENT))
    wide = max(left + len(sets) * (side + gap) + key, room(title, note))
    figure = new_figure(wide, bottom + side + 0.86)
    heading(figure, 0.15, title, note)
    for i, (split, name, colour) in enumerate(sets):
        axes = add_axes(figure, left + i * (side + gap), bottom, side, side)
        axes.set_title(name, size=SMALL, loc="left", color=colour)
        _equal_f1(axes)
        for who, one in found.items():
            quality: Quality | None = getattr(one, split)
            if quality is not None:
                _draw_quality(axes, quality, who, colour)
        _worst(axes, getattr(found["paths"], split), classes, colour)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 100)
        axes.set_xlabel("recall, %")
        axes.set_ylabel("precision, %" if i == 0 else "")
    _key(axes, found)
    return figure


def _draw_quality(axes: Axes, quality: Quality, who: str, colour: str) -> None:
    marker = MARKERS[who]
    if who == "paths":
        axes.plot(100 * quality.recall, 100 * quality.precision, marker, color=colour, ms=4, mew=0, alpha=0.4)
    mean = 100 * float(quality.recall.mean()), 100 * float(quality.precision.mean())
    face, edge = (colour, PAPER) if who == "paths" else ("none", INK)
    axes.plot(*mean, marker, mfc=face, mec=edge, ms=8, mew=1.3, zorder=3 + (who != "paths"), clip_on=False)


def _equal_f1(axes: Axes) -> None:
    recall = np.linspace(0.5, 100, 400)
    for f1 in (20, 40, 60, 80):
        with np.errstate(divide="ignore"):
            precision = f1 * recall / (2 * recall - f1)
        inside = (2 * recall > f1) & (precision <= 100)
        axes.plot(recall[inside], precision[inside], color=HAIRLINE, lw=0.7, zorder=0)
        axes.annotate(f"{f1}", (100, f1 * 100 / (200 - f1)), (4, 0), textcoords="offset points", size=6, color=SOFT)


def _worst(axes: Axes, quality: Quality, classes: Sequence[str], colour: str) -> None:
    """The name of the class with the least F1, which the paper remarks on ("cats"), under its mark."""
    k = int(quality.f1.argmin())
    at = 100 * float(quality.recall[k]), 100 * float(quality.precision[k])
    below = at[1] > 10
    axes.annotate(
        shorten(classes[k], 16), at, (0, -5 if below else 5), textcoords="offset points", size=6.5, color=colour,
        ha="center", va="top" if below else "bottom", zorder=2.5,
    )  # fmt: skip


def _key(axes: Axes, found: Mapping[str, Classifiers]) -> None:
    for name in found:
        face, edge = (SOFT, PAPER) if name == "paths" else ("none", INK)
        axes.plot([], [], MARKERS[name], mfc=face, mec=edge, ms=6.5, mew=1.2, label=NAMES[name])
    axes.legend(
        loc="upper left", bbox_to_anchor=(1.1, 1.0), frameon=False, fontsize=6.5, handlelength=1.2, borderaxespad=0
    )


@styled
def draw_scores(
    test: Scores, foreign: Scores | None, threshold: float, label: int, classes: Sequence[str], title: str
) -> Figure:
    """How the logit of one class's classifier is distributed (figure 3).

    Args:
        test: scores of test images.
        foreign: scores of images of another data set, if there are.
        threshold: from which on an image counts as positive.
        label: the class's number.
        classes: names.
        title: of the network and data.
    """
    own = test.labels == label
    parts: list[tuple[str, NDArray[np.float32], str]] = [
        (shorten(classes[label]), test.values[own, label], FLOW),
        ("other classes", test.values[~own, label], ACCENT),
    ]
    if foreign is not None:
        parts.append(("another data set", foreign.values[:, label], SOFT))
    title = f"The classifier of {shorten(classes[label])}: {title}"
    note = "its logit along the path of its class, share of images of each kind"
    left, bottom, height = 0.62, 0.5, 2.2
    wide = max(4.2, room(title, note) - left - 0.3)
    figure = new_figure(left + wide + 0.3, bottom + height + 0.86)
    heading(figure, 0.15, title, note)
    axes = add_axes(figure, left, bottom, wide, height)
    values = np.concatenate([v for _, v, _ in parts])
    edges = np.histogram_bin_edges(values, bins=40)
    for name, v, colour in parts:
        counts, _ = np.histogram(v, edges)
        share = 100 * counts / max(len(v), 1)
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.22)
        axes.stairs(share, edges, color=colour, lw=1.3, label=in_key(f"{name} ({len(v):,})"))
    axes.axvline(threshold, color=INK, lw=0.9, ls=(0, (4, 3)))
    axes.annotate(
        "threshold", (threshold, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
        size=6.5, color=INK, va="top",
    )  # fmt: skip
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, frameon=False, fontsize=SMALL, handlelength=1.4,
        columnspacing=1.4, borderaxespad=0.1,
    )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlabel("logit")
    axes.set_ylabel("images, %")
    axes.grid(axis="y", color=RULE, lw=0.5)
    axes.set_axisbelow(True)
    axes.spines["bottom"].set_color(PALE)
    return figure
