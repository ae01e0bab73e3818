"""What a person sees of a run: a bar with rate and time left on a terminal, plain lines elsewhere, nothing if quiet."""

from __future__ import annotations

import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from torchpaths.terminal import Console
from torchpaths.text import visible
from torchpaths.train.recipe import Json

QUIET_SECONDS = 30.0
"""Off a terminal: at most one line about progress within so many seconds, besides those on evaluated epochs."""


class Report:
    """Tells how a run goes, on the standard error stream.

    Args:
        name: of the run.
        steps: of the whole run.
        quiet: say nothing at all.
        console: where to; the standard error stream if None.
    """

    def __init__(self, name: str, steps: int, quiet: bool, console: Console | None = None) -> None:
        self.name = visible(name)
        self.steps = steps
        self.console = console or Console(stderr=True, quiet=quiet, soft_wrap=True)
        self._said = time.monotonic()
        self._bar: Progress | None = None
        if self.console.is_terminal and not quiet:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
            )
            # Two redraws per second: the drawing thread shares the cores with training.
            self._bar = Progress(*columns, console=self.console, refresh_per_second=2)
            self._task = self._bar.add_task(self.name, total=steps, rate="")

    def __enter__(self) -> Report:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def say(self, text: str) -> None:
        """A line."""
        self._said = time.monotonic()
        self.console.print(f"{self.name}: {text}")

    def at(self, step: int) -> None:
        """Moves the bar, without looking at the device."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step)

    def window(self, row: Json) -> None:
        """Tells of a window of steps."""
        losses = ", ".join(f"{name} {value:.4f}" for name, value in row["losses"].items())
        rate = f"{row['images_per_second']:,.0f} images/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=row["step"], description=f"{self.name} {losses}", rate=rate)
        elif time.monotonic() - self._said >= QUIET_SECONDS:
            left = (self.steps - row["step"]) * row["seconds"] / max(1, row["steps"])
            self.say(f"step {row['step']} of {self.steps}, {losses}, {rate}, {clock(left)} left")

    def epoch(self, row: Json, epochs: int) -> None:
        """Tells of an evaluated epoch, with what is wrong with its gates."""
        average = f" ({row['ema_accuracy']:.2%} averaged)" if "ema_accuracy" in row else ""
        top5 = f", {row['accuracy_top5']:.2%} among the best 5" if "accuracy_top5" in row else ""
        losses = ", ".join(f"{name} {value:.4f}" for name, value in row["losses"].items())
        along = "".join(
            f" {name} {found['accuracy']:.2%} at {found['macs_share']:.1%} of the MACs,"
            for name, found in row.get("paths", {}).items()
        )
        kinds = row.get("open_by_kind", {"": row["open"]})  # those of a network with one kind of units need no name
        opened = ", ".join(f"{share:.1%} of {kind}{' ' if kind else ''}units open" for kind, share in kinds.items())
        self.say(
            f"epoch {row['epoch'] + 1} of {epochs}: accuracy {row['accuracy']:.2%}{average}{top5},{along} "
            f"{opened}, {row['macs_share']:.1%} of the MACs, {losses}"
        )
        if (rates := row.get("gate_rates")) is not None:
            self.say(rates_told(rates, last=row["epoch"] + 1 == epochs))
        for warning in row["warnings"]:
            self.say(f"warning: {warning}")


APART = 0.03
"""Rates that differ by more are worth a word at the end."""


def rates_told(rates: Json, last: bool) -> str:
    """How gates do, in one line; at the end also what to do where they do otherwise in use than in training."""
    used, drawn, target = (rates[name] for name in ("argmax", "sampled", "target"))
    told = f"gates open for {used:.1%} of images, drawn {drawn:.1%}, target {target:.1%}"
    if not last:
        return told
    if abs(drawn - target) > APART:  # thresholds for a rate that was never trained open or shut what never was
        more = "so far from the target, train longer or raise the rate loss's weight"
    elif used < drawn - APART:
        more = "torchpaths cut RUN --calibrate --out DIR opens them as often, and says what that does to accuracy"
    elif used > drawn + APART:
        more = "they run more in use than they drew, which costs MACs; to save more, train towards a lower target"
    else:
        return told
    return f"{told}; {more}"


def clock(seconds: float) -> str:
    """``"1:02:03"``."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}"
