"""The training loop: plain, and without a wait for the device except once in a window of steps.

Losses stay on the device, a row for each step of the epoch. Once in ``log_every`` steps, and before anything is saved,
they are averaged over the ranks, read, checked to be finite and written down. So a loss that is not finite stops the
run before it can reach a checkpoint, and the error still knows the very step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from torchpaths.errors import RunError
from torchpaths.train.distil import Teacher
from torchpaths.train.distributed import World, agree, alone, mean_over_ranks, share_buffers
from torchpaths.train.groups import FACTOR
from torchpaths.train.mix import Mix
from torchpaths.train.objective import WholeBatch, backward
from torchpaths.train.recipe import Json, Recipe
from torchpaths.train.schedule import learning_rate
from torchpaths.train.seed import seed_noise
from torchpaths.train.state import State


class Batches(Protocol):
    """What the loop needs of a loader: this rank's shares of the global batches, a function of the epoch."""

    def __len__(self) -> int: ...
    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]: ...


@dataclass(frozen=True)
class Hooks:
    """What the loop asks of the run; called on every rank.

    Attributes:
        step: after a step, with the number of steps done. Must not look at the device.
        window: a row of metrics about some steps.
        evaluate: (state, epoch) -> an evaluation's row of metrics; its "accuracy" (or "ema_accuracy") decides the best.
        epoch: a row of metrics about an evaluated epoch.
        save: (state, best) -> None, writes a checkpoint.
    """

    step: Callable[[int], None]
    window: Callable[[Json], None]
    evaluate: Callable[[State, int], Json]
    epoch: Callable[[Json], None]
    save: Callable[[State, bool], None]


