"""What early exit saves in time: `torchpaths.skipping` with an exit beside the same network without, in paired runs.

    python benchmarks/exits.py --batch 1 32
    python benchmarks/exits.py --network RUN --loss 0.005

Without a run folder it is a ResNeXt-20 of random weights on blotches of noise, whose thresholds are set such that half
of the images stop early; what they say means nothing, what stopping saves does. With a run folder the threshold is
calibrated on its training images, and the accuracy on its test images stands in the table. ``never`` watches and lets
nobody stop: what watching costs. ``all`` stops everybody at the first coded block. The gap is the time ratio over the
MACs ratio, so 1.00 means that every saved MAC is saved time. Rows go to ``--out``, one JSON object per line.
"""

from __future__ import annotations

import itertools
import json
import math
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import tyro
from networks import POOL, noise
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.models import create_model
from torchpaths.surveys.exits import Curve, exit_curve
from torchpaths.train.folder import load_run


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        network: "resnext20_10x4d" or a run folder of coded paths.
        batch: images per call.
        threads: of the processor.
        agree: decoders in a row that tell the same class.
        loss: accuracy that may be lost on the training images, 0 to 1.
        images: of the training images, how many are calibrated on, at most.
        seconds: timed work for each row.
        pairs: at least so many.
        out: results, one JSON object per line.
    """

    network: str = "resnext20_10x4d"
    batch: tuple[int, ...] = (1, 32)
    threads: int = 1
    agree: int = 2
    loss: float = 0.005
    images: int = 5000
    seconds: float = 3.0
    pairs: int = 15
    out: pathlib.Path = pathlib.Path("runs/exits.jsonl")


def main(options: Options) -> None:
    """Measure everything and print it."""
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    net, images, trained, tested = _open(options)
    if tested is None:
        agree = 1  # random blocks do not agree
        half = int(np.argmax(trained.shares[:, -1] <= 0.5))
        calibrated = tp.Exit(agree, float(trained.thresholds[half]))
    else:
        agree = options.agree
        calibrated = trained.exit(loss=options.loss)
    exits = {"never": tp.Exit(agree, math.inf), "calibrated": calibrated, "all": tp.Exit(1, 0.0)}
    rows = []
    for batch in options.batch:
        for label, exit in exits.items():
            measured = _measure(options, net, images, label, exit, batch)
            row: dict[str, Any] = {
                "network": options.network,
                "exit": label,
                "agree": exit.agree,
                "threshold": str(exit.threshold),
            }
            row = {**measured.to_json(), **row}
            if tested is not None and label != "all":  # which has another agree than the curve
                at = tested.at(exit.threshold)
                row |= {"accuracy": tested.accuracy[at], "without": tested.accuracy[0], "test_macs": tested.macs[at]}
                row["stopped"] = dict(zip([*tested.sites, "end"], tested.shares[at].tolist(), strict=True))
            rows.append(row)
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
    _show(rows)


def _open(options: Options) -> tuple[tp.Routed, Tensor, Curve, Curve | None]:
    """A network, images for it, and what exits do on training and on test images, if there are any."""
    if options.network != "resnext20_10x4d":
        run = load_run(options.network)
        few = itertools.islice(run.loader("train"), math.ceil(options.images / 256))
        images = next(iter(run.loader("test", POOL)))[0]
        tested = exit_curve(run.net, run.loader("test"), agree=options.agree)
        return run.net, images, exit_curve(run.net, few, agree=options.agree), tested
    model = create_model(options.network, 10).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bn3.weight"):  # at zero every block is its shortcut
            nn.init.ones_(parameter)
    images = noise((3, 32, 32))
    net = tp.route(model, tp.CodedPaths(classes=10), example=images[:2]).eval()
    unlabelled: Iterable[Any] = [(images, torch.zeros(len(images), dtype=torch.long))]
    return net, images, exit_curve(net, unlabelled, agree=1), None


def _measure(options: Options, net: tp.Routed, images: Tensor, label: str, exit: tp.Exit, batch: int) -> tp.Measurement:
    """Beside the same network without exits."""
    batches = torch.split(images, batch)[: max(1, 8 // batch)]
    fast, plain = tp.skipping(net, exit=exit), tp.skipping(net)
    return tp.measure(
        fast, batches, against=plain, label=label, threads=options.threads, seconds=options.seconds, pairs=options.pairs
    )


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="Early exit beside the same network without, paired runs; intervals hold with 95 %")
    for column in ("batch", "exit", "agree", "threshold", "ms without", "ms", "MACs", "time", "interval", "gap"):
        table.add_column(column, justify="right")
    accurate = any("accuracy" in row for row in rows)
    if accurate:
        table.add_column("accuracy", justify="right")
    for row in rows:
        low, high = row["time_ratio_interval"]
        cells = [str(row["batch"]), row["exit"], str(row["agree"]), f"{float(row['threshold']):.3f}"]
        cells += [f"{row['plain_ms']:.2f}", f"{row['ms']:.2f}", f"{row['macs_ratio']:.3f}"]
        cells += [f"{row['time_ratio']:.3f}", f"{low:.3f} to {high:.3f}", f"{row['gap']:.3f}"]
        if accurate:
            cells.append(f"{row['accuracy']:.2%}, without {row['without']:.2%}" if "accuracy" in row else "")
        table.add_row(*cells)
    Console(width=150).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
