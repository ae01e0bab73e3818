"""``torchpaths survey RUN``: statistics of a run's traces, the health of its gates, and the figures."""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass

from torchpaths.cli import OK
from torchpaths.cli.options import Draws, emit, parse, speaking
from torchpaths.cli.tables import beside_original, side_by_side
from torchpaths.surveys import gate_health
from torchpaths.surveys.figures.style import drawn_as
from torchpaths.train.evaluate import summary


@dataclass(frozen=True)
class Options(Draws):
    """What the verb takes."""

    figures: pathlib.Path | None = None
    """Folder for the figures, PNG and SVG; none are drawn without it."""
    out: pathlib.Path | None = None
    """Folder for survey.json and its arrays; the run folder by default."""


def run(arguments: list[str]) -> int:
    """Survey, save, draw and print. Returns the exit status, see `torchpaths.cli.main`."""
    options = parse(Options, arguments, "survey", "Which units of a run's network open for which classes.")
    with speaking(options.json) as console, drawn_as(options.style):
        found = options.survey(keep_paths=True)
        file = found.survey.save(options.out or options.run)
        drawn = [] if options.figures is None else found.draw(options.figures)
        health = gate_health(found.survey)
        console.print(side_by_side([found.survey]))
        console.print("\n".join(health.rows()))
        if options.figures is not None and not drawn:
            console.print("no figures: this network takes one path for every image")
        if found.run.spec is not None:
            console.print(beside_original(found.run.spec))
        console.print("\n".join(f"wrote {path}" for path in (file, *drawn)), soft_wrap=True)
    if options.json:
        gates = {gate.unit: dataclasses.asdict(gate) for gate in health.gates}
        files = {"survey": str(file), "figures": [str(path) for path in drawn]}
        told = {"gates": gates, "closed": list(health.closed), "warnings": health.told}
        emit({"folder": str(options.run), **files, **summary(found.survey), **told})
    return OK
