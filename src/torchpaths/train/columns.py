"""What a run's survey holds beside its counts: units shut alone, images to look at, milliseconds, the run's front."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from torchpaths.attacks.shown import attacked_images
from torchpaths.data import Loader
from torchpaths.data.first import First
from torchpaths.errors import DataError
from torchpaths.filtering.peaks import top_images
from torchpaths.filtering.sites import KIND
from torchpaths.fronts import Front
from torchpaths.fronts.points import Point
from torchpaths.layout import Layout
from torchpaths.meter import in_batches, measure
from torchpaths.meter.units import timed_apart, unit_times
from torchpaths.models.known import known
from torchpaths.progress import telling
from torchpaths.skips.network import skipping
from torchpaths.surveys.alone import shut_alone
from torchpaths.surveys.columns import FrontPoint, Times
from torchpaths.surveys.gallery import easy_and_hard_images, gallery
from torchpaths.train.evaluate import Surveyed

BATCH = 256
AT_ONCE = 8
"""Images whose responses in all places are held together."""


def with_alone(found: Surveyed, images: int) -> Surveyed:
    """With the accuracy lost where each unit is shut alone, over so many images drawn by the run's seed.

    Raises:
        DataError: for less than one image.
    """
    if images < 1:
        raise DataError(f"{images} images: what a unit is worth alone needs at least one.")
    run = found.run
    drawn = Loader(found.images, BATCH, shuffle=True, seed=run.recipe.seed, mean=run.mean, std=run.std)
    alone = shut_alone(run.net, First(drawn, images), progress=True)
    return _with(found, alone=alone)


def with_gallery(found: Surveyed, without: bool = False, strength: float | None = None) -> Surveyed:
    """With images of each class that use few and many units; ``without``: also what they are taken for without each;
    ``strength``: also each of them under FGSM of this strength, scale 0 to 1. Where there are filters, also to which of
    these images each responds most.

    Raises:
        DataError: for a survey that kept no images, too many units to try each, or a strength out of range.
        CallError: for a network that gives no gradient.
    """
    run, numbers = found.run, easy_and_hard_images(found.survey)
    x, y = Loader(found.images, BATCH, mean=run.mean, std=run.std).some(numbers)
    pixels = found.images.read(numbers)
    with telling("gallery", without or strength is not None) as tell:
        shown = gallery(run.net, numbers, x, y.tolist(), pixels, without=without, tell=tell)
        if strength is not None:
            tell("attacked images")
            how = (run.mean, run.std, strength)
            shown = attacked_images(run.net, shown, pixels, *how, without=without, seed=run.recipe.seed)
        filters = {}
        if any(unit.kind == KIND for unit in run.net.layout.units):
            tell("which of them each filter responds to")
            batches = zip(torch.split(x, AT_ONCE), torch.split(y, AT_ONCE), strict=True)
            tops = top_images(run.net, batches)
            filters = {unit: tuple(int(numbers[row]) for row in rows) for unit, rows in tops.items()}
    return _with(found, gallery=shown, filters=filters)


def with_times(found: Surveyed, batch: int) -> Surveyed:
    """With milliseconds of a batch, beside the plain network, on the device and with the threads that there are; and of
    each unit, where units are few and have times of their own (`timed_apart`).

    Raises:
        MeasureError: for a batch below 1, and other things that cannot be timed.
    """
    run = found.run
    device = next(run.net.parameters()).device
    size = min(max(16, batch), len(found.images))
    x, _ = next(iter(Loader(found.images, size, shuffle=True, mean=run.mean, std=run.std, workers=0)))
    against = None if run.spec is None else known(run.spec.source).make().to(device)
    with telling("times") as tell:
        tell(f"batch {batch}, beside the plain network")
        row = measure(skipping(run.net), in_batches(x.to(device), batch), against=against)
        units, fixed = None, None
        if timed_apart(run.net.layout):
            tell(f"{len(run.net.layout.units)} units, each beside the others, batch {batch}")
            units, fixed = unit_times(run.net, in_batches(x[: 2 * batch].to(device), batch), seed=run.recipe.seed)
    interval = (row.gap.low, row.gap.high)
    times = Times(row.setting, row.ms, row.plain_ms, row.gap.value, interval, row.warnings, units, fixed)
    return _with(found, times=times)


def with_front(found: Surveyed) -> tuple[Surveyed, str]:
    """With the menu of the run's front where there is one of this network, and why not where there is another."""
    folder = found.run.folder
    if not (folder / "front.json").is_file():
        return found, ""
    try:
        front = Front.load(folder, found.run.net)
    except DataError as error:
        return found, f"front left out: {error}"
    points = tuple(_point(point, front.layout) for point in front.points)
    return _with(found, front=points, cloud=front.cloud), ""


def _point(point: Point, layout: Layout) -> FrontPoint:
    packed = None
    if point.path is not None and point.fixed:
        sites = ((point.path.get(site), len(units)) for site, units in layout.sites.items())
        bits = [bit for choice, n in sites for bit in (choice if isinstance(choice, tuple) else (False,) * n)]
        packed = np.packbits(np.array(bits, bool)).tobytes()
    return FrontPoint(point.kind, packed, point.macs, point.accuracy, point.threshold, point.ms)


def _with(found: Surveyed, **fields: object) -> Surveyed:
    return dataclasses.replace(found, survey=dataclasses.replace(found.survey, **fields))  # type: ignore[arg-type]
