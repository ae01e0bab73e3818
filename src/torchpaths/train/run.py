"""Run folders: ``train`` makes or resumes one, ``load_run`` opens one.

recipe.json           the resolved recipe
run.json              versions, commit, machine, data set
holdout.json          which images were kept for testing, where the folder has none of its own for that
narrowed.json         what is left of the network's filters, where it was narrowed
thresholds.json       scores above which its gates open, where they are not those of training
metrics.jsonl         a line for each window of steps and each evaluated epoch
checkpoints/          see `torchpaths.train.checkpoint`
weights.safetensors   final weights; ema.safetensors, their average, where the recipe asks for one
summary.json          what came out
plain/                the plain network trained by the same recipe, where the recipe asks for a twin
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch

from torchpaths.data import Loader
from torchpaths.errors import RunError
from torchpaths.files.tensors import to_bytes
from torchpaths.files.write import disk, write_file, write_json
from torchpaths.meter.allocator import keep_memory
from torchpaths.terminal import Console
from torchpaths.train import checkpoint
from torchpaths.train.anew import replaced
from torchpaths.train.belongs import adopted, origin
from torchpaths.train.distributed import World, barrier, joined
from torchpaths.train.environment import describe, emulated
from torchpaths.train.evaluation import evaluation, settle
from torchpaths.train.finetune import completed
from torchpaths.train.folder import Run, build, check_train_size, load_run, read_json, read_recipe, read_seen
from torchpaths.train.images import Images, open_both, write_held_out
from torchpaths.train.lock import held
from torchpaths.train.loop import Hooks, Loop
from torchpaths.train.metrics import Metrics
from torchpaths.train.mix import mix_of
from torchpaths.train.narrowed import NARROWED, read_left, write_left
from torchpaths.train.recipe import Json, Recipe
from torchpaths.train.report import Report
from torchpaths.train.state import State, check_same_recipe
from torchpaths.train.teacher import teacher_of
from torchpaths.train.thresholds import THRESHOLDS

__all__ = ["Run", "load_run", "plain_twin", "read_recipe", "resolved", "train"]

SCHEMA = "torchpaths.run/1"

_LATEST = (
    "accuracy",
    "accuracy_top5",
    "ema_accuracy",
    "ema_accuracy_top5",
    "paths",
    "macs",
    "macs_share",
    "open",
    "open_by_kind",
    "losses",
    "gate_rates",
    "warnings",
)
"""What a run's summary keeps of its last evaluation."""


_MADE = (NARROWED, THRESHOLDS)
"""What a folder holds that was made of a run."""


def train(
    recipe: Recipe, out: pathlib.Path | str, resume: bool = True, quiet: bool = False, *, force: bool = False
) -> Json:
    """Trains a network by a recipe into a run folder, or goes on where a killed run left off, bitwise.

    Under torchrun every process calls this alike; rank 0 writes. torch's global generator is seeded. On the CPU the
    process keeps the memory it once had, see `torchpaths.meter.allocator`.

    Args:
        recipe: how; relative paths in it are resolved.
        out: the run folder; made if absent.
        resume: go on with what is in the folder. False refuses a folder that holds a run.
        quiet: no progress.
        force: begin anew, in the place of the run that the folder holds.

    Returns:
        What came out, as in summary.json: accuracy, macs_share, open, ...; with a twin, "plain" holds the same of it.

    Raises:
        RunError: for a folder that holds something else or another recipe's run, a batch that does not divide, a loss
            that is not finite, a checkpoint that cannot be read, a full disk. What was saved before stays.
        DataError: for images that cannot be read.
        RouteError: for a method that does not fit the model.
    """
    out = pathlib.Path(out)
    recipe = resolved(recipe)
    folder = origin(recipe)
    taken: list[str] = []
    if folder is not None:
        recipe, taken = adopted(recipe, folder, read_recipe(folder), read_seen(folder))
    recipe, words = completed(recipe)
    words = [*words, *taken]
    with joined(recipe.device) as world, _arithmetic(recipe):
        if world.device.type == "cpu":
            keep_memory()
        _check_divides(recipe, world)
        if world.main and not force:
            _check(recipe, out, resume)  # before what is said of a start that will not be
        data = open_both(recipe)
        if world.main and not quiet:
            for line in words:
                Console(stderr=True, soft_wrap=True).print(line, style="bold")
        with replaced(out, recipe) if force and world.main else nullcontext():
            summary = _train(recipe, out, world, data, resume, quiet)
            if recipe.twin:
                plain = _train(plain_twin(recipe), out / "plain", world, data, resume, quiet)
                summary = {**summary, "plain": plain}
                if world.main:
                    write_json(out / "summary.json", summary)
    return summary


