"""``torchpaths shrink RUN-or-MODEL``: blocks closed for good within a budget, what is left trained, cut out and
compared."""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass
from typing import Annotated

from rich import box
from rich.table import Table
from tyro import conf

from torchpaths.budget import Budget
from torchpaths.cli import OK
from torchpaths.cli.options import Json, emit, parse, speaking
from torchpaths.cli.tables import count
from torchpaths.data import Augment
from torchpaths.errors import BudgetError, DataError, RunError
from torchpaths.exports import export
from torchpaths.exports.suffixes import format_of
from torchpaths.files.fresh import check_new
from torchpaths.meter.doubts import noted
from torchpaths.meter.meter import SECONDS
from torchpaths.meter.row import digits
from torchpaths.shrinking.close import Step
from torchpaths.shrinking.job import CLOSED, DISTIL, Job, shrink_run
from torchpaths.terminal import Console
from torchpaths.train.folder import load_run, read_recipe, read_seen
from torchpaths.train.recipe import Recipe

LR = 0.02
"""Of SGD, a fifth of what trains these networks from scratch."""


@dataclass(frozen=True)
class Options:
    """What the verb takes."""

    network: conf.Positional[str]
    """A run folder of a plain network, or a model by name, which takes --data and --weights."""
    out: pathlib.Path = dataclasses.field(kw_only=True)
    """Folder for the run, the cut network and shrunk.json; the same command goes on where it was stopped."""
    budget_macs: float | None = None
    """Close blocks until so many MACs are left: up to 1 a share of the network's own."""
    budget_ms: float | None = None
    """Or until one image takes so many milliseconds here."""
    budget_open: float | None = None
    """Or until this share of blocks is left."""
    data: str | None = None
    """Image set of a model; that of the run by default."""
    weights: pathlib.Path | None = None
    """Weights of a model: safetensors, .pth or .pth.tar."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean by which a model's images are normalised, scale 0 to 1; the set's own by default."""
    std: tuple[float, ...] | None = None
    """Per-channel standard deviation."""
    epochs: int = 5
    """Of training after blocks were closed."""
    lr: float | None = None
    """Learning rate; 0.02, or a fifth of the run's."""
    images: int = 384
    """Training images by which blocks are chosen."""
    batch: tuple[int, ...] = (1, 32)
    """Images in a batch for the times, one number or several."""
    seconds: float = SECONDS
    """Timed work for each of these."""
    export: pathlib.Path | None = None
    """Also write what is left for another back end: .onnx, .pt2 or .xml."""
    force: Annotated[bool, conf.FlagCreatePairsOff] = False
    """Begin anew in the place of a network that is in --out, and replace the file of --export."""
    json: Json = False


def run(arguments: list[str]) -> int:
    """Choose, train, cut, measure, print. Returns the exit status, see `torchpaths.cli.main`."""
    about = "Close the blocks that a trained network misses least, within a budget, and train what is left."
    options = parse(Options, arguments, "shrink", about)
    budget = _budget(options)
    recipe = recipe_of(options)
    if options.export is not None:
        into = format_of(options.export)
        into.check()  # now and not after minutes
        begun = (options.out / CLOSED).is_file()  # then the file may be this job's own
        for file in into.files(options.export):
            check_new(file, options.force or begun)
    with speaking(options.json) as console:
        told = Console(stderr=True)
        once: list[str] = []

        def progress(step: Step) -> None:
            once.append(step.unit)
            ms = "" if step.ms is None else f", {digits(step.ms)} ms"
            told.print(
                f"close {step.unit}: {count(step.macs)} MACs{ms}, output off by {step.divergence:.3g} nats",
                markup=False,
            )

        job = shrink_run(
            recipe,
            budget,
            options.out,
            images=options.images,
            batch=options.batch,
            seconds=options.seconds,
            progress=progress,
            force=options.force,
        )
        again = [unit for unit in once if unit not in {step.unit for step in job.shrunk.steps}]
        if again:
            console.print(f"opened again, as there is room for it: {', '.join(again)}", soft_wrap=True, markup=False)
        console.print(table(job))
        files = [options.out / "run", options.out / "cut"]
        if options.export is not None:
            net = load_run(options.out / "run").net
            files.append(export(net, options.export, path=job.shrunk.path).file)
        console.print("\n".join(f"wrote {file}" for file in files), soft_wrap=True)
    if options.json:
        emit({"out": str(options.out), "files": [str(file) for file in files], **job.to_json()})
    return OK


