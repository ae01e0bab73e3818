"""``torchpaths filters RUN``: which filters of a run open for what, and what they tell of the class."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from torchpaths.cli import OK
from torchpaths.cli.decode import some_of
from torchpaths.cli.options import Draws, emit, parse, speaking
from torchpaths.cli.tables import count
from torchpaths.data import ImageSet
from torchpaths.errors import RouteError, RunError
from torchpaths.files.write import write_json
from torchpaths.filtering import Trained, filter_report, filter_sites, head_weights, trained
from torchpaths.filtering.categories import Heads
from torchpaths.filtering.draw_states import draw_runs
from torchpaths.filtering.runs import ordered
from torchpaths.filtering.states import STATES
from torchpaths.routed import Routed
from torchpaths.surveys.figures import save
from torchpaths.surveys.figures.style import drawn_as, shorten
from torchpaths.train import checkpoint
from torchpaths.train.evaluate import images_for, open_run, survey_run
from torchpaths.train.folder import Run, Weights, read_recipe
from torchpaths.train.seed import seed_evaluation

MOST_LAYERS = 24
"""Of more layers every second, or third, is in the printed table; all are in the file."""


@dataclass(frozen=True)
class Options(Draws):
    """What the verb takes."""

    twin: pathlib.Path | None = None
    """Run folder of another network of the same model, say trained with --method.kl 0, to compare what layers tell."""
    against: tuple[pathlib.Path, ...] = ()
    """Run folders of networks trained with other weights of the losses, for the table of filters, MACs and accuracy."""
    train_images: int | None = 5000
    """Fit linear classifiers on about so many training images, drawn by the run's seed; None for all."""
    test_images: int | None = None
    """Measure on about so many images, drawn alike; by default on all. Then images of filters are not drawn."""
    embedded: int = 1000
    """Images in the t-SNE figure; 0 for none."""
    site: str | None = None
    """The layer of which is shown what its filters see; by default the one with the filter that tells most."""
    out: pathlib.Path | None = None
    """Folder for filters.json and the figures; the run folder by default."""


def run(arguments: list[str]) -> int:
    """Measure, save, draw and print. Returns the exit status, see `torchpaths.cli.main`."""
    about = "States, paths, information, embedding, images and categories of the filters of a run with GatedFilters."
    options = parse(Options, arguments, "filters", about)
    with speaking(options.json) as console, drawn_as(options.style):
        opened = options.open()
        _check(opened.net, options.run)
        out = options.out or options.run
        found = report(options, opened, options.images(opened), out / "figures")
        file = out / "filters.json"
        write_json(file, {name: value for name, value in found.items() if name != "files"})
        for table in _tables(found, next(iter(found["information"]))):
            console.print(table)
        console.print("\n".join(f"wrote {written}" for written in (file, *found["files"])), soft_wrap=True)
    if options.json:
        emit({"folder": str(options.run), **found, "files": [str(file), *found["files"]]})
    return OK


def report(options: Options, opened: Run, images: ImageSet, figures: pathlib.Path) -> dict[str, Any]:
    """All that ``filters.json`` says of a run, and under ``files`` the figures written into a folder.

    Raises:
        RunError: for another run that cannot be compared with it.
        DataError: for images that cannot be read.
    """
    twin = None if options.twin is None else _twin(options.twin, opened)
    rows = [(folder, _weights(folder)) for folder in options.against]
    train = images_for(opened, data=options.data, split="train", skip_corrupt=options.skip_corrupt)
    title = f"{opened.recipe.model} on {images.name}"
    seed_evaluation(opened.recipe.seed, 0)  # for gates that draw in evaluation too
    report = filter_report(
        opened.net,
        some_of(train, opened, options.train_images),
        some_of(images, opened, options.test_images),
        twin,
        mixed=some_of(images, opened, max(options.embedded, 256)),
        images=images if options.test_images is None else None,
        heads=_heads(opened, options.weights),
        site=options.site,
        names=(options.run.name, "other" if options.twin is None else options.twin.name),
        embedded=options.embedded,
        seed=opened.recipe.seed,
        classes=opened.classes,
        title=title,
        folder=figures,
        progress=True,
    )
    if rows:
        found = ordered([_row(options, folder, w) for folder, w in [(options.run, _weights(options.run)), *rows]])
        report["runs"] = [row.to_json() for row in found]
        report["files"] += [str(f) for f in save(draw_runs(found, title), figures / "filter-runs")]
    return report


