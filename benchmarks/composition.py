"""What it takes to handle a network of thousands of units: a ResNet with gates and, inside its blocks, toy filters.

    python benchmarks/composition.py

* ``route``: finding, checking and swapping everything.
* ``costs``: ``path.macs(net)`` of 256 images, each its own path.
* ``choice``: ``survey.path(budget=Budget(macs=0.5))``.

Random weights on noise at 64 pixels; medians of several runs on the processor, as JSON on standard output.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Literal

import torch
import torchvision
import tyro
from rich.console import Console
from rich.table import Table
from torch import nn

import torchpaths as tp
from torchpaths.meter.setting import using_threads

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "tests"))
from channel_toys import ToyFilters

AIMS = {"route": 2.0, "costs": 0.010, "choice": 0.1}
"""Seconds within which each should be done on one core."""


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        networks: of torchvision: a ResNet-18 has 1,928 units, a ResNet-34 3,792.
        threads: of the processor.
        tries: runs of each; the median counts.
        side: of the images, in pixels.
        images: with a path of their own.
    """

    networks: tuple[Literal["resnet18", "resnet34"], ...] = ("resnet18", "resnet34")
    threads: int = 1
    tries: int = 5
    side: int = 64
    images: int = 256


def main(options: Options) -> None:
    """Measure, and print a table (standard error) and JSON (standard output)."""
    with using_threads(options.threads):
        rows = [measured(network, options) for network in options.networks]
    table = Table("network", "units", "terms", *(f"{what}, s (aim {aim:g})" for what, aim in AIMS.items()))
    for row in rows:
        table.add_row(row["network"], f"{row['units']:,}", str(row["terms"]), *(f"{row[what]:.4f}" for what in AIMS))
    Console(stderr=True).print(table)
    print(json.dumps({"torch": torch.__version__, **vars(options), "rows": rows}))


def measured(network: str, options: Options) -> dict[str, Any]:
    """How many units and terms a network has, and seconds of each thing that is done with it."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, options.side, options.side)
    methods = [tp.GatedBlocks(), ToyFilters()]
    nets: list[tp.Routed] = []

    def route(model: nn.Module) -> None:
        nets.append(tp.route(model, methods, example=x))

    models = [getattr(torchvision.models, network)(num_classes=10).eval() for _ in range(options.tries)]
    seconds = {"route": median(_seconds(partial(route, model)) for model in models)}
    net = nets[-1]
    opened = {name: torch.rand(options.images, len(site.units)) < 0.5 for name, site in net.sites.items()}
    path, budget = tp.Path(opened), tp.Budget(macs=0.5)
    survey = tp.survey(net, [(x, torch.zeros(len(x), dtype=torch.long))])
    seconds["costs"] = median(_seconds(partial(path.macs, net)) for _ in range(options.tries))
    seconds["choice"] = median(_seconds(partial(survey.path, budget=budget)) for _ in range(options.tries))
    chosen = survey.path(budget=budget).cost(net).macs / net.layout.plain.macs
    return {
        "network": network,
        "units": len(net.layout.units),
        "terms": len(net.layout.terms),
        "chosen": round(chosen, 4),
        **seconds,
    }


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
