"""``merged_run``: what several processes surveyed of a run, each a part of its images, as one survey."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from torchpaths.data import ImageSet
from torchpaths.errors import DataError
from torchpaths.surveys import Survey, told_apart
from torchpaths.train.evaluate import Surveyed, images_for, open_run
from torchpaths.train.folder import Run, Weights


def merged_run(
    folder: pathlib.Path,
    parts: Sequence[pathlib.Path],
    *,
    data: str | None = None,
    split: str = "test",
    skip_corrupt: bool = False,
    weights: Weights = "final",
) -> Surveyed:
    """What several processes surveyed of a run, as one survey would have; see `Survey.merge`.

    Args:
        folder: of the run or cut network.
        parts: the surveys, ``survey.json`` or folders of it.
        data: as in `survey_run`, as are all that follow.
        split: likewise.
        skip_corrupt: likewise.
        weights: likewise.

    Raises:
        DataError: for fewer than two surveys, one given twice, damaged ones, and those that are not of this network,
            these weights or these images, or not of images of their own.
        RunError: as `survey_run`.
    """
    if len(parts) < 2:
        raise DataError(f"{len(parts)} survey to merge; give two or more, each of images of its own.")
    if len({part.resolve() for part in parts}) < len(parts):
        raise DataError(
            "one survey is given twice, so its images would count twice; merge surveys that are each of other images."
        )
    run = open_run(folder, weights)
    images = images_for(run, data=data, split=split, skip_corrupt=skip_corrupt)
    own = told_apart.weights(run.net.parameters())
    read = [_belonging(part, run, images, own) for part in parts]
    found = read[0].merge(*read[1:])
    if (count := int(found.images.sum())) > len(images):
        raise DataError(
            f"these surveys count {count:,} images, {images.name} has {len(images):,} of that split; some are counted "
            "twice, merge surveys that are each of other images."
        )
    return Surveyed(found, images, run)


def _belonging(part: pathlib.Path, run: Run, images: ImageSet, weights: str) -> Survey:
    """A survey of a part.

    Raises:
        DataError: for one of anything else than this network as it decides by itself, over these images.
    """
    found = Survey.load(part, run.net.layout)
    if found.classes != run.classes:
        raise DataError(f"{part} is a survey of other classes than {run.folder}; merge surveys of this run.")
    if found.weights not in ("", weights):
        raise DataError(
            f"{part} is a survey of other weights than those of {run.folder} that are read here; give the --weights it "
            "was made with, or survey its part again."
        )
    if found.along not in ("", told_apart.FREE):
        raise DataError(
            f"{part} is a survey along a path that was chosen; merge surveys of the network as it decides by itself."
        )
    over = (found.dataset, found.split)
    if over != (images.name, images.split):
        raise DataError(
            f"{part} is a survey over {' '.join(over) or 'images of no name'}, not over {images.name} {images.split}; "
            "give --data and --split as it was made with."
        )
    return found
