"""``torchpaths cut RUN --silent``: filters that no training image opens removed for good, as a run that still decides
(network decoupling, section 4.1)."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from torchpaths.cli import OK
from torchpaths.cli.options import OfRun, emit, speaking
from torchpaths.cli.tables import count
from torchpaths.costs import count_params
from torchpaths.data import Loader
from torchpaths.files.fresh import check_free
from torchpaths.filtering import filter_states
from torchpaths.narrowing import Left, left_of, narrow
from torchpaths.surveys import survey
from torchpaths.train.narrowed import save_narrowed

MOST_STAGES = 12
"""Up to so many stages are shown one by one."""


def remove_silent(options: OfRun, out: pathlib.Path, force: bool) -> int:
    """Count, narrow, compare, write and print. Returns the exit status, see `torchpaths.cli.main`."""
    if options.split == "test":  # the default, and what is kept is not to be chosen on test images
        options = dataclasses.replace(options, split="train")
    check_free(out, force)
    with speaking(options.json) as console:
        surveyed = options.survey(keep_paths=True)
        before, run = surveyed.survey, surveyed.run
        states = filter_states(before)
        left = left_of(run.net, states)
        net = narrow(run.net, states, run.recipe.method)
        after = survey(net, Loader(surveyed.images, 256, mean=run.mean, std=run.std), classes=run.classes)
        save_narrowed(net, left, run.folder, out, force)
        params = count_params(run.net), count_params(net)
        images = int(before.images.sum())
        title = f"{before.name} on {images:,} images of the {options.split} split"
        console.print(title)
        console.print(_compared(params, (before.macs, after.macs), (before.accuracy, after.accuracy)))
        stages = by_stage(left)
        console.print(_filters(stages))
        console.print(f"wrote {out}", soft_wrap=True)
    if options.json:
        sides = zip(("before", "after"), params, (before, after), strict=True)
        emit(
            {
                "folder": str(options.run),
                "out": str(out),
                "data": before.dataset,
                "split": options.split,
                "images": images,
                **{side: {"params": n, "macs": s.macs, "accuracy": s.accuracy} for side, n, s in sides},
                "filters": total(stages),
                "stages": stages,
            }
        )
    return OK


def by_stage(left: Mapping[str, Left]) -> dict[str, dict[str, int]]:
    """What became of the filters of each part of a network, by the first word of its layers' names."""
    found: dict[str, dict[str, int]] = {}
    for name, site in left.items():
        gated = len(site.gated)
        counts = {
            "filters": site.of,
            "removed": site.of - len(site.units),
            "without_gate": len(site.units) - gated,
            "dynamic": gated,
        }
        stage = found.setdefault(name.partition(".")[0], dict.fromkeys(counts, 0))
        for what, number in counts.items():
            stage[what] += number
    return found


def total(stages: Mapping[str, dict[str, int]]) -> dict[str, int]:
    """The sums over all stages."""
    return functools.reduce(lambda a, b: {what: a[what] + b[what] for what in a}, stages.values())


def _compared(params: tuple[int, int], macs: tuple[float, float], accuracy: tuple[float, float]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for column in ("before", "after", "of it"):
        table.add_column(column, justify="right")
    rows: list[tuple[str, Any]] = [("parameters", params), ("MACs, mean", macs)]
    for name, (old, new) in rows:
        table.add_row(name, count(old), count(new), f"{new / old:.1%}")
    table.add_row("accuracy", *(f"{value:.2%}" for value in accuracy), "")
    return table


def _filters(stages: Mapping[str, dict[str, int]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("stage")
    for column in ("filters", "removed", "without gate", "dynamic"):
        table.add_column(column, justify="right")
    shown = list(stages.items()) if len(stages) <= MOST_STAGES else []
    for i, (name, counts) in enumerate(shown):
        table.add_row(name, *(f"{n:,}" for n in counts.values()), end_section=i == len(shown) - 1)
    table.add_row("all", *(f"{n:,}" for n in total(stages).values()), style="bold")
    return table
