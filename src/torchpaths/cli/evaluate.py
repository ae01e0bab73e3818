"""``torchpaths evaluate RUN``: accuracy, MACs and units open of a trained run."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Annotated

from tyro import conf

from torchpaths.cli import OK
from torchpaths.cli.options import Json, Split, emit, parse, speaking
from torchpaths.cli.runs import summary, survey_run
from torchpaths.cli.tables import side_by_side
from torchpaths.deciders import Inference
from torchpaths.train.folder import Weights


@dataclass(frozen=True)
class Options:
    """What the verb takes."""

    run: conf.Positional[pathlib.Path]
    """Run folder."""
    data: str | None = None
    """Another image set than the run's, of the same classes and image size."""
    split: Split = "test"
    """Which part of the image set."""
    weights: Weights = "final"
    """The final weights, their moving average, or those of the best or last checkpoint."""
    inference: Inference | None = None
    """What gates do, instead of what the recipe says: open where likelier, draw, or run all scaled by the rate."""
    skip_corrupt: Annotated[bool, conf.FlagCreatePairsOff] = False
    """Leave out images that cannot be decoded instead of stopping at the first."""
    json: Json = False


def run(arguments: list[str]) -> int:
    """Survey the run's network and print. Returns the exit status, see `torchpaths.cli.main`."""
    options = parse(Options, arguments, "evaluate", "Accuracy, mean MACs and units open of a run's network, by class.")
    with speaking(options.json) as console:
        found = survey_run(
            options.run,
            data=options.data,
            split=options.split,
            skip_corrupt=options.skip_corrupt,
            weights=options.weights,
            inference=options.inference,
        ).survey
        console.print(side_by_side([found]))
    if options.json:
        emit({"folder": str(options.run), "inference": options.inference, "weights": options.weights, **summary(found)})
    return OK
