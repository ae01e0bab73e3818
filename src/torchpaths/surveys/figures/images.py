"""The images of a class that use the fewest and the most blocks (ConvNet-AIG, figure 6): does difficulty cost work?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from torchpaths.errors import DataError
from torchpaths.surveys.figures.style import (
    ACCENT,
    HAIRLINE,
    INK,
    SMALL,
    SOFT,
    TEXT,
    add_axes,
    heading,
    new_figure,
    shorten,
    styled,
    text_width,
)
from torchpaths.surveys.result import Survey
from torchpaths.surveys.stages import noun

MOST_CLASSES = 10


class ImageSource(Protocol):
    """A data set whose pixels can be read by index, as `torchpaths.data.open_data` returns."""

    def __len__(self) -> int: ...
    def read(self, index: Any, /) -> NDArray[np.uint8]: ...


@styled
def easy_and_hard(
    survey: Survey, images: ImageSource, classes: Sequence[int | str] | None = None, each: int = 6
) -> Figure:
    """For each class, its images with the fewest executed blocks at the left and with the most at the right.

    Under each image stands its number of blocks; wrongly classified ones are framed, with what they were taken for.

    Args:
        survey: made with ``keep_paths=True`` over a loader that does not shuffle.
        images: the same data; ``read(indices)`` gives uint8 ``[n, height, width, channel]``.
        classes: which, by number or name; where None all, or of more than 10 the five that execute the fewest blocks
            and the five that execute the most.
        each: images on either side.

    Raises:
        DataError: for a survey without samples, data of fewer images, or no class with images.
        PathError: for an unknown class.
    """
    samples = survey.samples
    if samples is None:
        raise DataError(
            "this survey kept no paths of single images; make it with survey(net, loader, keep_paths=True)."
        )
    if len(images) < survey.images.sum() or samples.numbers.max(initial=0) >= len(images):  # it may be of a part
        raise DataError(f"{len(images)} images for a survey of {survey.images.sum()}; give the data it was made from.")
    kept = set(samples.labels.tolist())
    rows = [c for c in _classes(survey, classes) if c in kept]
    executed = samples.opened(len(survey.layout.units)).sum(1)
    # Equal counts: the cheaper image first, then the earlier, so that the picture does not depend on sorting.
    order = np.lexsort((np.arange(len(executed)), samples.macs, executed))
    picks = [_pick(order[samples.labels[order] == c], each) for c in rows]

    tile, gap, between, under = 0.62, 0.09, 0.42, 0.28
    names = [shorten(survey.classes[c], 18) for c in rows]
    left = max(text_width(names, TEXT, "bold"), text_width(["mean 00.0"], SMALL)) + 0.32
    half = each * (tile + gap) - gap
    over = 0.98
    figure = new_figure(left + 2 * half + between + 0.2, over + len(rows) * (tile + under) + 0.08)
    width, height = figure.get_size_inches()
    word = noun(survey.layout)
    heading(
        figure,
        0.15,
        f"Easy and hard images: {survey.title}",
        f"under each image how many of {len(survey.layout.units)} {word}s it executes; framed: taken for another class",
    )
    for start, text in ((left, f"fewest {word}s"), (left + half + between, f"most {word}s")):
        figure.text(start / width, 1 - 0.86 / height, text, size=TEXT, weight="bold", va="bottom")
        figure.add_artist(_rule(start / width, (start + half) / width, 1 - 0.89 / height))
    for i, (c, sides) in enumerate(zip(rows, picks, strict=True)):
        bottom = height - over - (i + 1) * (tile + under) + under
        figure.text(
            (left - 0.14) / width,
            (bottom + tile / 2) / height,
            names[i],
            ha="right",
            va="center",
            weight="bold",
            size=TEXT,
        )
        mean, _ = survey.executed_by_class[c]
        figure.text(
            (left - 0.14) / width,
            (bottom + tile / 2 - 0.16) / height,
            f"mean {mean:.1f}",
            ha="right",
            va="center",
            size=SMALL,
            color=SOFT,
        )
        for chosen, start in zip(sides, (left, left + half + between), strict=True):
            pixels = np.asarray(images.read(samples.numbers[chosen]))
            for k, index in enumerate(chosen.tolist()):
                axes = add_axes(figure, start + k * (tile + gap), bottom, tile, tile)
                _tile(axes, pixels[k])
                wrong = int(samples.predictions[index]) != c
                label = str(int(executed[index]))
                _caption(axes, label, shorten(survey.classes[int(samples.predictions[index])], 9) if wrong else "")
    return figure


def _classes(survey: Survey, classes: Sequence[int | str] | None) -> list[int]:
    if classes is not None:
        rows = [survey.label(c) for c in classes]
    else:
        rows = list(range(len(survey.classes)))
        if len(rows) > MOST_CLASSES:
            ranked = [int(c) for c in np.argsort(survey.executed_by_class[:, 0], kind="stable") if survey.images[c]]
            rows = ranked if len(ranked) <= MOST_CLASSES else ranked[: MOST_CLASSES // 2] + ranked[-MOST_CLASSES // 2 :]
    rows = [c for c in rows if survey.images[c]]
    if not rows:
        raise DataError("none of the classes asked for has images in this survey; choose others.")
    return rows


def _pick(ranked: NDArray[np.int64], each: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first and the last images of a ranked class, never one on both sides."""
    each = min(each, len(ranked) // 2) if len(ranked) > 1 else 1
    return ranked[:each], ranked[max(len(ranked) - each, each) :]


def _rule(x0: float, x1: float, y: float) -> Line2D:
    return Line2D([x0, x1], [y, y], color=INK, lw=0.9)


def _tile(axes: Axes, pixels: NDArray[np.uint8]) -> None:
    grey = pixels.shape[-1] == 1
    axes.imshow(
        pixels[..., 0] if grey else pixels, cmap="gray" if grey else None, vmin=0, vmax=255, interpolation="nearest"
    )
    axes.set_xticks([])
    axes.set_yticks([])


def _caption(axes: Axes, blocks: str, taken_for: str) -> None:
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_color(ACCENT if taken_for else HAIRLINE)
        spine.set_linewidth(1.8 if taken_for else 0.5)
    axes.text(0, -0.06, blocks, transform=axes.transAxes, va="top", size=SMALL)
    axes.text(1, -0.06, taken_for, transform=axes.transAxes, va="top", ha="right", size=5.5, color=ACCENT)
