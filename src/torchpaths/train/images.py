"""The images of a run: for training and evaluation, in one form, and which of them were held out."""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass

from torchpaths.data import ImageSet
from torchpaths.data.sources import held_out
from torchpaths.errors import RunError
from torchpaths.files.write import write_json
from torchpaths.train.folder import open_images
from torchpaths.train.recipe import Json, Recipe

HELD = "holdout.json"
SCHEMA = "torchpaths.holdout/1"


@dataclass(frozen=True)
class Images:
    """What training one network needs of the data set; shared by a network and its plain twin.

    Attributes:
        train: for training; of more pixels than are shown, where resized crops are taken.
        test: for evaluation, of the shape that the network sees.
        mean: per channel, scale 0 to 1.
        std: per channel.
    """

    train: ImageSet
    test: ImageSet
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def json(self) -> Json:
        """As a run folder says it."""
        named = {"name": self.train.name, "images": [len(self.train), len(self.test)], "classes": self.train.classes}
        return {**named, "shape": self.test.shape, "mean": self.mean, "std": self.std}


def open_both(recipe: Recipe) -> Images:
    """The images of a recipe, for training and for evaluation.

    Raises:
        RunError: if the two do not go together, or with the recipe.
        DataError: for images that cannot be read.
    """
    train, test = open_images(recipe, "train", spare=True), open_images(recipe, "test")
    spare = recipe.size is not None and train.shape[2] == test.shape[2]
    if (train.shape != test.shape and not spare) or train.classes != test.classes:
        raise RunError(
            f"{recipe.data}: training images {train.shape} in {len(train.classes)} classes, test images {test.shape} "
            f"in {len(test.classes)}; they must be alike. Set size to bring images to one size."
        )
    if len(train.classes) < 2:
        raise RunError(
            f"{recipe.data} has one class, {train.classes[0]!r}, so there is nothing to tell apart; give a folder with "
            "one folder for each of two classes or more."
        )
    mean, std = recipe.mean or train.mean, recipe.std or train.std
    if len(mean) != train.shape[2]:
        raise RunError(
            f"mean and std have {len(mean)} channels, the images {train.shape[2]}; give one number per channel."
        )
    if len(train) < recipe.batch:
        raise RunError(f"batch {recipe.batch} is more than the {len(train)} training images; choose a smaller one.")
    return Images(train, test, tuple(mean), tuple(std))


def write_held_out(recipe: Recipe, out: pathlib.Path) -> None:
    """Write into a run folder which images of the recipe's are for testing, where its folder has no test images."""
    held = recipe.held
    files = None if held is None else held_out(recipe.data, held)
    if held is not None and files is not None:
        write_json(out / HELD, {"schema": SCHEMA, **dataclasses.asdict(held), "test": files})
