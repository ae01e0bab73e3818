"""What came of a run: ``survey_run`` surveys its network, draws the figures and sums up in numbers."""

from __future__ import annotations

import dataclasses
import itertools
import math
import pathlib
from dataclasses import dataclass
from typing import Any

import torch

from torchpaths.chosen import OperatingPoint, set_up
from torchpaths.data import ImageSet, Loader
from torchpaths.data.first import First
from torchpaths.data.groups import groups_of
from torchpaths.data.part import WHOLE, Part
from torchpaths.deciders.gate import Gate, Inference
from torchpaths.errors import DataError, RunError
from torchpaths.path import Path
from torchpaths.surveys import Survey, survey
from torchpaths.text import distinct
from torchpaths.train.belongs import check_belongs
from torchpaths.train.cut_folder import is_cut, load_cut_run
from torchpaths.train.folder import Run, Weights, load_run, open_images
from torchpaths.train.seed import seed_evaluation


@dataclass(frozen=True)
class Surveyed:
    """A run's network over a data set.

    Attributes:
        survey: what it did.
        images: over which images.
        run: the run.
    """

    survey: Survey
    images: ImageSet
    run: Run

    def draw(self, folder: pathlib.Path) -> list[pathlib.Path]:
        """Write every figure there is data for into ``folder``, as PNG and SVG; returns the files."""
        from torchpaths.surveys.figures import save_all

        metrics = self.run.folder / "metrics.jsonl"
        kept = self.images if self.survey.samples is not None else None
        return save_all(self.survey, folder, images=kept, metrics=metrics if metrics.is_file() else None)


def survey_run(
    folder: pathlib.Path,
    *,
    data: str | None = None,
    split: str = "test",
    skip_corrupt: bool = False,
    weights: Weights = "final",
    inference: Inference | None = None,
    keep_paths: bool | int = False,
    choice: Path | OperatingPoint | None = None,
    limit: int | None = None,
    part: Part = WHOLE,
) -> Surveyed:
    """Survey the network of a folder, on the GPU where there is one.

    Args:
        folder: of a run or a cut network.
        data: another image set than the run's, of the same classes and image size.
        split: which part of it.
        skip_corrupt: leave out images that cannot be decoded instead of raising.
        weights: which of the run's weights.
        inference: what its gates do instead of what the recipe says.
        keep_paths: keep the path of every image, or of so many, as the figure of easy and hard images needs.
        choice: along which path, or at which point of its front; None: as the network decides.
        limit: over so many images drawn from the set by the run's seed, instead of all.
        part: over this part of the images, see `torchpaths.train.merged`; not with ``limit``.

    Raises:
        RunError: for a folder that is no run, lacks these weights, or has no gates to apply ``inference`` to.
        DataError: for images that cannot be read or do not belong to this network, or fewer than there are parts.
    """
    run = open_run(folder, weights)
    recipe = run.recipe
    images = images_for(run, data=data, split=split, skip_corrupt=skip_corrupt)
    if inference is not None:
        _infer(run, inference)
    if part.of > len(images):
        raise DataError(f"{images.name} has {len(images)} images, fewer than {part.of} parts; make fewer parts.")
    seed_evaluation(recipe.seed, part.number - 1)  # gates that draw draw anew in each part
    loader = Loader(
        images,
        256 * part.of,
        shuffle=limit is not None,
        seed=recipe.seed,
        rank=part.number - 1,
        world=part.of,
        mean=run.mean,
        std=run.std,
    )
    some = loader if limit is None else First(loader, limit)
    shuffled = itertools.chain.from_iterable(loader.indices(0))  # with the images
    numbers = itertools.islice(shuffled, limit)
    net, path = set_up(run.net, choice)
    found = survey(
        net, some, classes=run.classes, keep_paths=keep_paths, numbers=map(int, numbers), path=path, progress=True
    )
    method = () if recipe.method is None else recipe.method.names
    found = dataclasses.replace(found, name=recipe.model, method=method, dataset=images.name, split=split)
    found = dataclasses.replace(found, groups=groups_of(images.classes))
    return Surveyed(found, images, run)


def open_run(folder: pathlib.Path, weights: Weights = "final") -> Run:
    """Whatever holds a network, opened as a run, on the GPU where there is one.

    Args:
        folder: of a run; of a cut network, see `torchpaths.train.cut_folder`; or what `torchpaths shrink` wrote, of
            which it is the run.
        weights: which of a run's; a cut network has final ones only.

    Raises:
        RunError: as `load_run`; and for a cut network of which other weights are asked for.
        DataError: for a cut network that is damaged.
    """
    if (folder / "recipe.json").is_file() or not is_cut(folder):
        shrunk = (folder / "shrunk.json").is_file() and (folder / "run" / "recipe.json").is_file()
        run = load_run(folder / "run" if shrunk else folder, weights)
    elif weights != "final":
        raise RunError(f"{folder} holds a cut network, which has no {weights} weights; leave out --weights {weights}.")
    else:
        run = load_cut_run(folder)
    run.net.to("cuda" if torch.cuda.is_available() and run.recipe.device != "cpu" else "cpu")
    return run


def images_for(run: Run, *, data: str | None = None, split: str = "test", skip_corrupt: bool = False) -> ImageSet:
    """The images of a run, or others that belong to its network; arguments as in `survey_run`.

    Raises:
        DataError: for images that cannot be read or do not belong to this network.
    """
    recipe = dataclasses.replace(run.recipe, skip_corrupt=skip_corrupt or run.recipe.skip_corrupt)
    if data is not None and pathlib.Path(data).resolve() != pathlib.Path(recipe.data):
        recipe = dataclasses.replace(recipe, data=data, holdout=None)  # nothing of it was trained on
    if not recipe.data:
        raise DataError(f"{run.folder} does not say which images its network knows; give them: --data FOLDER.")
    images = open_images(recipe, split)
    check_belongs(images, run)
    return images


def _infer(run: Run, inference: Inference) -> None:
    gates = [decider for decider in run.net.deciders.values() if isinstance(decider, Gate)]
    if not gates:
        raise RunError(
            f"the run {run.folder} has no gates, so --inference {inference} means nothing for it; leave it out."
        )
    for gate in gates:
        gate.inference = inference


def summary(found: Survey) -> dict[str, Any]:
    """A survey as JSON values: accuracy (0 to 1), MACs of one image, units open; in all, by class and by unit."""
    plain = found.layout.plain.macs
    mean, deviation = found.executed
    return {
        "model": found.name,
        "method": ",".join(found.method) or None,
        "data": found.dataset,
        "split": found.split,
        "images": int(found.images.sum()),
        "accuracy": found.accuracy,
        **({} if found.accuracy_top5 is None else {"accuracy_top5": found.accuracy_top5}),
        "macs": found.macs,
        "macs_std": found.macs_std,
        "plain_macs": plain,
        "macs_share": found.macs / plain,
        "units": len(found.layout.units),
        "units_open": mean,
        "units_open_std": deviation,
        "distinct_paths": found.distinct_paths,
        "by_class": {
            name: {
                "images": int(found.images[i]),
                "accuracy": _number(found.accuracy_by_class[i]),
                "macs": _number(found.macs_by_class[i]),
                "units_open": _number(found.executed_by_class[i, 0]),
            }
            for i, name in enumerate(distinct(found.classes))
        },
        "open_by_unit": {unit.name: float(rate) for unit, rate in zip(found.layout.units, found.rates, strict=True)},
    }


def _number(value: float) -> float | None:
    """None for NaN, the mean of no images, which JSON cannot hold."""
    return None if math.isnan(value) else float(value)
