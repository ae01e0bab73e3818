"""One row of a measurement, and the table of several: ``Measurement`` and ``table``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from torchpaths.meter.doubts import doubts, noted
from torchpaths.meter.setting import Setting
from torchpaths.meter.timing import Median
from torchpaths.path import Path

SCHEMA = "torchpaths.measure/2"


@dataclass(frozen=True)
class Measurement:
    """One row: a network beside the plain one.

    Attributes:
        network: class of the original network.
        label: what was run.
        path: the path it was given; None where it decides for itself or has none.
        setting: where and how.
        macs: MACs of one batch, counted on what ran; the mean where several batches were measured.
        plain_macs: the same of the plain network.
        ms: median time of one batch in milliseconds.
        plain_ms: the same of the plain network, from the same rounds.
        time_ratio: median over pairs of its time / the plain network's, with a 95 % interval.
        memory: the most bytes it held allocated at one time beyond weights and input, see `peak_memory`; None if not
            asked for.
        plain_memory: the same of the plain network.
        pairs: rounds of both.
        spread: the plain network's 90th percentile of times / its 10th, which says how steady the machine was.
        waited: share of the time, 0 to 1, that other programs had the processor; None with several threads and on an
            accelerator, where a thread may wait for its own.
    """

    network: str
    label: str
    path: Path | None
    setting: Setting
    macs: int
    plain_macs: int
    ms: float
    plain_ms: float
    time_ratio: Median
    memory: int | None
    plain_memory: int | None
    pairs: int
    spread: float
    waited: float | None

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against its time, see `torchpaths.meter.doubts`."""
        return doubts(self.time_ratio, self.macs_ratio, self.spread, self.waited)

    def __str__(self) -> str:
        gap = f"gap {self.gap.value:.2f} ({self.gap.low:.2f} to {self.gap.high:.2f})"
        ratios = f"{self.macs_ratio:.1%} of the MACs, {self.time_ratio.value:.1%} of the time"
        told = f"{self.label}: {ratios}, {gap}, {digits(self.ms)} ms; {self.pairs} pairs on {self.setting}"
        return "\n".join([told, *(f"warning: {warning}" for warning in self.warnings)])

    @property
    def macs_ratio(self) -> float:
        """MACs / the plain network's."""
        return self.macs / self.plain_macs

    @property
    def gap(self) -> Median:
        """Time ratio / MACs ratio with its 95 % interval. 1.00: every saved MAC is saved time."""
        return self.time_ratio / self.macs_ratio

    def to_json(self) -> dict[str, Any]:
        """As JSON data: every attribute; ratios with the ends of their intervals."""
        return {
            "schema": SCHEMA,
            "network": self.network,
            "label": self.label,
            "path": None if self.path is None else json.loads(self.path.to_json()),
            **self.setting.to_json(),
            "macs": self.macs,
            "plain_macs": self.plain_macs,
            "macs_ratio": self.macs_ratio,
            "ms": self.ms,
            "plain_ms": self.plain_ms,
            "time_ratio": self.time_ratio.value,
            "time_ratio_interval": [self.time_ratio.low, self.time_ratio.high],
            "gap": self.gap.value,
            "gap_interval": [self.gap.low, self.gap.high],
            "memory": self.memory,
            "plain_memory": self.plain_memory,
            "pairs": self.pairs,
            "spread": self.spread,
            "waited": self.waited,
            "warnings": list(self.warnings),
        }


def table(rows: Sequence[Measurement]) -> Table:
    """Rows for people, under the plain network's of the same run; what is the same in all stands in the title."""
    columns = {name: [getattr(row.setting, name) for row in rows] for name in _WORDS}
    same = [_WORDS[name](values[0]) for name, values in columns.items() if len(set(values)) == 1]
    varying = {name: [_cell(v) for v in values] for name, values in columns.items() if len(set(values)) > 1}
    paths = {_path(row.path) for row in rows if row.path is not None}
    if len(paths) == 1:
        same.append(f"the path: {paths.pop()}")
    elif paths:
        varying = {"path": [_path(row.path) for row in rows], **varying}
    networks = ", ".join(sorted({row.network for row in rows}))
    pairs = min(row.pairs for row in rows)
    shown = Table(
        title=f"{networks} beside the plain network, at least {pairs} pairs\n{', '.join(same)}",
        title_justify="left",
        title_style="",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    shown.add_column("network", no_wrap=True)
    for name in (*(n.replace("_", " ") for n in varying), "MACs", "time", "gap", "95 %", "ms", "peak MB"):
        shown.add_column(name, justify="right", no_wrap=True)
    plain: tuple[Setting, float] | None = None
    for i, row in enumerate(rows):
        if plain != (row.setting, row.plain_ms):
            plain = row.setting, row.plain_ms
            where = (cells[i] if name != "path" else "–" for name, cells in varying.items())
            shown.add_row("plain", *where, "100.0%", "100.0%", "–", "–", digits(row.plain_ms), _mb(row.plain_memory))
        shown.add_row(
            row.label,
            *(cells[i] for cells in varying.values()),
            f"{row.macs_ratio:.1%}",
            f"{row.time_ratio.value:.1%}",
            f"{row.gap.value:.2f}",
            f"{row.gap.low:.2f}–{row.gap.high:.2f}{' !' if row.warnings else ''}",
            digits(row.ms),
            _mb(row.memory),
        )
    shown.caption = "\n".join(noted([(row.label, row.warnings) for row in rows]))
    shown.caption_justify = "left"
    return shown


_WORDS: dict[str, Callable[[Any], str]] = {
    "device": str,
    "threads": lambda threads: f"{threads} thread{'s' if threads > 1 else ''}",
    "batch": lambda batch: f"batch {batch}",
    "input": lambda shape: f"input {_cell(shape)}",
    "dtype": str,
    "memory_format": str,
    "compile": lambda mode: "eager" if mode is None else f"compiled ({mode})",
    "torch": lambda version: f"torch {version}",
}
"""The fields of a setting in the order they are shown, and how to say them where they have no heading."""


def _cell(value: Any) -> str:
    """A field of a setting under its name."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value or "eager")


def _path(path: Path | None) -> str:
    if path is None:
        return "–"
    if path.batch is not None:
        return f"one for each of {path.batch}"
    units = [opened for choice in path.values() for opened in choice]
    return f"{sum(units)} of {len(units)} open"


def _mb(held: int | None) -> str:
    return "–" if held is None else digits(held / 1e6)


def digits(value: float) -> str:
    """Three significant digits, as far as they are behind the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:#.3g}"
