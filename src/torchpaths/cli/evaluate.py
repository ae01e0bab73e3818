"""``torchpaths evaluate RUN``: accuracy, MACs and units open of a trained run."""

from __future__ import annotations

from dataclasses import dataclass

from torchpaths.cli import OK
from torchpaths.cli.options import OfRun, emit, parse, speaking
from torchpaths.cli.tables import side_by_side
from torchpaths.deciders.gate import Inference
from torchpaths.train.evaluate import summary


@dataclass(frozen=True)
class Options(OfRun):
    """What the verb takes."""

    inference: Inference | None = None
    """What gates do, instead of what the recipe says: open where likelier, draw, or run all scaled by the rate."""


def run(arguments: list[str]) -> int:
    """Survey the run's network and print. Returns the exit status, see `torchpaths.cli.main`."""
    options = parse(Options, arguments, "evaluate", "Accuracy, mean MACs and units open of a run's network, by class.")
    with speaking(options.json) as console:
        found = options.survey(inference=options.inference).survey
        console.print(side_by_side([found]))
    if options.json:
        emit({"folder": str(options.run), "inference": options.inference, "weights": options.weights, **summary(found)})
    return OK
