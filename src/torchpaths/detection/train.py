"""Run folders of detectors: ``train`` makes or resumes one.

recipe.json           the recipe
run.json              versions, commit, machine, network, data sets
metrics.jsonl         a line for each window of steps and each evaluated epoch
checkpoints/          see `torchpaths.train.checkpoint`
weights.safetensors   final weights
summary.json          what came out: AP of super-net and base-net, or of the plain network
"""

from __future__ import annotations

import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import torch

from torchpaths.detection.batches import Batch, batches
from torchpaths.detection.coco import CocoSet
from torchpaths.detection.evaluate import evaluate
from torchpaths.detection.folder import SCHEMA, check, prepare
from torchpaths.detection.losses import passes
from torchpaths.detection.recipe import Recipe
from torchpaths.errors import RunError
from torchpaths.files.tensors import to_bytes
from torchpaths.files.write import disk, write_file, write_json
from torchpaths.meter.allocator import keep_memory
from torchpaths.models import load_weights
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.train import checkpoint
from torchpaths.train.distributed import joined
from torchpaths.train.folder import read_json
from torchpaths.train.metrics import Metrics
from torchpaths.train.objective import backward
from torchpaths.train.recipe import Json
from torchpaths.train.report import Report
from torchpaths.train.schedule import learning_rate
from torchpaths.train.seed import seed_evaluation, seed_noise
from torchpaths.train.state import State


def train(
    net: Routed, recipe: Recipe, data: CocoSet, test: CocoSet, out: pathlib.Path | str, *, quiet: bool = False
) -> Json:
    """Trains a detector into a run folder, or goes on where a killed run left off, on a CPU bitwise.

    On the CPU the process keeps the memory it once had, see `torchpaths.meter.allocator`.

    Args:
        net: a routed detector of torchvision's form, trained in place; where the folder holds weights already, finished
            or not, they take the place of the network's.
        recipe: how.
        data: training images.
        test: images to evaluate on.
        out: the run folder; made if absent.
        quiet: no progress.

    Returns:
        What came out, as in summary.json: "ap", by "super" and "base" (or "plain"), then "box" and "mask".

    Raises:
        RunError: for a folder that holds something else, a run of another recipe, network or data; a loss or gradient
            that is not finite, naming step and term; a checkpoint that cannot be read; a full disk.
        DataError: for an image that cannot be read.
    """
    out = pathlib.Path(out)
    with joined(recipe.device) as world:
        if world.device.type == "cpu":
            keep_memory()
        check(recipe, data, test, world)
        prepare(out, net, recipe, data, test, world)
        done = out / "summary.json"
        net.to(world.device)
        if done.is_file():
            load_weights(net, out / "weights.safetensors")
        else:
            _Training(net, recipe, data, test, out, quiet).run()
        return read_json(done)


def depths(net: Routed, method: Any) -> dict[str, Path]:
    """The paths whose AP says how training goes: super-net and base-net, or the plain network."""
    return {"plain": Path.full(net)} if method is None else {"super": Path.full(net), **method.paths(net)}


