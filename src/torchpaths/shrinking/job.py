"""The whole job: choose what to close, train what is left with the original as teacher, cut it out, and compare.

FOLDER/closed.json  what was chosen
FOLDER/run        the run: the network along its path, as any run
FOLDER/cut        the network that is left, see `torchpaths.cuts`
FOLDER/shrunk.json  what was closed and what came out
"""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torchpaths.budget import Budget
from torchpaths.costs import count_params
from torchpaths.cuts import save_cut
from torchpaths.data import Loader
from torchpaths.errors import RunError
from torchpaths.extraction import extract, plain
from torchpaths.files.document import read_json as read_typed
from torchpaths.files.write import write_json
from torchpaths.meter import Measurement, measure
from torchpaths.meter.meter import SECONDS
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.shrinking.close import Shrunk, Step, shrink
from torchpaths.surveys import survey
from torchpaths.train.anew import replaced
from torchpaths.train.cut_folder import original
from torchpaths.train.distil import START, Distil
from torchpaths.train.folder import Run, build, load_run, open_images
from torchpaths.train.images import open_both
from torchpaths.train.recipe import Json, Recipe
from torchpaths.train.run import resolved, train

SCHEMA = "torchpaths.shrunk/1"

DISTIL = Distil(START, weight=0.7, temperature=3.0)
"""As much as labels say less of a trained network than it does itself."""

CLOSED = "closed.json"

QUICK = 0.3
"""Seconds of timed work for each step of a budget in milliseconds."""


@dataclass(frozen=True)
class Row:
    """A network in the comparison.

    Attributes:
        name: "original", "closed" before training, or "shrunk".
        accuracy: on test images, 0 to 1.
        macs: of one image.
        params: parameters.
    """

    name: str
    accuracy: float
    macs: int
    params: int


@dataclass(frozen=True)
class Job:
    """What came out.

    Attributes:
        shrunk: what was closed.
        rows: the networks beside each other.
        times: what is left beside the original, a row for each batch size.
        folder: where it is.
    """

    shrunk: Shrunk
    rows: tuple[Row, ...]
    times: tuple[Measurement, ...]
    folder: pathlib.Path

    def to_json(self) -> Json:
        """As JSON data."""
        return {
            "schema": SCHEMA,
            "closed": [dataclasses.asdict(step) for step in self.shrunk.steps],
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "times": [row.to_json() for row in self.times],
        }


