"""``State``: what a run is at a step, to and from a checkpoint. All else is a function of the recipe and the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.errors import RunError
from torchpaths.methods.task import CrossEntropy
from torchpaths.models.create import tagged
from torchpaths.routed import Routed
from torchpaths.schema import convert, reading
from torchpaths.train.checkpoint import Checkpoint
from torchpaths.train.distil import Distilled, labels_of
from torchpaths.train.ema import Ema
from torchpaths.train.groups import make_optimizer
from torchpaths.train.objective import Objective
from torchpaths.train.recipe import Json, Recipe, differences, filled
from torchpaths.train.scaler import Scaler
from torchpaths.train.seed import seed_heads


@dataclass
class State:
    """A run at a step.

    Attributes:
        objective: the network and what its losses need beside it.
        optimizer: over the network's and the heads' parameters.
        ema: the average of the network's weights, if any.
        scaler: of the loss, in fp16.
        step: optimizer steps done.
        terms: names of the losses; empty before the first step.
        losses: float32 ``[steps of the epoch, terms]``, the epoch's losses as far as it went; None before the first.
        best: highest accuracy so far, in 0 to 1; None before the first evaluation.
        seconds: time spent training, over all sessions.
        latest: the last evaluation's row of metrics.
    """

    objective: Objective
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    scaler: Scaler | None = None
    step: int = 0
    terms: tuple[str, ...] = ()
    losses: Tensor | None = None
    best: float | None = None
    seconds: float = 0.0
    latest: Json | None = None

    @classmethod
    def fresh(cls, net: Routed, recipe: Recipe, classes: int | None = None, steps: int = 1) -> State:
        """A run before its first step.

        Args:
            net: the network, with the weights it starts from, where it will be trained.
            recipe: how.
            classes: of the task, see `Objective`.
            steps: of an epoch.

        Raises:
            RunError: for parameters that the recipe names and the network has not, fp16 without a GPU.
        """
        ema = None
        if recipe.ema is not None:
            hold = round(recipe.ema_hold * steps)
            ema = Ema(net, recipe.ema, every=recipe.ema_every, hold=hold, ramp=recipe.ema_ramp)
        with torch.random.fork_rng(devices=[]):
            seed_heads(recipe.seed)
            if recipe.distil is None:
                objective = Objective(net, recipe.method, recipe.smoothing, classes)
            else:
                task = Distilled(recipe.distil, recipe.smoothing)
                objective = Objective(net, recipe.method, classes=classes, task=task, labels=labels_of)
        if isinstance(objective.task, CrossEntropy):
            objective.task.looks = False  # the data set looked at its labels; a step must not wait for the device
        scaler = Scaler.on(next(net.parameters()).device) if recipe.precision == "fp16" else None
        return cls(objective, make_optimizer(objective, recipe), ema, scaler)

    @property
    def net(self) -> Routed:
        """The network."""
        return self.objective.net

    @property
    def heads(self) -> dict[str, Tensor]:
        """What is kept of the objective's heads, under the names of a checkpoint."""
        heads = self.objective.heads
        return {} if heads is None else {f"heads.{name}": value for name, value in heads.state_dict().items()}

    def _parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All that is trained, under the names of a checkpoint: the network's are its own."""
        for name, parameter in self.objective.named_parameters():
            yield name.removeprefix("net."), parameter

    def capture(self, recipe: Recipe, **scalars: Any) -> Checkpoint:
        """This state as a checkpoint; ``scalars`` are further JSON values to keep."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()} | self.heads
        for name, parameter in self._parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{name}.{key}"] = value
        if self.ema is not None:
            tensors |= {f"ema.{name}": value for name, value in self.ema.average.items()}
        if self.scaler is not None:
            tensors |= {f"scaler.{name}": value for name, value in self.scaler.tensors.items()}
        if self.losses is not None:
            tensors["losses"] = self.losses
        kept = {
            "recipe": recipe.to_json(),
            "terms": self.terms,
            "best": self.best,
            "seconds": self.seconds,
            "latest": self.latest,
        }
        return Checkpoint(self.step, tensors, {**kept, **scalars})

    def restore(self, checkpoint: Checkpoint, recipe: Recipe) -> None:
        """Becomes the checkpoint's state, bitwise.

        Raises:
            RunError: if it belongs to another recipe or network, naming what differs; nothing was changed.
        """
        where = checkpoint.folder
        with reading(where, RunError, "remove it to go on from the checkpoint before it, or start in a new folder"):
            kept: _Kept = convert(checkpoint.scalars, _Kept)
        check_same_recipe(kept.recipe, recipe, f"the checkpoint {where}")
        own = self.capture(recipe).tensors
        wanted = {k: v for k, v in own.items() if k.startswith(_WEIGHTS)}
        found = {k: v for k, v in checkpoint.tensors.items() if k.startswith(_WEIGHTS)}
        wrong = [
            *(f"{k} is missing" for k in wanted.keys() - found.keys()),
            *(f"{k} is unknown" for k in found.keys() - wanted.keys()),
            *(
                f"{k} is {_form(found[k])} for {_form(v)}"
                for k, v in wanted.items()
                if k in found and _form(found[k]) != _form(v)
            ),
        ]
        if wrong:
            shown = "; ".join(sorted(wrong)[:3])
            raise RunError(
                f"the checkpoint {where} belongs to another network ({len(wrong)} tensors differ: {shown}); "
                "start in a new folder."
            )
        self._fill(checkpoint)
        self.step, self.terms, self.best = checkpoint.step, kept.terms, kept.best
        self.seconds, self.latest = kept.seconds, kept.latest

    @torch.no_grad()
    def _fill(self, checkpoint: Checkpoint) -> None:
        device = next(self.net.parameters()).device
        for name, value in self.net.state_dict().items():
            value.copy_(checkpoint.tensors[f"net.{name}"])
        for name, value in self.heads.items():
            value.copy_(checkpoint.tensors[name])
        if self.ema is not None:
            for name, value in self.ema.average.items():
                value.copy_(checkpoint.tensors[f"ema.{name}"])
        for name, parameter in self._parameters():
            start = f"optimizer.{name}."
            kept = {k.removeprefix(start): v for k, v in checkpoint.tensors.items() if k.startswith(start)}
            # Moments take their parameter's memory format, as they had when they were made: foreach kernels need it.
            self.optimizer.state[parameter] = {
                k: torch.empty_like(parameter).copy_(v) if v.shape == parameter.shape and v.dim() else v
                for k, v in kept.items()
            }
        if self.scaler is not None:
            self.scaler.fill({name: checkpoint.tensors[f"scaler.{name}"] for name in self.scaler.tensors})
        losses = checkpoint.tensors.get("losses")
        self.losses = None if losses is None else losses.to(device)


def check_same_recipe(kept: Json, recipe: Recipe, what: str, run: Path | None = None) -> None:
    """Raises unless a run kept with one recipe may be continued by another; how often to save or log may differ.
    ``run``: the folder of one that is finished, from which a longer one may start."""
    changed = [d for d in differences(filled(kept), recipe.to_json()) if d.partition(":")[0] not in _FREE]
    if changed:
        longer = run is not None and any(d.partition(":")[0] in ("epochs", "steps") for d in changed)
        raise RunError(
            f"{what} was made by another recipe: {'; '.join(changed)}. Repeat its recipe to resume it, or choose a new "
            "folder for this one; --force begins anew in its place."
            f"{f' To train it further: {_further(recipe)} --start {run} and a new --out.' if longer else ''}"
        )


def _further(recipe: Recipe) -> str:
    """What a command needs beside ``--start`` to go on from a run of this recipe."""
    asked = {
        f"--model {recipe.model}": tagged(recipe.model),
        "--no-finetune": recipe.finetune,
        "--no-twin": recipe.twin,
        "--weights None": recipe.weights is not None,
    }
    return " ".join(["the same command with", *(flag for flag, needed in asked.items() if needed)])


@dataclass(frozen=True)
class _Kept:
    """The scalars of a checkpoint, as `State.capture` writes them."""

    recipe: Json
    terms: tuple[str, ...]
    best: float | None
    seconds: float
    latest: Json | None


def _form(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


_WEIGHTS = ("net.", "heads.", "ema.", "scaler.")
_FREE = ("checkpoint_steps", "checkpoint_minutes", "twin", "workers")