def _check(net: Routed, folder: pathlib.Path) -> None:
    """Raise `RunError` for a run without filters."""
    try:
        filter_sites(net)
    except RouteError as error:
        raise RunError(
            f"the run {folder} has no filters that open and close, so there is nothing to see of them; train one that "
            "has, for example torchpaths train digits --method GatedFilters."
        ) from error


def _twin(folder: pathlib.Path, opened: Run) -> Routed:
    """The other network.

    Raises:
        RunError: for a run of another model or other classes, or without filters.
    """
    other = open_run(folder)
    _check(other.net, folder)
    if (other.recipe.model, other.classes) != (opened.recipe.model, opened.classes):
        raise RunError(
            f"the run {folder} is of another model or other classes than {opened.folder}, so their layers cannot be "
            "compared; train the same model on the same data."
        )
    return other.net


def _weights(folder: pathlib.Path) -> dict[str, float]:
    """The weights of the losses that a run was trained with.

    Raises:
        RunError: for a run without filters.
    """
    method = read_recipe(folder).method
    found = {} if method is None else method.weights
    if not {"sparse", "mutual", "kl"} <= found.keys():
        raise RunError(
            f"the run {folder} was trained without losses on its filters, so it has no weights of them to compare by; "
            "give runs that were, for example of torchpaths train digits --method GatedFilters."
        )
    return found


def _row(options: Options, folder: pathlib.Path, of_losses: dict[str, float]) -> Trained:
    survey = survey_run(
        folder, data=options.data, split=options.split, skip_corrupt=options.skip_corrupt, weights=options.weights
    ).survey
    weights = {name: of_losses[name] for name in ("sparse", "mutual", "kl")}
    return trained(survey, **weights, name=folder.name)


def _heads(opened: Run, weights: Weights) -> Heads | None:
    """The class heads, which only checkpoints hold; None where there are none, or no checkpoint."""
    found = checkpoint.load(opened.folder / "checkpoints", "best" if weights == "best" else "last")
    tensors = {} if found is None else {n: t for n, t in found.tensors.items() if n.startswith("heads.")}
    return head_weights(tensors, opened.net) if tensors else None


def _tables(report: dict[str, Any], name: str) -> Iterator[Table]:
    states, told = report["states"], report["information"][name]
    shares = ", ".join(f"{state} {_percent(states['shares'][state])}" for state in STATES)
    sites = list(states["sites"])
    step = -(-len(sites) // MOST_LAYERS)
    table = _table(f"filters: {shares}", "layer", "filters", *STATES, "I(c;z)", "I(c;y)")
    for site in sites[::step]:
        found = states["sites"][site]
        bits = [told[part].get(site) for part in ("encodings", "features")]
        table.add_row(
            shorten(site, 26),
            str(len(found["opened"])),
            *(str(found[state]) for state in STATES),
            *("–" if bound is None else f"{round(bound['bits'], 2) + 0.0:.2f}" for bound in bits),
        )
    entropy = max((bound["entropy"] for bound in told["features"].values()), default=0.0)
    left_out = "" if step == 1 else f"; one layer of {step} is shown"
    table.caption = f"bits, lower bounds by linear classifiers; the class has {entropy:.2f}{left_out}"
    table.caption_justify = "left"
    yield table
    if "runs" in report:
        table = _table("by the weights of the losses", "lambda s", "m", "k", "MACs", "accuracy", *STATES)
        for row in report["runs"]:
            cells = [_percent(row[state]) for state in STATES]
            weights = (f"{row[key]:g}" for key in ("sparse", "mutual", "kl"))
            table.add_row(*weights, count(row["macs"]), f"{row['accuracy']:.2%}", *cells)
        yield table


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, min_width=64)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    return table
