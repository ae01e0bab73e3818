"""From arguments to a dataclass, with tyro; and the two ways of answering, for people and with ``--json``."""

from __future__ import annotations

import contextlib
import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import tyro
from rich.console import Console
from tyro import conf

from torchpaths.cli.methods import classes
from torchpaths.data import ImageSet
from torchpaths.deciders.gate import Inference
from torchpaths.train.evaluate import Surveyed, images_for, open_run, survey_run
from torchpaths.train.folder import Run, Weights

T = TypeVar("T")

Json: TypeAlias = Annotated[
    bool, conf.FlagCreatePairsOff, conf.arg(help="Print one JSON object and nothing else on standard output.")
]


@dataclass(frozen=True)
class OfRun:
    """What verbs that run a run's network take."""

    run: conf.Positional[pathlib.Path]
    """Run folder."""
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
    json: Json = False

    def __post_init__(self) -> None:
        if self.method is not None:
            classes(self.method)

    def survey(self, *, inference: Inference | None = None, keep_paths: bool = False) -> Surveyed:
        """The survey asked for, see `survey_run`."""
        return survey_run(
            self.run,
            data=self.data,
            split=self.split,
            skip_corrupt=self.skip_corrupt,
            weights=self.weights,
            inference=inference,
            keep_paths=keep_paths,
        )

    def open(self) -> Run:
        """The run, its network on the GPU where there is one."""
        return open_run(self.run, self.weights)

    def images(self, run: Run) -> ImageSet:
        """The images asked for, see `images_for`."""
        return images_for(run, data=self.data, split=self.split, skip_corrupt=self.skip_corrupt)


def parse(kind: type[T], arguments: Sequence[str], verb: str, about: str) -> T:
    """The arguments as an instance of ``kind``; prints help (status 0) or what is wrong (status 2) and exits.

    Args:
        kind: a dataclass; nested ones become ``--field.name``.
        arguments: what follows the verb.
        verb: for the usage line.
        about: the first paragraph of the help.
    """
    config = (conf.AvoidSubcommands, conf.SuppressFixed)
    return tyro.cli(kind, args=arguments, prog=f"torchpaths {verb}", description=about, config=config)


@contextlib.contextmanager
def speaking(as_json: bool) -> Iterator[Console]:
    """The console to print tables on. With ``--json`` whatever is printed meanwhile goes to standard error."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield Console(stderr=as_json, highlight=False, emoji=False)


def emit(result: dict[str, Any]) -> None:
    """Print ``result`` as one JSON object on one line of standard output. NaN, which JSON cannot say, must be None."""
    print(json.dumps(result, allow_nan=False), flush=True)
