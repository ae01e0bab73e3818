"""``torchpaths evaluate RUN``: accuracy, MACs and units open of a trained run."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from torchpaths.cli import OK, MisuseError
from torchpaths.cli.choice import OfPath, choose, means
from torchpaths.cli.options import emit, parse, speaking
from torchpaths.cli.tables import beside_original, side_by_side
from torchpaths.deciders.gate import Inference
from torchpaths.train.evaluate import summary


@dataclass(frozen=True)
class Options(OfPath):
    """What the verb takes."""

    inference: Inference | None = None
    """What gates do, instead of what the recipe says: open where likelier, draw, or run all scaled by the rate."""


def run(arguments: list[str]) -> int:
    """Survey the run's network and print. Returns the exit status, see `torchpaths.cli.main`."""
    options = parse(Options, arguments, "evaluate", "Accuracy, mean MACs and units open of a run's network, by class.")
    if options.classes is not None or options.without is not None:
        raise MisuseError("accuracy is over all classes; what single ones are worth is told by torchpaths decode.")
    with speaking(options.json) as console:
        chosen = choose(options, options.open()) if means(options) else None
        found = options.survey(inference=options.inference, choice=None if chosen is None else chosen.what)
        console.print(side_by_side([found.survey]))
        if chosen is not None:
            console.print(f"chosen by {chosen.by}", soft_wrap=True)
        if found.run.spec is not None:
            console.print(beside_original(found.run.spec))
    if options.json:
        told = {"folder": str(options.run), "inference": options.inference, "weights": options.weights}
        by = {} if chosen is None else {"chosen_by": chosen.by}
        spec = found.run.spec
        original = {} if spec is None else {"original": dataclasses.asdict(spec.plain)}
        emit({**told, **by, **summary(found.survey), **original})
    return OK
