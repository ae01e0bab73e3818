"""``torchpaths decode RUN``: what a coded run's branches, classes and early decoders are worth."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from rich import box
from rich.table import Table
from torch import Tensor

from torchpaths.cli import OK
from torchpaths.cli.options import Draws, emit, parse, speaking
from torchpaths.coding.decode import coded_sites
from torchpaths.data import ImageSet, Loader, open_data
from torchpaths.decoding import decode_report
from torchpaths.errors import DataError, RunError
from torchpaths.extraction import plain
from torchpaths.files.write import write_json
from torchpaths.methods import Branches
from torchpaths.routed import Routed
from torchpaths.routing import route
from torchpaths.surveys.figures.style import drawn_as
from torchpaths.train.evaluate import images_for, open_run
from torchpaths.train.folder import Run

BATCH = 256

WHO = {
    "paths": "class paths",
    "whole": "whole network",
    "twin": "twin’s class paths",
    "twin_whole": "whole twin",
}


@dataclass(frozen=True)
class Options(Draws):
    """What the verb takes."""

    ood: pathlib.Path | None = None
    """An image set of other classes and the same image size, as negatives out of distribution."""
    twin: pathlib.Path | None = None
    """Run folder of the same model trained without codes, to be cut by the same codewords; by default the twin that
    the run was trained with, if there is one."""
    train_images: int | None = None
    """Choose thresholds on about so many training images, drawn by the run's seed; by default on all."""
    test_images: int | None = None
    """Measure on about so many images, drawn alike, of the run's data and of others; by default on all."""
    site: str | None = None
    """The block from which branches are removed; by default the last of the first coding scheme."""
    repeats: int = 3
    """How often the branches to be removed are drawn."""
    out: pathlib.Path | None = None
    """Folder for decode.json and the figures; the run folder by default."""


