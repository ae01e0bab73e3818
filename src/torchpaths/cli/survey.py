"""``torchpaths survey RUN``: statistics of a run's traces, the health of its gates, and the figures."""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass
from typing import Annotated

from tyro import conf

from torchpaths.attacks.pixels import check_strength
from torchpaths.cli import OK
from torchpaths.cli.attack import strength_of
from torchpaths.cli.figures import draw
from torchpaths.cli.measured import measured, measured_json
from torchpaths.cli.options import Draws, emit, parse, refuse, speaking
from torchpaths.cli.stale import stale_page
from torchpaths.cli.tables import beside_original, side_by_side
from torchpaths.data.part import WHOLE, Part
from torchpaths.errors import DataError
from torchpaths.surveys import gate_health
from torchpaths.surveys.figures.style import drawn_as
from torchpaths.train.columns import with_alone, with_front, with_gallery, with_times
from torchpaths.train.evaluate import Surveyed, summary


@dataclass(frozen=True)
class Options(Draws):
    """What the verb takes."""

    figures: pathlib.Path | None = None
    """Folder for the figures, PNG and SVG; none are drawn without it."""
    out: pathlib.Path | None = None
    """Folder for survey.json and its arrays; the run folder by default."""
    limit: int | None = None
    """Survey so many images drawn from the set instead of all."""
    part: str | None = None
    """Survey one part of the images, 1/2 the first of two, for processes that share them; each needs an --out of its
    own."""
    merge: tuple[pathlib.Path, ...] = ()
    """Survey no images, but make one survey of those of parts, by their folders."""
    keep: int | None = None
    """Keep the paths of so many images, drawn by their numbers, instead of all."""
    alone: Annotated[bool, conf.FlagCreatePairsOff] = False
    """Also shut each unit alone and count the accuracy lost; takes a pass for each unit."""
    alone_images: int = 1000
    """Over so many images of the set, drawn by the run's seed."""
    gallery: Annotated[bool, conf.FlagCreatePairsOff] = False
    """Also keep thumbnails of easy and hard images of each class and what the network makes of them; with --alone also
    without each unit."""
    attack: str | None = None
    """With --gallery, also keep each of these images after FGSM of this strength: how far each pixel, of 0 to 1, may be
    changed, 4/255."""
    times: Annotated[bool, conf.FlagCreatePairsOff] = False
    """Also measure milliseconds beside the plain network, on this device."""
    batch: int = 1
    """Images in a batch for the times."""


def run(arguments: list[str]) -> int:
    """Survey, save, draw and print. Returns the exit status, see `torchpaths.cli.main`."""
    options = parse(Options, arguments, "survey", "Which units of a run's network open for which classes.")
    if options.keep is not None and options.keep < 1:
        raise DataError(f"--keep {options.keep}: give how many images to keep, or leave it out for all.")
    if options.limit is not None and options.limit < 1:
        raise DataError(f"--limit {options.limit}: a survey needs at least one image.")
    needs = (("style", "figures"), ("alone-images", "alone"), ("attack", "gallery"), ("batch", "times"))
    for name, needed in needs:
        if not getattr(options, needed):
            refuse(arguments, (name,), f"means nothing without --{needed}; give that too, or leave it out.")
    if options.merge:
        why = "means nothing with --merge, which surveys no images; leave one of them out."
        refuse(arguments, ("limit", "part", "keep"), why)
    if options.part is not None:
        why = "means nothing with --part: a part has images of its own; leave one of them out."
        refuse(arguments, ("limit",), why)
        if options.out is None:
            raise DataError(
                f"--part {options.part} without --out would replace the survey of the run; give a folder for this part."
            )
    part = WHOLE if options.part is None else Part.parse(options.part)
    if options.attack is not None:
        check_strength(strength_of(options.attack))  # now and not after the pass
    with speaking(options.json) as console, drawn_as(options.style):
        if options.merge:
            found = options.merged(options.merge)
        else:
            keep = True if options.keep is None else options.keep
            found = options.survey(keep_paths=keep, limit=options.limit, part=part)
        found, told = _more(found, options)
        file = found.survey.save(options.out or options.run)
        drawn, left = ([], []) if options.figures is None else draw(found, options, options.figures)
        told += left
        health = gate_health(found.survey)
        console.print(side_by_side([found.survey]))
        console.print("\n".join(health.rows()))
        for line in measured(found.survey):
            console.print(line, soft_wrap=True, markup=False)
        if told:
            console.print("\n".join(told), soft_wrap=True)
        if options.figures is not None and not drawn:
            console.print("no figures: this network takes one path for every image")
        if found.run.spec is not None:
            console.print(beside_original(found.run.spec))
        console.print("\n".join([*(f"wrote {path}" for path in (file, *drawn)), *stale_page(file)]), soft_wrap=True)
    if options.json:
        gates = {gate.unit: dataclasses.asdict(gate) for gate in health.gates}
        files = {"survey": str(file), "figures": [str(path) for path in drawn]}
        warned = {"gates": gates, "closed": list(health.closed), "warnings": health.told}
        emit({"folder": str(options.run), **files, **summary(found.survey), **measured_json(found.survey), **warned})
    return OK


def _more(found: Surveyed, options: Options) -> tuple[Surveyed, list[str]]:
    """What is asked for beside the counts, and what there is to say of it."""
    found, front = with_front(found)
    told = [front] if front else []
    if options.merge and (count := int(found.survey.images.sum())) < len(found.images):
        told.append(f"merged: {count:,} of the {len(found.images):,} images of {found.images.name}")
    if options.alone:
        found = with_alone(found, options.alone_images)
    if options.gallery:
        found = with_gallery(found, options.alone, None if options.attack is None else strength_of(options.attack))
    if options.times:
        found = with_times(found, options.batch)
    return found, told