def plain_twin(recipe: Recipe) -> Recipe:
    """The recipe of the plain network beside a routed one: everything else alike."""
    bare = tuple(kind for kind in recipe.no_decay if kind != "gates")
    return dataclasses.replace(recipe, method=None, twin=False, no_decay=bare, gate_lr=1.0, gate_decay=None)


def resolved(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths, so that the run folder can be read from anywhere."""
    data = pathlib.Path(recipe.data)
    changes: dict[str, Any] = {"data": str(data.resolve())} if data.exists() else {}
    if recipe.weights is not None:
        changes["weights"] = pathlib.Path(recipe.weights).resolve()
    if recipe.distil is not None:
        changes["distil"] = recipe.distil.resolved()
    if recipe.start is not None:
        changes["start"] = pathlib.Path(recipe.start).resolve()
    return dataclasses.replace(recipe, **changes)


def _check_divides(recipe: Recipe, world: World) -> None:
    if recipe.batch % (world.size * recipe.accumulate):
        raise RunError(
            f"batch {recipe.batch} does not split evenly over {world.size} processes with accumulate="
            f"{recipe.accumulate}; choose a multiple of {world.size * recipe.accumulate}."
        )


@contextmanager
def _arithmetic(recipe: Recipe) -> Iterator[None]:
    """cuDNN's choices and the number of threads as the recipe asks, for the length of a run."""
    threads = torch.get_num_threads()
    fixed = recipe.deterministic
    with torch.backends.cudnn.flags(enabled=True, benchmark=not fixed, deterministic=fixed):
        if recipe.threads is not None:
            torch.set_num_threads(recipe.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _train(recipe: Recipe, out: pathlib.Path, world: World, data: Images, resume: bool, quiet: bool) -> Json:
    """One network into one folder, which is this run's alone meanwhile."""
    with ExitStack() as stack:
        if world.main:
            _check(recipe, out, resume)
            if not (out / "summary.json").is_file():
                with disk(out, "nothing was trained yet"):
                    out.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(out))
                _check(recipe, out, resume)  # who held it until now may have begun a run
            _prepare(recipe, out, world, data)
        barrier()
        return _trained(recipe, out, world, data, quiet)


def _trained(recipe: Recipe, out: pathlib.Path, world: World, data: Images, quiet: bool) -> Json:
    """See `_train`, of a folder that is ready."""
    done = out / "summary.json"
    written = ("weights.safetensors", *(["ema.safetensors"] if recipe.ema is not None else []))
    if done.is_file() and all((out / name).is_file() for name in written):
        return read_json(done)
    found = checkpoint.load(out / "checkpoints")
    # A run that goes on has its weights, and needs nobody's.
    pretrained = found is None or recipe.start is not None
    console = Console(stderr=True, soft_wrap=True)
    tell = partial(console.print, style="bold") if world.main and not quiet else None
    net = build(recipe, data.train.classes, data.test.shape, pretrained, tell).to(world.device)
    check_train_size(net, recipe)
    if recipe.channels_last:
        net = net.to(memory_format=torch.channels_last)
    loader = Loader(
        data.train,
        recipe.batch,
        augment=recipe.augment,
        shuffle=True,
        seed=recipe.seed,
        rank=world.rank,
        world=world.size,
        drop_last=True,
        mean=data.mean,
        std=data.std,
        workers=recipe.workers,
        side=recipe.train_size or recipe.size,
        repeats=recipe.repeats,
    )
    state = State.fresh(net, recipe, len(data.train.classes), len(loader))
    mix = mix_of(recipe, state.objective, len(data.train.classes), recipe.batch // world.size)
    if found is not None:
        state.restore(found, recipe)
    kept = found.metrics if found is not None else 0
    metrics = Metrics(out / "metrics.jsonl", kept) if world.main else None
    report = Report(out.name, _last(recipe, len(loader)), quiet or not world.main)
    try:
        with report:
            if emulated(recipe.precision, world.device):
                report.say("bf16 is emulated on this processor (no AVX-512), dozens of times slower; train with fp32")
            if found is not None:
                report.say(f"resumed at step {state.step} of {_last(recipe, len(loader))}")
            hooks = _hooks(recipe, out, world, data, loader, metrics, report)
            Loop(recipe, world, state, loader, hooks, teacher_of(recipe, data, world.device), mix).run()
    finally:
        if metrics is not None:
            metrics.close()
    if world.main:
        _finish(out, state, _summary(recipe, state))
    barrier()
    # As it was written, by rank 0: only that rank evaluates.
    return read_json(done)


def _last(recipe: Recipe, steps: int) -> int:
    """The step after which a run ends."""
    whole = recipe.epochs * steps
    return whole if recipe.steps is None else min(whole, recipe.steps)


def _hooks(
    recipe: Recipe,
    out: pathlib.Path,
    world: World,
    data: Images,
    loader: Loader,
    metrics: Metrics | None,
    report: Report,
) -> Hooks:
    test = Loader(data.test, 256, mean=data.mean, std=data.std)

    def window(row: Json) -> None:
        if metrics is not None:
            metrics.write(row)
            report.window(row)

    def evaluate(state: State, epoch: int) -> Json:
        if not world.main:  # a survey's counts are then those of one process, exactly; the others wait for it
            return {"accuracy": 0.0}
        if epoch + 1 == recipe.epochs or state.step == recipe.steps:
            settle(recipe, state, loader)
        return evaluation(recipe, state, test)

    def ended(row: Json) -> None:
        if metrics is not None:
            metrics.write(row)
            report.epoch(row, recipe.epochs)

    def save(state: State, best: bool) -> None:
        if metrics is not None:
            checkpoint.save(out / "checkpoints", state.capture(recipe, metrics=metrics.sync(), world=world.size), best)

    return Hooks(report.at, window, evaluate, ended, save)


def _check(recipe: Recipe, out: pathlib.Path, resume: bool) -> None:
    """Checks that a run can begin in a folder, or that what is there is this recipe's run. One that failed before it
    saved anything is nothing to protect: the corrected command begins anew in its place."""
    if (out / "recipe.json").is_file():
        if not _begun(out):
            return
        if not resume:
            raise RunError(f"{out} already holds a run; resume it, or choose a new folder; --force begins anew.")
        if recipe.start is None and any((out / name).is_file() for name in _MADE):
            what = "a narrowed network" if (out / NARROWED).is_file() else "a network with thresholds of its own"
            raise RunError(f"{out} holds {what}; train it further into a new folder, with --start {out}.")
        done = (out / "weights.safetensors").is_file()
        check_same_recipe(read_json(out / "recipe.json"), recipe, f"the run {out}", out if done else None)
    elif out.exists() and (
        not out.is_dir() or any(p.name != "plain" and not p.name.startswith(".") for p in out.iterdir())
    ):
        raise RunError(f"{out} exists and is no run folder; choose a new folder, nothing in this one was touched.")


def _begun(out: pathlib.Path) -> bool:
    """Whether a folder holds anything of a run that was trained."""
    return (out / "checkpoints").exists() or (out / "summary.json").is_file() or any((out / n).is_file() for n in _MADE)


def _prepare(recipe: Recipe, out: pathlib.Path, world: World, data: Images) -> None:
    """Writes what a run folder says of its run before the first step."""
    if (out / "run.json").is_file() and _begun(out):
        return
    write_json(out / "recipe.json", recipe.to_json())
    left = None if recipe.start is None else read_left(recipe.start)
    if left is not None:
        with disk(out, "nothing was trained yet"):
            write_left(out, left, str(recipe.start))
    write_held_out(recipe, out)
    write_json(out / "run.json", {"schema": SCHEMA, "seed": recipe.seed, "data": data.json, **describe(world)})


def _summary(recipe: Recipe, state: State) -> Json:
    latest: Mapping[str, Any] = state.latest or {}
    return {
        "schema": SCHEMA,
        "model": recipe.model,
        "method": None if recipe.method is None else ",".join(recipe.method.names),
        "epochs": recipe.epochs,
        "steps": state.step,
        "seconds": state.seconds,
        "best_accuracy": state.best,
        "plain_macs": state.net.layout.plain.macs,
        **{k: latest[k] for k in _LATEST if k in latest},
    }


def _finish(out: pathlib.Path, state: State, summary: Json) -> None:
    """Writes the final weights, and the summary last: its presence says that the run is whole."""
    with disk(out, "the last checkpoint is intact"):
        write_file(out / "weights.safetensors", to_bytes(state.net.state_dict()))
        if state.ema is not None:
            write_file(out / "ema.safetensors", to_bytes(state.ema.average))
    write_json(out / "summary.json", summary)
