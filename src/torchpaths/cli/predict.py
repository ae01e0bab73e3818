"""``torchpaths predict RUN IMAGE...``: what a network says of images, and which blocks it runs for each of them."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from rich import box
from rich.table import Table
from tyro import conf

from torchpaths.cli import OK, MisuseError
from torchpaths.cli.choice import OfPath, by_images, choose, means
from torchpaths.cli.options import emit, parse, refuse, speaking
from torchpaths.cli.tables import count
from torchpaths.surveys.figures.predicted import MOST, Taken, paths_taken
from torchpaths.surveys.figures.style import KINDS, drawn_as, save
from torchpaths.text import visible
from torchpaths.train.folder import Run
from torchpaths.train.predict import Prediction, images_in, others_in, predict

MOST_SITES = 60
"""Up to so many are marked one by one."""


@dataclass(frozen=True)
class Options(OfPath):
    """What the verb takes."""

    files: Annotated[conf.Positional[tuple[pathlib.Path, ...]], conf.arg(metavar="IMAGE...")] = ()
    """Files of images, or folders of them."""
    out: pathlib.Path | None = None
    """A picture to write, .png, .svg or .pdf: the images with the path that each took beneath."""
    style: Literal["house", "paper"] = "house"
    """How the picture looks: paper is white and without a title."""


def run(arguments: list[str]) -> int:
    """Read, ask, print and draw. Returns the exit status, see `torchpaths.cli.main`."""
    about = "Class, confidence, MACs and the blocks that ran, for each of some images."
    options = parse(Options, arguments, "predict", about)
    kind = None if options.out is None else options.out.suffix.lower().removeprefix(".")
    if kind is not None and kind not in KINDS:
        raise MisuseError(f"--out {options.out}: a picture ends in {', '.join(f'.{known}' for known in KINDS)}.")
    if options.classes is not None or options.without is not None:
        raise MisuseError("--classes: cut them out first, torchpaths cut RUN --classes CLASS, and give that folder.")
    if not by_images(options):
        why = "the images are those named, and a set only says what is kept by --label or --budget-macs; leave it out."
        refuse(arguments, ("data", "split"), why)
    if options.out is None:
        refuse(arguments, ("style",), "no picture is drawn; give --out FILE, or leave it out.")
    with speaking(options.json) as console, drawn_as(options.style):
        opened = options.open()
        chosen = choose(options, opened) if means(options) else None
        files = images_in(options.files)
        what = None if chosen is None else chosen.what
        found = predict(opened, files, what, skip_corrupt=options.skip_corrupt)
        console.print(table(found, opened, options.files))
        if corrupt := len(files) - len(found):
            console.print(f"left out: {corrupt} that cannot be decoded")
        if others := others_in(options.files):
            console.print(f"left out: {others} that are no images by their endings")
        if chosen is not None:
            console.print(f"path chosen by {chosen.by}", soft_wrap=True)
        if options.out is not None:
            drawn = paths_taken([_taken(one, opened) for one in found], opened.net.layout, opened.recipe.model)
            [file] = save(drawn, options.out.with_suffix(""), kinds=(str(kind),))
            left = len(found) - MOST
            console.print(f"wrote {file}" + (f", without {left} images of {len(found)}" if left > 0 else ""))
    if options.json:
        told = [one.to_json(opened.classes, opened.plain_macs) for one in found]
        emit({"folder": str(options.run), "images": told, "corrupt": corrupt, "others": others})
    return OK


def shown_name(file: pathlib.Path, named: Sequence[pathlib.Path]) -> str:
    """A file's name, or where it is in the folder that was named."""
    folder = next((one for one in named if one != file and file.is_relative_to(one)), file.parent)
    return str(file.relative_to(folder))


def table(found: Sequence[Prediction], opened: Run, named: Sequence[pathlib.Path]) -> Table:
    """A row for each image; in a network of few blocks with a mark for each that ran."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    sites = opened.net.layout.sites
    made.add_column("image", overflow="fold")
    made.add_column("class")
    for name in ("confidence", "MACs", "of plain", "ran"):
        made.add_column(name, justify="right", no_wrap=True)
    names = [shown_name(one.file, named) for one in found]
    apart = len(set(names)) == len(found)  # a column is too narrow for long folders
    for name, one in zip(names, found, strict=True):
        made.add_row(
            visible(name if apart else str(one.file)),
            visible(opened.classes[one.label]),
            f"{one.confidence:.1%}",
            count(one.macs),
            f"{one.macs / opened.plain_macs:.1%}",
            f"{sum(one.opened.values())} of {len(one.opened)}",
        )
        if len(sites) > MOST_SITES:
            continue
        marks = "".join("\u25a0" if any(one.opened[u.name] for u in units) else "\u25a1" for units in sites.values())
        made.add_row(marks, style="dim")
    return made


def _taken(one: Prediction, opened: Run) -> Taken:
    said = f"{visible(opened.classes[one.label])} {one.confidence:.1%}"
    return Taken(one.pixels, said, one.opened, one.macs / opened.plain_macs, one.file.name)