class Loop:
    """Trains a state to the end of its recipe.

    Args:
        recipe: how.
        world: this process's place.
        state: where to start; changed as training goes on.
        batches: training images, equally many on every rank.
        hooks: who is told.
        teacher: whom the network learns from, on the same device; None for nobody.
        mix: what blends the images and labels of a step; None for nothing.
    """

    def __init__(
        self,
        recipe: Recipe,
        world: World,
        state: State,
        batches: Batches,
        hooks: Hooks,
        teacher: Teacher | None = None,
        mix: Mix | None = None,
    ) -> None:
        self.recipe, self.world, self.state, self.batches, self.hooks = recipe, world, state, batches, hooks
        self.teacher, self.mix = teacher, mix
        self.objective = state.objective
        if recipe.compile:
            self.objective.compile()
        self.module: nn.Module = self.objective
        self.ddp: DistributedDataParallel | None = None
        if world.size > 1:
            ids = [world.device.index] if world.device.type == "cuda" else None
            # Running statistics are rank 0's, handed round when they are used: see share_buffers.
            self.ddp = DistributedDataParallel(self.objective, device_ids=ids, broadcast_buffers=False)
            self.module = self.ddp
        self.steps = len(batches)
        self.first_pass = recipe.accumulate > 1 and recipe.method is not None
        self._settled = self._logged = state.step % self.steps
        self._clock = self._saved = time.monotonic()

    def run(self) -> None:
        """Trains from the state's step to the last epoch.

        Raises:
            RunError: when a loss or a weight is not finite, naming the step and the term.
        """
        self.objective.train()
        for epoch in range(self.state.step // self.steps, self.recipe.epochs):
            if self.state.step == self.recipe.steps:
                return
            self._epoch(epoch)

    def _epoch(self, epoch: int) -> None:
        recipe, state = self.recipe, self.state
        start = state.step - epoch * self.steps
        self._settled = self._logged = start
        for i, (x, y) in enumerate(self.batches.epoch(epoch, start), start):
            self.step(x, y, i)
            done = i + 1
            self.hooks.step(state.step)
            if done == self.steps or state.step == recipe.steps:
                break
            due = recipe.checkpoint_steps is not None and state.step % recipe.checkpoint_steps == 0
            if done % recipe.log_every == 0:
                self._window(epoch, done)
                due = self._minutes_passed() or due
            if due:
                self._save(done, best=False)
        done = state.step - epoch * self.steps
        self._window(epoch, done)
        last = epoch + 1 == recipe.epochs or state.step == recipe.steps
        if last or (epoch + 1) % recipe.eval_every == 0:
            self._evaluate(epoch)
        elif recipe.checkpoint_steps is not None and state.step % recipe.checkpoint_steps == 0:
            self._save(done, best=False)

    def step(self, x: Tensor, y: Tensor, i: int) -> None:
        """One optimizer step on this rank's share of a global batch.

        Args:
            x: images ``[batch / ranks, C, H, W]``.
            y: labels.
            i: the step's number within the epoch, where its losses are kept.
        """
        recipe, state, rank = self.recipe, self.state, self.world.rank
        device = self.world.device
        if device.type == "cuda":
            x, y = x.pin_memory(), y.pin_memory()
        memory = torch.channels_last if recipe.channels_last else torch.preserve_format
        x = x.to(device, non_blocking=True, memory_format=memory)
        y = y.to(device, non_blocking=True)
        if self.mix is not None:
            x, y = self.mix(x, y, state.step, rank)
        targets: Sequence[Any] = y.chunk(recipe.accumulate)
        if self.teacher is not None:
            with self._autocast():
                taught = self.teacher(x)
            targets = list(zip(targets, taught.chunk(recipe.accumulate), strict=True))
        parts = list(zip(x.chunk(recipe.accumulate), targets, strict=True))

        whole: WholeBatch | None = None
        if self.first_pass:
            whole = WholeBatch()
            for micro, (xm, ym) in enumerate(parts):
                seed_noise(recipe.seed, state.step, rank, micro)
                with whole.recording(self.objective), self._autocast():
                    self.objective(xm, ym, whole)
            self.first_pass = whole.settle()

        rate = learning_rate(recipe, state.step, self.steps)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group[FACTOR]
        rows: list[Tensor] = []
        names: tuple[str, ...] = ()
        for micro, (xm, ym) in enumerate(parts):
            last = micro + 1 == len(parts)
            with nullcontext() if last or self.ddp is None else self.ddp.no_sync():
                seed_noise(recipe.seed, state.step, rank, micro)
                scaled = (lambda loss: loss) if state.scaler is None else state.scaler.scaled
                losses = backward(self._passes(xm, ym, whole), 1 / len(parts), self._autocast, scaled)
            names = tuple(losses)
            rows.append(torch.stack([loss.float() for loss in losses.values()]))
        self._optimize()
        if state.ema is not None:
            state.ema.update(state.net, state.step)
        if state.losses is None:
            state.terms = names
            state.losses = torch.zeros(self.steps, len(names), device=device)
        state.losses[i] = torch.stack(rows).mean(0)
        state.step += 1

    def _optimize(self) -> None:
        """The optimizer's step with the gradients that there are, clipped if the recipe says so."""
        state, clip = self.state, self.recipe.clip
        if state.scaler is not None:
            state.scaler.unscale(state.optimizer)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(self.objective.parameters(), clip)
        if state.scaler is None:
            state.optimizer.step()
        else:
            state.scaler.step(state.optimizer)
        state.optimizer.zero_grad(set_to_none=True)

    def _passes(self, x: Tensor, y: Any, whole: WholeBatch | None) -> Iterator[dict[str, Tensor]]:
        """A micro-batch's losses, a graph at a time where the objective runs as it is."""
        if self.ddp is None and not self.recipe.compile:
            yield from self.objective.passes(x, y, whole)
        else:  # which know the objective's forward only
            yield self.module(x, y, whole)

    def _autocast(self) -> AbstractContextManager[object]:
        if self.recipe.precision == "fp32":
            return nullcontext()
        half = torch.float16 if self.recipe.precision == "fp16" else torch.bfloat16
        return torch.autocast(self.world.device.type, half)

    def _settle(self, done: int) -> None:
        """Averages the losses since the last time over the ranks, and stops the run if one of them is not finite."""
        state = self.state
        assert state.losses is not None
        rows = mean_over_ranks(state.losses[self._settled : done])
        state.losses[self._settled : done] = rows
        bad = (~rows.isfinite()).nonzero().tolist()
        if bad:
            row, term = bad[0]
            i = self._settled + row
            epoch = (state.step - 1) // self.steps + 1
            at = f"at step {state.step - done + i + 1} (epoch {epoch}, step {i + 1} of {self.steps})"
            self._stop(f"the loss {state.terms[term]!r} became {rows[row, term].item()} {at}")
        self._settled = done

    def _stop(self, what: str) -> None:
        r = self.recipe
        cures = [f"lower lr (now {r.lr:g})", f"lengthen warmup (now {r.warmup:g} epochs)"]
        if r.precision != "fp32":
            cures.append("train in fp32")
        raise RunError(
            f"{what}. Training stopped; checkpoints from before that are kept. In a new folder, {', or '.join(cures)}."
        )

    def _check_weights(self) -> None:
        """A weight may overflow in a step whose losses were still finite; it must not reach a checkpoint."""
        kept = {**self.state.net.state_dict(), **self.state.heads}
        tensors = {n: t for n, t in kept.items() if t.is_floating_point()}
        good = torch.stack([t.isfinite().all() for t in tensors.values()]).tolist()
        if not all(good):
            self._stop(f"the weight {list(tensors)[good.index(False)]!r} is not finite after step {self.state.step}")

    def _window(self, epoch: int, done: int) -> None:
        """Writes down the steps since the last window of the epoch."""
        self._settle(done)
        recipe, state = self.recipe, self.state
        first = (done - 1) // recipe.log_every * recipe.log_every
        assert state.losses is not None
        now = time.monotonic()
        seconds, steps = now - self._clock, done - self._logged
        self._clock, self._logged = now, done
        state.seconds += seconds
        row = {
            "kind": "steps",
            "epoch": epoch,
            "step": state.step,
            "first": state.step - done + first,
            "steps": done - first,
            "lr": learning_rate(recipe, state.step - 1, self.steps),
            "losses": dict(zip(state.terms, state.losses[first:done].mean(0).tolist(), strict=True)),
            "seconds": seconds,
            "images_per_second": steps * recipe.batch / seconds if seconds else 0.0,
        }
        self.hooks.window(row)

    def _evaluate(self, epoch: int) -> None:
        state = self.state
        self._check_weights()
        share_buffers(state.objective)
        assert state.losses is not None
        done = state.step - epoch * self.steps
        losses = dict(zip(state.terms, state.losses[:done].mean(0).tolist(), strict=True))
        with alone(self.world.main):
            found = self.hooks.evaluate(state, epoch)
        row = {"kind": "epoch", "epoch": epoch, "step": state.step, "losses": losses, **found}
        accuracy = row.get("ema_accuracy", row["accuracy"])
        best = state.best is None or accuracy > state.best
        state.best = accuracy if best or state.best is None else state.best
        state.latest = row
        self.hooks.epoch(row)
        self._save(done, best)
        self._clock = time.monotonic()

    def _minutes_passed(self) -> bool:
        minutes = self.recipe.checkpoint_minutes
        if minutes is None:
            return False
        return agree(time.monotonic() - self._saved >= 60 * minutes, self.world.device)

    def _save(self, done: int, best: bool) -> None:
        self._settle(done)
        self._check_weights()
        self.hooks.save(self.state, best)
        self._saved = time.monotonic()
