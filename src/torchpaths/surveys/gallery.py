"""Images to look at, with what a network makes of them: those of each class that use the fewest and the most units."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from torchpaths.costs import evaluating
from torchpaths.errors import DataError
from torchpaths.outputs import answer, as_scores
from torchpaths.routed import Routed
from torchpaths.skips.network import skipping
from torchpaths.surveys.alone import each_shut
from torchpaths.surveys.checks import check_logits, opened_units
from torchpaths.surveys.columns import Shown
from torchpaths.surveys.result import Survey
from torchpaths.surveys.taken import Ints
from torchpaths.trace import Trace

MOST = 120
"""Images of a gallery."""
EACH = 3
"""Of a class, so many that use the fewest units and so many that use the most."""
SIDE = 32
"""Pixels of a thumbnail."""
TOP = 5
"""Classes named for an image."""
MOST_UNITS = 512
"""Units up to which it is tried what images are taken for without each."""


def easy_and_hard_images(survey: Survey) -> Ints:
    """Numbers of images that use the fewest and the most units of their class, in order of classes; where all use as
    many the first ones. Of more classes than a gallery has room for, evenly spread ones.

    Raises:
        DataError: for a survey that kept no images.
    """
    samples = survey.samples
    if samples is None:
        raise DataError("this survey kept no paths of single images; make it with keep_paths=True.")
    executed = samples.opened(len(survey.layout.units)).sum(1)
    ranked = np.lexsort((samples.numbers, samples.macs, executed))
    there = np.unique(samples.labels)
    if len(there) > MOST // 2:
        there = there[np.linspace(0, len(there) - 1, MOST // 2).round().astype(np.int64)]
    each = max(1, min(EACH, MOST // (2 * len(there))))
    found: list[int] = []
    for label in there.tolist():
        own = ranked[samples.labels[ranked] == label]
        found += own[
            list(dict.fromkeys([*range(min(each, len(own))), *range(max(len(own) - each, 0), len(own))]))
        ].tolist()
    return samples.numbers[found]


def gallery(
    net: Routed,
    numbers: Ints,
    x: Tensor,
    labels: Sequence[int],
    pixels: NDArray[np.uint8],
    *,
    without: bool = False,
    tell: Callable[[str], None] | None = None,
) -> tuple[Shown, ...]:
    """Images with path, scores of deciders and the likeliest classes.

    Args:
        net: a routed network, in any mode; it is not changed.
        numbers: which images of the data set these are.
        x: as the network takes them, ``[image, ...]``.
        labels: their classes.
        pixels: uint8 ``[image, height, width, channel]``, for thumbnails.
        without: also try what they are taken for with each unit shut that they open.
        tell: told how far it is.

    Raises:
        DataError: ``without`` for a network of too many units.
        RunError: scores that are not finite.
    """
    units = len(net.layout.units)
    if without and units > MOST_UNITS:
        raise DataError(
            f"{units:,} units are too many to try each image of a gallery without each of them, {MOST_UNITS} at most; "
            "leave that out."
        )
    fast = skipping(net)
    parameter = next(net.parameters(), None)
    x = x if parameter is None else x.to(parameter.device)
    with evaluating(fast), torch.no_grad():
        output, trace = fast(x)
        logits = answer(output)
        check_logits(logits, len(x), 0)
        tops: list[dict[int, tuple[tuple[int, float], ...]]] = [{} for _ in range(len(x))]
        if without:
            for done, (unit, rows, scores, _) in enumerate(each_shut(fast, x, trace), 1):
                for row, top in zip(rows.tolist(), _top(scores), strict=True):
                    tops[row][unit] = top
                if tell is not None:
                    tell(f"{done} of {units} units shut")
        packed = np.packbits(opened_units(trace, net.layout, len(x)), axis=1)
        scored = _scores(trace, fast, len(x))
        return tuple(
            Shown(
                packed=packed[i].tobytes(),
                top=top,
                score=scored[i],
                without=tops[i],
                number=int(numbers[i]),
                label=int(labels[i]),
                thumb=thumbnail(pixels[i]),
            )
            for i, top in enumerate(_top(logits))
        )


def thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """An image, uint8 ``[height, width, channel]``, as PNG of at most `SIDE` pixels a side."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _top(logits: Tensor) -> list[tuple[tuple[int, float], ...]]:
    """The likeliest classes of each image and their probabilities, in four digits."""
    values, classes = as_scores(logits.double()).softmax(1).topk(min(TOP, logits.shape[1]))
    pairs = zip(classes.tolist(), values.tolist(), strict=True)
    return [tuple((c, round(p, 4)) for c, p in zip(*pair, strict=True)) for pair in pairs]


def _scores(trace: Trace, net: Routed, batch: int) -> list[tuple[float | None, ...]]:
    """Of each image, the log-odds of each unit in layout order; empty where no decider estimates any."""
    columns: list[list[float | None]] = []
    for site, units in net.layout.sites.items():
        decision = trace.get(site)
        if decision is None or decision.score is None:
            columns += [[None] * batch] * len(units)
            continue
        ran = [True] * batch if decision.ran is None else decision.ran.tolist()
        for column in decision.score.double().T.tolist():
            columns.append([round(score, 4) if came else None for score, came in zip(column, ran, strict=True)])
    if all(score is None for column in columns for score in column):
        return [()] * batch
    return list(zip(*columns, strict=True))