class _Training:
    """One run, from where its last checkpoint left it."""

    def __init__(
        self, net: Routed, recipe: Recipe, data: CocoSet, test: CocoSet, out: pathlib.Path, quiet: bool
    ) -> None:
        self.recipe, self.general, self.data, self.test, self.out = recipe, recipe.general, data, test, out
        self.state = State.fresh(net, self.general)
        found = checkpoint.load(out / "checkpoints")
        if found is not None:
            self.state.restore(found, self.general)
        self.steps = len(data) // recipe.batch
        self.metrics = Metrics(out / "metrics.jsonl", found.metrics if found is not None else 0)
        self.report = Report(out.name, recipe.epochs * self.steps, quiet)
        self._clock = self._saved = time.monotonic()

    def run(self) -> None:
        """To the end of the recipe; writes weights and summary."""
        state = self.state
        try:
            with self.report:
                for epoch in range(state.step // self.steps, self.recipe.epochs):
                    self._epoch(epoch)
        finally:
            self.metrics.close()
        with disk(self.out, "the last checkpoint is intact"):
            weights = to_bytes(state.net.state_dict())
            write_file(self.out / "weights.safetensors", weights)
        write_json(self.out / "summary.json", self._summary())

    def _epoch(self, epoch: int) -> None:
        recipe, state = self.recipe, self.state
        start = state.step - epoch * self.steps
        state.net.train()
        logged = start
        for i, batch in enumerate(
            batches(self.data, recipe.batch, seed=recipe.seed, epoch=epoch, start=start, flip=recipe.flip), start
        ):
            self._step(batch, i)
            self.report.at(state.step)
            done = i + 1
            if done % recipe.log_every == 0 or done == self.steps:
                self._window(epoch, done, logged)
                logged = done
            if done < self.steps and self._due(done):
                self._save()
        if epoch + 1 == recipe.epochs or (epoch + 1) % recipe.eval_every == 0:
            self._evaluate(epoch)

    def _step(self, batch: Batch, i: int) -> None:
        """One optimizer step; nothing is changed if a loss or the gradient is not finite."""
        state = self.state
        device = next(state.net.parameters()).device
        images = [image.to(device) for image in batch[0]]
        targets = [{name: value.to(device) for name, value in target.items()} for target in batch[1]]
        rate = learning_rate(self.general, state.step, self.steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate
        seed_noise(self.recipe.seed, state.step, 0, 0)
        losses = backward(passes(state.net, self.recipe.method, images, targets))
        gradient = torch.nn.utils.get_total_norm([p.grad for p in state.net.parameters() if p.grad is not None])
        values = torch.stack([*(loss.float() for loss in losses.values()), gradient])
        self._check_finite([*losses, "(norm of the gradient)"], values.tolist(), i)
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        if state.losses is None:
            state.terms = tuple(losses)
            state.losses = torch.zeros(self.steps, len(losses), device=device)
        state.losses[i] = values[:-1]
        state.step += 1

    def _check_finite(self, names: Sequence[str], values: Sequence[float], i: int) -> None:
        for name, value in zip(names, values, strict=True):
            if not math.isfinite(value):
                raise RunError(
                    f"the loss {name!r} became {value} at step {self.state.step + 1} (step {i + 1} of "
                    f"{self.steps} in its epoch). Training stopped; checkpoints from before that are kept. In a new "
                    f"folder, lower lr (now {self.recipe.lr:g}), or lengthen warmup (now {self.recipe.warmup:g} "
                    "epochs)."
                )

    def _due(self, done: int) -> bool:
        """Whether a checkpoint is to be written within an epoch."""
        recipe = self.recipe
        if recipe.checkpoint_steps is not None and self.state.step % recipe.checkpoint_steps == 0:
            return True
        minutes = recipe.checkpoint_minutes
        logs = done % recipe.log_every == 0
        return logs and minutes is not None and time.monotonic() - self._saved >= 60 * minutes

    def _window(self, epoch: int, done: int, logged: int) -> None:
        """Writes down the steps since the last line of the epoch."""
        state = self.state
        assert state.losses is not None
        first = (done - 1) // self.recipe.log_every * self.recipe.log_every
        seconds = time.monotonic() - self._clock
        state.seconds += seconds
        row = {
            "kind": "steps",
            "epoch": epoch,
            "step": state.step,
            "steps": done - first,
            "lr": learning_rate(self.general, state.step - 1, self.steps),
            "losses": dict(zip(state.terms, state.losses[first:done].mean(0).tolist(), strict=True)),
            "seconds": seconds,
            "images_per_second": (done - logged) * self.recipe.batch / seconds,
        }
        self.metrics.write(row)
        self.report.window(row)
        self._clock = time.monotonic()

    def _evaluate(self, epoch: int) -> None:
        state = self.state
        assert state.losses is not None
        seed_evaluation(self.recipe.seed, state.step)
        paths = depths(state.net, self.recipe.method)
        ap = {name: evaluate(state.net, self.test, path) for name, path in paths.items()}
        losses = dict(zip(state.terms, state.losses.mean(0).tolist(), strict=True))
        state.latest = {"kind": "epoch", "epoch": epoch, "step": state.step, "losses": losses, "ap": ap}
        self.metrics.write(state.latest)
        words = [f"{n} {kind} AP {p['AP'] or 0:.1%}" for n, kinds in ap.items() for kind, p in kinds.items()]
        self.report.say(
            f"epoch {epoch + 1} of {self.recipe.epochs}: {', '.join(words)}, loss {sum(losses.values()):.3f}"
        )
        self._save()
        self._clock = time.monotonic()

    def _save(self) -> None:
        kept = self.state.capture(self.general, metrics=self.metrics.sync())
        checkpoint.save(self.out / "checkpoints", kept, best=False)
        self._saved = time.monotonic()

    def _summary(self) -> Json:
        state, method = self.state, self.recipe.method
        assert state.latest is not None
        return {
            "schema": SCHEMA,
            "network": state.net.layout.network,
            "method": None if method is None else type(method).__name__,
            "epochs": self.recipe.epochs,
            "steps": state.step,
            "seconds": state.seconds,
            "macs": {name: path.cost(state.net).macs for name, path in depths(state.net, method).items()},
            "ap": state.latest["ap"],
            "losses": state.latest["losses"],
        }
