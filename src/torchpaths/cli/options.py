"""What verbs that run a trained run's network take."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from tyro import conf

from torchpaths.chosen import OperatingPoint
from torchpaths.cli.arguments import Json as Json
from torchpaths.cli.arguments import emit as emit
from torchpaths.cli.arguments import parse as parse
from torchpaths.cli.arguments import refuse as refuse
from torchpaths.cli.arguments import speaking as speaking
from torchpaths.cli.methods import classes, import_model
from torchpaths.data import ImageSet
from torchpaths.data.part import WHOLE, Part
from torchpaths.deciders.gate import Inference
from torchpaths.errors import DataError
from torchpaths.files.disk import read_bytes
from torchpaths.path import Path
from torchpaths.schema import reading
from torchpaths.train.evaluate import Surveyed, images_for, open_run, survey_run
from torchpaths.train.folder import Run, Weights
from torchpaths.train.merged import merged_run


def read_path(file: pathlib.Path) -> Path:
    """A path from a file.

    Raises:
        DataError: for a file that cannot be read or holds no path.
    """
    with reading(file, DataError, "give what Path.to_json writes"):
        try:
            data = read_bytes(file)
        except OSError as error:
            raise DataError(f"{file} cannot be read ({error.strerror}); give the file of a path.") from error
        return Path.from_json(data)


@dataclass(frozen=True)
class OfRun:
    """What verbs that run a run's network take."""

    run: conf.Positional[pathlib.Path]
    """Folder of a run, or of a cut network."""
    data: str | None = None
    """Another image set than the run's, of the same classes and image size."""
    split: Literal["train", "test", "validation"] = "test"
    """Which part of the image set."""
    weights: Weights = "final"
    """The final weights, their moving average, or those of the best or last checkpoint."""
    skip_corrupt: Annotated[bool, conf.FlagCreatePairsOff] = False
    """Leave out images that cannot be decoded instead of stopping at the first."""
    method: str | None = None
    """package.module:Class of a run whose method is not of this library: it is imported before the run is read."""
    model: str | None = None
    """package.module:function of a run whose model is not of this library: it is imported before the run is read."""
    json: Json = False

    def __post_init__(self) -> None:
        if self.method is not None:
            classes(self.method)
        if self.model is not None:
            import_model(self.model)

    def survey(
        self,
        *,
        inference: Inference | None = None,
        keep_paths: bool | int = False,
        choice: Path | OperatingPoint | None = None,
        limit: int | None = None,
        part: Part = WHOLE,
    ) -> Surveyed:
        """The survey asked for, see `survey_run`."""
        return survey_run(
            self.run,
            data=self.data,
            split=self.split,
            skip_corrupt=self.skip_corrupt,
            weights=self.weights,
            inference=inference,
            keep_paths=keep_paths,
            choice=choice,
            limit=limit,
            part=part,
        )

    def merged(self, parts: Sequence[pathlib.Path]) -> Surveyed:
        """One survey of those of parts of the images asked for, see `merged_run`."""
        corrupt, weights = self.skip_corrupt, self.weights
        return merged_run(self.run, parts, data=self.data, split=self.split, skip_corrupt=corrupt, weights=weights)

    def open(self) -> Run:
        """The run, its network on the GPU where there is one."""
        return open_run(self.run, self.weights)

    def images(self, run: Run) -> ImageSet:
        """The images asked for, see `images_for`."""
        return images_for(run, data=self.data, split=self.split, skip_corrupt=self.skip_corrupt)


@dataclass(frozen=True)
class Draws(OfRun):
    """What verbs take that draw figures of a run."""

    style: Literal["house", "paper"] = "house"
    """How figures look: paper is white, without titles, in PDF."""