def _budget(options: Options) -> Budget:
    given = {"macs": options.budget_macs, "ms": options.budget_ms, "open": options.budget_open}
    budgets = {name: value for name, value in given.items() if value is not None}
    if len(budgets) != 1:
        raise BudgetError("give one budget: --budget-macs 0.7, --budget-ms 20 or --budget-open 0.8.")
    return Budget(**budgets)


def recipe_of(options: Options) -> Recipe:
    """How what is left is trained.

    Raises:
        RunError: for a run with a method, or a name that is neither a folder nor a model with data and weights.
    """
    folder = pathlib.Path(options.network)
    changes = {
        "epochs": options.epochs,
        "schedule": "cosine",
        "milestones": (),
        "warmup": 0.0,
        "final_lr": 0.0,
        "ema": None,
        "twin": False,
        "distil": DISTIL,
    }
    if (folder / "recipe.json").is_file():
        if options.data is not None or options.weights is not None or options.mean is not None:
            raise RunError("a run has its data, weights and normalisation; leave out --data, --weights and --mean.")
        recipe = read_recipe(folder)
        if recipe.method is not None:
            raise RunError(
                f"{folder} holds a network with {' and '.join(recipe.method.names)}; shrink a plain one: its twin, "
                "FOLDER/plain, where there is one, or the model and weights that it started from."
            )
        seen = read_seen(folder)  # as it was trained, whatever its recipe leaves to the images
        own = {
            "weights": folder / "weights.safetensors",
            "start": None,
            "lr": options.lr or recipe.lr / 5,
            "mean": seen.mean,
            "std": seen.std,
        }
        return recipe.override({**changes, **own})
    if folder.is_dir():
        raise RunError(f"{folder} is no run folder: it has no recipe.json. Give a run, or a model by name.")
    if options.data is None or options.weights is None:
        missing = "--data" if options.data is None else "--weights"
        raise DataError(
            f"{options.network!r} is no folder, so it is a model by name, for which {missing} is missing: its images "
            "are --data FOLDER, its trained weights --weights FILE."
        )
    base = Recipe(
        model=options.network,
        data=options.data,
        weights=options.weights,
        lr=options.lr or LR,
        weight_decay=1e-4,
        nesterov=True,
        augment=Augment(flip=0.5),
        mean=options.mean,
        std=options.std,
        channels_last=True,
    )
    return base.override(changes)


def table(job: Job) -> Table:
    """The networks beside each other."""
    made = Table(
        title=f"{len(job.shrunk.steps)} of {sum(len(v) for v in job.shrunk.path.values())} blocks closed",
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    made.add_column("network")
    for name in ("accuracy", "MACs", "parameters"):
        made.add_column(name, justify="right")
    for time in job.times:
        made.add_column(f"ms, batch {time.setting.batch}", justify="right")
    for row in job.rows:
        cells = [f"{row.accuracy:.2%}", count(row.macs), count(row.params)]
        for time in job.times:
            ms = {"original": time.plain_ms, "shrunk": time.ms}.get(row.name)
            cells.append("" if ms is None else digits(ms))
        made.add_row(row.name, *cells)
    first, last = job.rows[0], job.rows[-1]
    shares = [f"{last.accuracy - first.accuracy:+.2%}", f"{last.macs / first.macs:.1%}"]
    shares.append(f"{last.params / first.params:.1%}")
    of_time = [f"{time.time_ratio.value:.1%}" for time in job.times]
    made.add_row("of original", *shares, *of_time, style="bold")
    spread = [f"{time.time_ratio.low:.1%} to {time.time_ratio.high:.1%}" for time in job.times]
    made.add_row("", "", "", "95 % interval", *spread, style="dim")
    gaps = [f"{time.gap.value:.2f}{' !' if time.warnings else ''}" for time in job.times]
    made.add_row("", "", "", "gap", *gaps)
    made.caption = "\n".join(noted([(f"batch {time.setting.batch}", time.warnings) for time in job.times]))
    made.caption_justify = "left"
    return made
