"""``compare``: networks ready to be called beside the plain one. Counts, times and profiles the very same calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor, nn

from torchpaths.costs import count_macs, evaluating
from torchpaths.errors import CallError, MeasureError, RunError
from torchpaths.meter.memory import peak_memory
from torchpaths.meter.row import Measurement
from torchpaths.meter.setting import setting_of, using_threads
from torchpaths.meter.timing import LEAST, Run, Timer, interleave, median_interval, nothing, stopwatch
from torchpaths.path import Path
from torchpaths.routed import Routed

Compile: TypeAlias = Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"]
"""Modes of torch.compile."""

_COMPILING = {"recompile_limit": 1024, "accumulated_recompile_limit": 4096, "fail_on_recompile_limit_hit": True}
"""While compiling: blocks of one class share their code, which is compiled anew for each. Past its limits torch would
go on in eager mode without a word, and the row would say it was compiled."""


@dataclass(frozen=True)
class Subject:
    """A network to be measured, ready to be called.

    Attributes:
        label: what was run.
        module: the network.
        path: the path it is given.
        routed: whether it is called with a path and answers with a trace beside its output.
        prepare: what must come before each call and is not timed.
    """

    label: str
    module: nn.Module
    path: Path | None = None
    routed: bool = False
    prepare: Callable[[], object] = nothing

    def call(self, module: nn.Module, x: Tensor) -> Any:
        """The call that is counted, timed and profiled; ``module`` is the network or its compiled form."""
        return module(x, self.path) if self.routed else module(x)


def compare(
    subjects: Sequence[Subject],
    against: nn.Module,
    batches: Sequence[Tensor],
    *,
    seconds: float,
    pairs: int = LEAST,
    threads: int | None = None,
    compile: Compile | None = None,
    seed: int = 0,
    timer: Timer | None = None,
    memory: bool = False,
) -> list[Measurement]:
    """What `measure_all` does, for networks ready to be called; ``memory``: profile peak memory too."""
    if compile is not None and compile not in get_args(Compile):
        raise MeasureError(f"compile={compile!r}; choose one of {', '.join(get_args(Compile))}, or None for eager.")
    everything = [*subjects, Subject("plain", against, None, isinstance(against, Routed))]
    _check_batches(batches, [subject.module for subject in everything])
    device = batches[0].device
    with ExitStack() as stack:
        stack.enter_context(using_threads(threads))
        stack.enter_context(torch.random.fork_rng([device] if device.type == "cuda" else []))
        for subject in everything:
            stack.enter_context(evaluating(subject.module))
        runners = [_Runner(subject, batches, seed) for subject in everything]
        macs = [runner.count() for runner in runners]
        stack.enter_context(torch.no_grad())
        if compile is not None:
            stack.enter_context(torch._dynamo.config.patch(_COMPILING))
            for runner in runners:
                runner.compile(compile)
        start = time.perf_counter(), time.thread_time()
        times = interleave(
            [runner.runs() for runner in runners],
            seconds=seconds * len(subjects),
            least=pairs,
            seed=seed,
            timer=timer or stopwatch(device),
        )
        alone = device.type == "cpu" and torch.get_num_threads() == 1
        waited = _waited(*start) if alone else None
        peaks = [runner.peak(device) if memory else None for runner in runners]
        settings = [setting_of(subject.module, batches[0], compile) for subject in subjects]
    ms = np.median(times, axis=0) * 1e3
    return [
        Measurement(
            network=_network(subject),
            label=subject.label,
            path=subject.path,
            setting=settings[i],
            macs=macs[i],
            plain_macs=macs[-1],
            ms=float(ms[i]),
            plain_ms=float(ms[-1]),
            time_ratio=median_interval(times[:, i] / times[:, -1]),
            memory=peaks[i],
            plain_memory=peaks[-1],
            pairs=len(times),
            spread=float(np.divide(*np.percentile(times[:, -1], (90, 10)))),
            waited=waited,
        )
        for i, subject in enumerate(subjects)
    ]


def _seed(seed: int, device: torch.device) -> None:
    """Seed what draws on a device. ``torch.manual_seed`` would tell all accelerators too, and where one is not in use
    it writes down the call stack for later: longer than many a small network takes, and caches are cold after it."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.manual_seed(seed)


def _waited(wall: float, processor: float) -> float:
    """The share of the time since then that this thread did not run, though it had work."""
    passed = time.perf_counter() - wall
    return min(1.0, max(0.0, 1 - (time.thread_time() - processor) / passed))


