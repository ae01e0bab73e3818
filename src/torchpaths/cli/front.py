"""``torchpaths front RUN``: the menu of a run, written beside it, drawn and printed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from rich import box
from rich.table import Table

from torchpaths.cli import OK
from torchpaths.cli.options import Draws, emit, parse, speaking
from torchpaths.cli.stale import stale_page
from torchpaths.data import Loader
from torchpaths.data.first import First
from torchpaths.errors import DataError
from torchpaths.fronts import Front, Profile, front
from torchpaths.fronts.figure import draw_front
from torchpaths.fronts.swaps import swaps
from torchpaths.meter.row import digits
from torchpaths.surveys.figures import save
from torchpaths.surveys.figures.style import drawn_as
from torchpaths.train.folder import read_accuracy


@dataclass(frozen=True)
class Options(Draws):
    """What the verb takes."""

    batch: tuple[int, ...] = (1,)
    """Images in a batch for the times, one number or several."""
    threads: int | None = None
    """Threads on the CPU for the times; as many as torch chooses by default."""
    limit: int | None = None
    """Measure accuracy on so many images drawn from the set instead of all."""
    subset: int = 512
    """Images to search on."""
    seconds: float = 1.0
    """Timed work for each point and batch."""
    seed: int = 0
    """Of the images drawn and of the order of runs."""


def run(arguments: list[str]) -> int:
    """Search, measure, save, draw and print. Returns the exit status, see `torchpaths.cli.main`."""
    about = "Sub-networks and operating points of a run that no other beats in accuracy, MACs and milliseconds."
    options = parse(Options, arguments, "front", about)
    if options.limit is not None and options.limit < 1:
        raise DataError(f"--limit {options.limit}: accuracy needs at least one image.")
    with speaking(options.json) as console, drawn_as(options.style):
        opened = options.open()
        images = options.images(opened)
        drawn = options.limit is not None
        loader = Loader(images, 256, shuffle=drawn, seed=options.seed, mean=opened.mean, std=opened.std)
        made = front(
            opened.net,
            First(loader, options.limit) if options.limit is not None else loader,
            batch=options.batch,
            threads=options.threads,
            subset=options.subset,
            seconds=options.seconds,
            seed=options.seed,
            progress=True,
        )
        made = dataclasses.replace(made, name=opened.recipe.model, dataset=images.name, split=options.split)
        files = [made.save(options.run)]
        plain = opened.folder / "plain"
        twin = read_accuracy(plain) if (plain / "summary.json").is_file() and options.data is None else None
        for i, profile in enumerate(made.profiles):
            stem = "front" if i == 0 else f"front-batch-{profile.setting.batch}"
            files += save(draw_front(made, profile, twin), options.run / "figures" / stem)
            console.print(menu(made, profile))
        console.print("\n".join([*(f"wrote {file}" for file in files), *stale_page(files[0])]), soft_wrap=True)
    if options.json:
        emit({"folder": str(options.run), "files": [str(file) for file in files], **made.to_json()})
    return OK


def menu(made: Front, profile: Profile) -> Table:
    """The points worth having, with the times of one profile."""
    table = Table(
        title=f"{made.name} on {made.dataset}, {made.images:,} images; everything open {made.accuracy:.2%}, "
        f"{digits(profile.plain_ms)} ms\n{profile.setting}",
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("point")  # the one that may wrap where there is little room
    for name in ("open", "MACs", "accuracy", "ms", "of plain", "gap"):
        table.add_column(name, justify="right", no_wrap=True)
    plain = made.layout.plain.macs
    points = made.menu(profile)
    for point in points:
        assert point.time is not None
        table.add_row(
            str(made.number(point)),
            made.title(point),
            f"{point.open:.1%}",
            f"{point.macs / plain:.1%}",
            f"{point.accuracy:.2%}",
            digits(point.time.ms),
            f"{point.time.ratio.value:.1%}",
            f"{point.time.gap.value:.2f}{' !' if point.time.warnings else ''}",
        )
    lines = [*profile.warnings, *swaps(made)]
    if vague := sum(point.time is not None and bool(point.time.warnings) for point in points):
        lines.append(f"{vague} of {len(points)} times have intervals that say little; measure longer, with --seconds")
    table.caption, table.caption_justify = "\n".join(f"! {line}" for line in lines), "left"
    return table
