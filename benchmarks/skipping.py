"""What skipping and cutting save in time: the gap of `torchpaths.skipping` and `torchpaths.extract`, in paired runs.

    python benchmarks/skipping.py --network resnet50 --batch 1 8 --threads 1 2

ResNet-50 has random weights and gates whose thresholds are set to the median of their scores, so that each opens for
half of the images, independently of the others (random projections of the features), and it runs with them, with all
open and with all closed; beside that the network of a random path, cut out. With ``--network RUN`` a trained network of
a run folder runs as it is. Images are those of ``--data`` where given, else noise at several scales. Rows that are
already in the results file are not measured again; the table shows them all.
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import torch
import tyro
from networks import POOL, Order, open_network, random_path, read_rows
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import torchpaths as tp

Kind: TypeAlias = Literal["gates", "open", "closed", "closed-cut", "cut"]
"""What runs: gates as they decide; all of them made to open, or to close; the network of a random path, cut out.
``closed-cut`` is all closed beside the network from which these blocks are cut, which has as many MACs."""


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        network: "resnet50" or a run folder.
        batch: images per call.
        threads: of the processor.
        dtype: of weights and images.
        order: memory format.
        kinds: what runs.
        data: image set to take the images from.
        seconds: timed work for each row.
        pairs: at least so many.
        out: results, one JSON object per line.
    """

    network: str = "resnet50"
    batch: tuple[int, ...] = (1, 8, 32)
    threads: tuple[int, ...] = (1, 2)
    dtype: Literal["fp32", "bf16"] = "fp32"
    order: Order = "channels_last"
    kinds: tuple[Kind, ...] = get_args(Kind)
    data: str | None = None
    seconds: float = 8.0
    pairs: int = 15
    out: pathlib.Path = field(default=pathlib.Path("runs/skipping.jsonl"))


def main(options: Options) -> None:
    """Measure what is missing and print everything."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    net, images = open_network(options.network, options.dtype, options.order, options.data)
    for threads in options.threads:
        for batch in options.batch:
            for kind in options.kinds:
                key = [options.network, kind, options.dtype, options.order, threads, batch]
                if key not in [row["key"] for row in read_rows(options.out)]:
                    row = _measure(options, net, images, kind, threads, batch)
                    with options.out.open("a") as file:
                        file.write(json.dumps({"key": key, **row.to_json()}) + "\n")
    _show(read_rows(options.out))


def _measure(options: Options, net: tp.Routed, images: Tensor, kind: str, threads: int, batch: int) -> tp.Measurement:
    batches = (
        [images[i * batch : (i + 1) * batch] for i in range(min(4, POOL // batch))] if batch < 32 else [images[:batch]]
    )
    if kind == "cut":
        what: nn.Module = tp.extract(net, random_path(net))
    else:
        fast = tp.skipping(net)
        if kind != "gates":
            for decider in fast.deciders.values():
                decider.threshold = -1e9 if kind == "open" else 1e9  # type: ignore[assignment]
        what = fast
    bare = kind == "closed-cut"
    torch.set_num_threads(threads)
    with torch.no_grad():
        for _ in range(2):
            for x in batches:
                what(x)  # prices are measured outside of what is timed
    return tp.measure(
        what,
        batches,
        against=tp.extract(net, ~tp.Path.full(net)) if bare else tp.plain(net),
        label=f"{pathlib.Path(options.network).name}, {kind}",
        threads=threads,
        seconds=options.seconds,
        pairs=options.pairs,
    )


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="Times beside the plain network, paired runs; the interval of the gap holds with 95 %")
    for column in (
        "network",
        "what",
        "dtype",
        "order",
        "threads",
        "batch",
        "plain ms",
        "ms",
        "MACs",
        "time",
        "gap",
        "interval",
        "pairs",
    ):
        table.add_column(column, justify="left" if column in ("network", "what", "dtype", "order") else "right")
    for row in rows:
        key = [str(k) for k in row["key"]]
        numbers = {k: row[k] for k in ("plain_ms", "ms", "macs_ratio", "time_ratio", "gap")}
        low, high = row["gap_interval"]
        table.add_row(
            pathlib.Path(key[0]).name,
            *key[1:],
            f"{numbers['plain_ms']:.1f}",
            f"{numbers['ms']:.1f}",
            f"{numbers['macs_ratio']:.3f}",
            f"{numbers['time_ratio']:.3f}",
            f"{numbers['gap']:.3f}",
            f"{low:.3f} to {high:.3f}",
            str(row["pairs"]),
        )
    Console(width=170).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