def shrink_run(
    recipe: Recipe,
    budget: Budget,
    folder: pathlib.Path,
    *,
    images: int = 384,
    batch: tuple[int, ...] = (1, 32),
    seconds: float = SECONDS,
    quiet: bool = False,
    progress: Callable[[Step], None] | None = None,
    force: bool = False,
) -> Job:
    """Shrink the network that a recipe starts from.

    Args:
        recipe: model, data and weights; how what is left is trained. Its method is what is closed.
        budget: of MACs, of open blocks, or of milliseconds for one image on this device.
        folder: what to make; one in which training was stopped goes on with what was chosen before.
        images: training images by which to choose.
        batch: batch sizes for the times.
        seconds: of timed work for each.
        quiet: no progress of training.
        progress: told of each block that is closed.
        force: begin anew, in the place of the network that the folder holds.

    Raises:
        RunError: for a recipe without weights, or with a method or start.
        BudgetError: for a budget that cannot be met.
    """
    if recipe.weights is None or recipe.method is not None or recipe.start is not None:
        raise RunError("what is shrunk is a trained plain network: give its weights, and neither method nor start.")
    recipe = resolved(recipe)
    both = open_both(recipe)
    # Training may be given images of more pixels, of which it takes crops.
    train_set = both.train if both.train.shape == both.test.shape else open_images(recipe, "train")
    mean, std = both.mean, both.std
    whole = build(recipe, train_set.classes, train_set.shape).eval()
    _check_blocks(whole)
    drawn = Loader(train_set, min(images, 128), shuffle=True, seed=recipe.seed, mean=mean, std=std)
    some = [x for x, _ in itertools.islice(drawn, -(-images // min(images, 128)))]
    timed = _milliseconds(whole, some[0][:1]) if budget.ms is not None else None
    asked = _asked(recipe, budget, images)
    found = None if force else _chosen(folder, whole, asked)
    if found is None:
        found = shrink(whole, some, budget, ms=timed, progress=progress)
    if not found.steps:
        raise RunError(
            f"the network is within {budget} already, so there is nothing to close: it takes "
            f"{whole.layout.plain.macs:,} MACs."
        )
    with replaced(folder, recipe) if force else nullcontext():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CLOSED, {"asked": asked, "closed": [dataclasses.asdict(step) for step in found.steps]})
        test = Loader(both.test, 256, mean=mean, std=std)
        with_path = dataclasses.replace(recipe, method=found.method)
        before = build(with_path, train_set.classes, train_set.shape).eval()
        original, closed = (survey(net, test).accuracy for net in (whole, before))
        train(with_path, folder / "run", quiet=quiet)
    opened = load_run(folder / "run")
    after = survey(opened.net, test).accuracy
    small = extract(opened.net, found.path)
    _save(opened, found.path, folder / "cut")
    was, now = whole.layout.plain, found.path.cost(opened.net)
    rows = (
        Row("original", original, was.macs, was.params),
        Row("closed", closed, now.macs, now.params),
        Row("shrunk", after, now.macs, count_params(small)),
    )
    unshrunk = plain(whole)
    times = [
        measure(small, _repeated(some[0], size), against=unshrunk, label="shrunk", seconds=seconds) for size in batch
    ]
    job = Job(found, rows, tuple(times), folder)
    write_json(folder / "shrunk.json", job.to_json())
    return job


@dataclass(frozen=True)
class _Closed:
    asked: dict[str, str]
    closed: tuple[Step, ...]


def _asked(recipe: Recipe, budget: Budget, images: int) -> dict[str, str]:
    """What the choice follows from, in words."""
    of = ("model", "data", "weights", "mean", "std", "seed")
    return {"budget": str(budget), "images": str(images), **{name: str(getattr(recipe, name)) for name in of}}


def _chosen(folder: pathlib.Path, net: Routed, asked: dict[str, str]) -> Shrunk | None:
    """What was chosen when this job was begun; None if it was not.

    Raises:
        RunError: for a file that is damaged, of another network, or of other wishes.
    """
    file = folder / CLOSED
    if not file.is_file():
        return None
    told: _Closed = read_typed(file, RunError, "remove it to choose again", _Closed)
    other = [
        f"{name}: {told.asked.get(name)} -> {value}" for name, value in asked.items() if told.asked.get(name) != value
    ]
    if other:
        raise RunError(
            f"{folder} was begun otherwise ({'; '.join(other)}); repeat that command, or take a new "
            "folder; --force begins anew in its place."
        )
    closed = {step.unit for step in told.closed}
    names = {unit.name for unit in net.layout.units}
    if not closed <= names:
        raise RunError(f"{file} closes {sorted(closed - names)[0]!r}, which this network has not; take a new folder.")
    opened = {site: [unit.name not in closed for unit in units] for site, units in net.layout.sites.items()}
    return Shrunk(Path(opened, net.layout.fingerprint), told.closed)


def _check_blocks(net: Routed) -> None:
    others = next((u.kind for u in net.layout.units if u.kind != "block"), None)
    if others is not None:
        raise RunError(f"this network has no residual blocks but {others}, which nothing trains closed; cut them.")


def _milliseconds(net: Routed, x: Tensor) -> Callable[[Path], float]:
    original = plain(net)

    def ms(path: Path) -> float:
        return measure(extract(net, path), x, against=original, seconds=QUICK).ms

    return ms


def _repeated(x: Tensor, size: int) -> Tensor:
    """So many images."""
    return x.repeat(-(-size // len(x)), *(1,) * (x.dim() - 1))[:size]


def _save(opened: Run, path: Path, folder: pathlib.Path) -> Any:
    if (folder / "spec.json").is_file():
        return None
    with torch.no_grad():
        return save_cut(**original(opened, path, None), folder=folder)