class _Runner:
    """A subject on all batches: counted, compiled, timed and profiled by the same calls."""

    def __init__(self, subject: Subject, batches: Sequence[Tensor], seed: int) -> None:
        self.subject = subject
        self.batches = batches
        self.seed = seed
        self.module = subject.module
        self.opened: list[dict[str, Tensor]] = []

    def prepare(self) -> None:
        """Everything that must be alike in every run: noise, and what the subject itself sets."""
        _seed(self.seed, self.batches[0].device)
        self.subject.prepare()

    def call(self, x: Tensor) -> Any:
        return self.subject.call(self.module, x)

    def count(self) -> int:
        """MACs of one batch, the mean over batches, counted while it runs; and what was opened is kept.

        Raises:
            MeasureError: if the network cannot take a batch, or runs nothing that has MACs.
            RunError: for an output that is not finite.
        """
        total = 0
        for x in self.batches:
            self._try(x)
            self.prepare()
            answers: list[Any] = []
            total += count_macs(partial(self._answer, x, answers))
            self.opened.append(_opened(self.subject, answers[-1]))
        if total == 0:
            raise MeasureError(
                f"{self.subject.label}: no MACs were counted, so there is no ratio of them. It has no convolutions or "
                "linear layers, or hides them from torch's counter, as scripted and exported networks do."
            )
        return round(total / len(self.batches))

    def _answer(self, x: Tensor, answers: list[Any]) -> None:
        answers.append(self.call(x))

    def _try(self, x: Tensor) -> None:
        """One call that is not counted: what a network does only once, such as timing its own kernels, is done then."""
        self.prepare()
        try:
            with torch.no_grad():
                answer = self.call(x)
        except (CallError, RunError):
            raise
        except (RuntimeError, AssertionError, TypeError) as error:
            reason = str(error).strip().split("\n")[0][:200]
            raise MeasureError(
                f"{self.subject.label} does not take a batch of shape {tuple(x.shape)} "
                f"({type(error).__name__}: {reason}); give one that net(x) accepts."
            ) from error
        y = answer[0] if self.subject.routed else answer
        if isinstance(y, Tensor) and not bool(y.isfinite().all()):
            raise RunError(
                f"{self.subject.label} gives values that are not finite, and what it skips for them means nothing; "
                "its weights have diverged, or the input is not normalised as in training."
            )

    def compile(self, mode: str) -> None:
        """Compile, and check that the compiled network opens what was counted."""
        self.module = torch.compile(self.subject.module, mode=mode, dynamic=False)  # type: ignore[assignment]
        for x, counted in zip(self.batches, self.opened, strict=True):
            self.prepare()
            try:
                answer = self.call(x)
            except (RuntimeError, torch._dynamo.exc.FailOnRecompileLimitHit) as error:
                reason = str(error).strip().split("\n")[0][:200]
                raise MeasureError(
                    f"{self.subject.label} cannot be compiled with mode {mode!r} ({type(error).__name__}: {reason}); "
                    "measure it with compile=None."
                ) from error
            _check_same(self.subject.label, counted, _opened(self.subject, answer))

    def runs(self) -> list[Run]:
        return [Run(partial(self.call, x), self.prepare) for x in self.batches]

    def peak(self, device: torch.device) -> int:
        """Peak memory in bytes, the most of any batch."""
        peaks = []
        for run in self.runs():
            run.prepare()
            peaks.append(peak_memory(run.call, device))
        return max(peaks)


def _network(subject: Subject) -> str:
    return subject.module.layout.network if isinstance(subject.module, Routed) else type(subject.module).__name__


def _check_batches(batches: Sequence[Tensor], modules: Sequence[nn.Module]) -> None:
    """Raise unless there are batches, alike, with something in them, where and in the precision the networks are."""
    if not batches:
        raise MeasureError("no batch to measure on; give one, or several of one shape.")
    x = batches[0]
    if x.dim() == 0 or x.shape[0] == 0:
        raise MeasureError(f"x of shape {tuple(x.shape)} is a batch of 0: there is nothing to measure; give a sample.")
    if any((b.shape, b.dtype, b.device, b.stride()) != (x.shape, x.dtype, x.device, x.stride()) for b in batches):
        raise MeasureError("the batches differ in shape, dtype, device or layout; measure each kind by itself.")
    for module in modules:
        parameters = list(module.parameters())
        devices = {p.device for p in parameters}
        if devices and devices != {x.device}:
            where = ", ".join(sorted(str(device) for device in devices))
            raise MeasureError(f"x is on {x.device}, {type(module).__name__} on {where}; move one: x.to(...).")
        dtypes = {p.dtype for p in parameters if p.is_floating_point()}
        cast = torch.is_autocast_enabled(x.device.type)
        if dtypes and x.is_floating_point() and x.dtype not in dtypes and not cast:
            kinds = ", ".join(sorted(str(dtype) for dtype in dtypes))
            raise MeasureError(f"x is {x.dtype}, {type(module).__name__} {kinds}; convert one: x.to(dtype).")
    if x.is_floating_point() and not all(bool(b.isfinite().all()) for b in batches):
        raise MeasureError("x holds NaN or infinity, for which decisions mean nothing; give images as in training.")


def _opened(subject: Subject, answer: Any) -> dict[str, Tensor]:
    """Which units a call opened, by site; nothing for a network that is not routed."""
    return {site: decision.open.clone() for site, decision in answer[1].items()} if subject.routed else {}


def _check_same(label: str, counted: Mapping[str, Tensor], timed: Mapping[str, Tensor]) -> None:
    """Raise unless two runs opened the same units, but for a hundredth of the decisions that rounding may tip."""
    both = counted.keys() & timed.keys()
    differ = sum(int((counted[site] != timed[site]).sum()) for site in both)
    # A site inside one that no image opened is absent.
    differ += sum(opened.numel() for site, opened in {**counted, **timed}.items() if site not in both)
    decisions = sum(opened.numel() for opened in counted.values())
    if differ > decisions // 100:
        raise MeasureError(
            f"{label}: compiled, it decides otherwise than in eager mode, where its MACs were counted ({differ} of "
            f"{decisions} decisions), as networks do that draw by chance; measure it with compile=None."
        )