class Part:
    """The first batches of a loader, as often as they are asked for."""

    def __init__(self, loader: Loader, images: int) -> None:
        self.loader = loader
        self.count = min(len(loader), -(-images // loader.batch_size))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return itertools.islice(iter(self.loader), self.count)


def run(arguments: list[str]) -> int:
    """Measure, save, draw and print. Returns the exit status, see `torchpaths.cli.main`."""
    about = "Branches removed, classifiers of single classes, early decoders and calibration of a coded run."
    options = parse(Options, arguments, "decode", about)
    with speaking(options.json) as console, drawn_as(options.style):
        opened = options.open()
        out = options.out or options.run
        found = report(options, opened, options.images(opened), out / "figures")
        file = out / "decode.json"
        write_json(file, {name: value for name, value in found.items() if name != "files"})
        for table in _tables(found):
            console.print(table)
        console.print("\n".join(f"wrote {written}" for written in (file, *found["files"])), soft_wrap=True)
    if options.json:
        emit({"folder": str(options.run), **found, "files": [str(file), *found["files"]]})
    return OK


def report(options: Options, opened: Run, images: ImageSet, figures: pathlib.Path) -> dict[str, Any]:
    """All that ``decode.json`` says of a run, and under ``files`` the figures written into a folder.

    Raises:
        RunError: for a run without codewords, or a twin that is none.
        DataError: for images that cannot be read, or other images that are no strangers.
    """
    units = _units(opened)
    train = images_for(opened, data=options.data, split="train", skip_corrupt=options.skip_corrupt)
    ood = None if options.ood is None else foreign_images(options.ood, options.skip_corrupt, opened, images)
    own = options.run / "plain"
    twin = own if options.twin is None and (own / "summary.json").is_file() else options.twin
    return decode_report(
        opened.net,
        some_of(train, opened, options.train_images),
        some_of(images, opened, options.test_images),
        None if ood is None else some_of(ood, opened, options.test_images),
        None if twin is None else _twin(twin, opened, units),
        site=options.site,
        repeats=options.repeats,
        seed=opened.recipe.seed,
        classes=opened.classes,
        title=f"{opened.recipe.model} on {images.name}",
        folder=figures,
        progress=True,
    )


def _units(opened: Run) -> set[int]:
    """How many branches the run's coded blocks have.

    Raises:
        RunError: if it has none.
    """
    units = {code.units for code in coded_sites(opened.net).values()}
    if not units:
        raise RunError(
            f"the run {opened.folder} has no codewords to decode; train one that has, for example torchpaths train "
            "cifar10_coded_paths."
        )
    return units


def some_of(images: ImageSet, opened: Run, most: int | None) -> Loader | Part:
    """Images in batches: all in order, or about so many as they come by chance."""
    if most is None:
        return Loader(images, BATCH, mean=opened.mean, std=opened.std)
    if most < 1:
        raise DataError(
            f"{most} images: --train-images and --test-images take at least one, or leave them out for all."
        )
    size = min(BATCH, most)
    shuffled = Loader(images, size, mean=opened.mean, std=opened.std, shuffle=True, seed=opened.recipe.seed)
    return Part(shuffled, most)


def foreign_images(ood: pathlib.Path, skip_corrupt: bool, opened: Run, images: ImageSet) -> ImageSet:
    """The images out of distribution.

    Raises:
        DataError: for images of another size or mode, or of the run's own classes.
    """
    found = open_data(ood, "test", skip_corrupt, opened.recipe.size, channels=3 if images.shape[2] == 3 else 1)
    if found.name == images.name or set(found.classes) == set(images.classes):
        raise DataError(
            f"--ood {ood} has the classes of {images.name} itself, whose images are no strangers; give another data "
            "set."
        )
    if found.shape != images.shape:
        raise DataError(
            f"the images of {found.name} are {found.shape} (height, width, channels), those of {images.name} "
            f"{images.shape}; give images of that size and mode."
        )
    return found


def _twin(folder: pathlib.Path, opened: Run, units: set[int]) -> Routed:
    """The plain twin with places for its branches.

    Raises:
        RunError: for a run of another model or other classes.
    """
    other = open_run(folder)
    if (other.recipe.model, other.classes) != (opened.recipe.model, opened.classes) or other.recipe.method is not None:
        raise RunError(
            f"the run {folder} is no plain twin of {opened.folder}; train the same model on the same classes with "
            "--method none."
        )
    device = next(other.net.parameters()).device
    model = plain(other.net)
    [same, *others] = units
    return route(model, Branches(None if others else same), example=_example(other.net).to(device))


def _example(net: Routed) -> Tensor:
    return torch.randn(2, *net.example_shape, generator=torch.Generator().manual_seed(0))


def _tables(report: dict[str, Any]) -> Iterator[Table]:
    table = _table(
        "classifiers of single classes, means over the classes", "", "negatives", "precision", "recall", "F1"
    )
    table.add_column("F1 of the means", justify="right")
    for name, text in WHO.items():
        for split, negatives in (("test", "test images"), ("foreign", "other data")):
            found = report["classifiers"].get(name, {}).get(split)
            if found is not None:
                values = [found[key] for key in ("precision", "recall", "mean_f1", "f1_of_means")]
                table.add_row(text, negatives, *(f"{value:.1%}" for value in values))
    yield table
    table = _table(f"early decoders; the network itself {report['accuracy']:.2%}", "block", "accuracy")
    for site, value in report["early"]["decoders"].items():
        table.add_row(site, "–" if value is None else f"{value:.2%}")
    yield table
    table = _table("by how many decoders agree with the network", "decoders", "images", "accuracy")
    for row in report["early"]["agreement"]:
        accuracy = row["accuracy"]
        table.add_row(row["decoders"], f"{row['images']:,}", "–" if accuracy is None else f"{accuracy:.2%}")
    yield table
    table = _table("calibration", "", "ECE", "NLL")
    for name in ("unscaled", "temperature", "decoders"):
        way = report["calibration"][name]
        table.add_row(name, f"{way['ece']:.2%}", f"{way['nll']:.4f}")
    yield table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="", box=box.SIMPLE_HEAD, min_width=64)
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left", no_wrap=True)
    return table
