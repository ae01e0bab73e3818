"""What a run's network takes along wherever it is used: its classes, by name, and the form of images that it knows.

As many classes are not the same ones, and images normalised otherwise are other images to a network: either would give
wrong answers without a word. So data are compared with the run, and who starts from a run takes its input over.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torchpaths.data import ImageSet
from torchpaths.errors import DataError, RunError
from torchpaths.train.classes import check_classes
from torchpaths.train.recipe import Recipe

if TYPE_CHECKING:
    from torchpaths.train.folder import Run, Seen


def origin(recipe: Recipe) -> Path | None:
    """The folder of the run that a recipe starts from: its start, or the one that its file of weights lies in."""
    if recipe.start is not None or recipe.weights is None:
        return recipe.start
    folder = recipe.weights.parent
    return folder if all((folder / name).is_file() for name in ("recipe.json", "run.json")) else None


def check_belongs(images: ImageSet, run: Run, role: str = "run") -> None:
    """Raises `DataError` unless these images are of the size and classes that the run was trained on. ``role``: what
    the run is here, as an error calls it."""
    check_classes(images.name, images.classes, run.folder, run.classes, role)
    channels, height, width = run.net.example_shape
    shape = (height, width, channels)
    if images.shape != shape:
        raise DataError(
            f"the images of {images.name} are {images.shape} (height, width, channels), the {role} {run.folder} was "
            f"trained on {shape}; give images of that size and mode, or another {role}."
        )


def adopted(recipe: Recipe, folder: Path, run: Recipe, seen: Seen) -> tuple[Recipe, list[str]]:
    """A recipe that starts from a run, with the run's normalisation, and its scaling where the recipe leaves that open.

    Args:
        recipe: whose `origin` is the run.
        folder: of the run.
        run: the run's recipe.
        seen: what the run says of its images.

    Returns:
        The recipe, and a line that says what was taken over, if anything was.

    Raises:
        RunError: for a recipe that normalises otherwise.
    """
    own = {"mean": seen.mean, "std": seen.std}
    if recipe.mean is not None and (recipe.mean, recipe.std) != (seen.mean, seen.std):
        raise RunError(
            f"mean {_numbers(recipe.mean)} and std {_numbers(recipe.std)} are not those of the run {folder}, whose "
            f"network knows images with mean {_numbers(seen.mean)} and std {_numbers(seen.std)} alone; leave them "
            "out (--mean None --std None), and the run's are taken."
        )
    scaling: dict[str, Any] = {"size": run.size, "bicubic": run.bicubic}
    if seen.shape[2] in (1, 3):
        scaling["channels"] = seen.shape[2]
    if recipe.crop is None and recipe.resize is None and recipe.size in (None, run.size):
        scaling |= {"crop": run.crop, "resize": run.resize}
    changes = {n: v for n, v in (own | scaling).items() if v is not None and getattr(recipe, n) is None}
    if not changes:
        return recipe, []
    said = ", ".join(f"{n} {_numbers(v) if isinstance(v, tuple) else v}" for n, v in changes.items())
    return dataclasses.replace(recipe, **changes), [f"starts from the run {folder}, with its input: {said}"]


def _numbers(values: tuple[float, ...] | None) -> str:
    return "(" + ", ".join(f"{v:.4g}" for v in values or ()) + ")"
