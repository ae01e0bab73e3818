"""What adaptive depth costs and saves in time: base-net beside super-net, changing depth, and a training step.

    python benchmarks/depth.py --networks resnet50 vit_b_32 mobilenet_v2 --threads 1 2

* ``base``: the routed network along the base-net's path beside the plain one (AdaptiveDepth, Table 1), eager.
* ``switch``: the first call after the depth was changed, beside a call at the same depth as the one before (ResNet-20,
  one image: in a network of more milliseconds the difference is lost among theirs).
* ``train``: a step of Algorithm 1 beside a step of the plain network and one of the plain base-net together, each with
  its optimizer (ResNet-20 on batches of 128, SGD with momentum).
* ``memory``: what such a step allocates at most with a backward pass for each part, beside one for all, and beside the
  plain network's step.

Networks of torchvision with random weights on noise. Rows that are already in the results file are not measured again;
the table shows them all.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
import torchvision
import tyro
from networks import read_rows
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.meter.memory import peak_memory
from torchpaths.meter.setting import setting_of, using_threads
from torchpaths.meter.timing import Median, Run, interleave, median_interval, stopwatch
from torchpaths.methods.base import Method
from torchpaths.models import cifar_resnet

BATCHES = {"resnet50": (1, 32), "vit_b_32": (8,), "mobilenet_v2": (8,)}
"""Images in a batch."""

METHOD = tp.AdaptiveDepth()

RESULTS = {"ms": "{:+.3f} ms", "ratio": "{:.3f} of both plain steps", "MiB": "{:.3f} of one backward's"}
"""Unit of a row -> its result in the table."""

Kind: TypeAlias = Literal["base", "switch", "train", "memory"]


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        networks: of torchvision.
        threads: of the processor.
        kinds: see above.
        seconds: timed work for each row.
        pairs: at least so many.
        out: results, one JSON object per line.
    """

    networks: tuple[str, ...] = tuple(BATCHES)
    threads: tuple[int, ...] = (1, 2)
    kinds: tuple[Kind, ...] = get_args(Kind)
    seconds: float = 6.0
    pairs: int = 15
    out: pathlib.Path = field(default=pathlib.Path("runs/depth.jsonl"))


def main(options: Options) -> None:
    """Measure what is missing and print everything."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for threads in options.threads:
        with using_threads(threads):
            for name in options.networks:
                net: tp.Routed | None = None
                for batch in BATCHES[name]:
                    key = ["base", name, threads, batch]
                    if "base" in options.kinds and not _known(options, key):
                        net = net or _network(name)
                        _keep(options, key, _base(options, net, batch))
            for kind, batch, measure in (("switch", 1, _switch), ("train", 128, _train), ("memory", 128, _memory)):
                key = [kind, "cifar_resnet20", threads, batch]
                if kind in options.kinds and not _known(options, key):
                    _keep(options, key, measure(options))
    _show(read_rows(options.out))


def _network(name: str) -> tp.Routed:
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    net = tp.route(model, METHOD, example=torch.randn(1, 3, 224, 224))
    return net.to(memory_format=torch.channels_last)


def _images(batch: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, 224, 224, generator=draw).contiguous(memory_format=torch.channels_last)


def _base(options: Options, net: tp.Routed, batch: int) -> dict[str, Any]:
    path = METHOD.path(net, True)
    found = tp.measure(net, _images(batch), path, seconds=options.seconds, pairs=options.pairs, label="base-net")
    return found.to_json()


@torch.no_grad()
def _switch(options: Options) -> dict[str, Any]:
    x = torch.randn(1, 3, 32, 32)
    net = tp.route(cifar_resnet(20), METHOD, example=x).eval()
    base, full = METHOD.path(net, True), METHOD.path(net, False)
    changed = Run(lambda: net(x, base), prepare=lambda: net(x, full))
    same = Run(lambda: net(x, base), prepare=lambda: net(x, base))
    times = _times([changed, same], options)
    return {"unit": "ms", **_setting(net, x), **_row(median_interval(1e3 * (times[:, 0] - times[:, 1])), times)}


def _batch() -> tuple[Tensor, Tensor]:
    return torch.randn(128, 3, 32, 32).contiguous(memory_format=torch.channels_last), torch.randint(10, (128,))


def _memory(options: Options) -> dict[str, Any]:
    x, y = _batch()
    steps = [_step(*_trained(20, METHOD, x), x, y), _step(*_trained(20, METHOD, x), x, y, parts=False)]
    steps.append(_step(*_trained(20, None, x), x, y))
    peaks = []
    for step in steps:
        step()
        peaks.append(peak_memory(step, torch.device("cpu")) / 2**20)
    return {"unit": "MiB", "ms": peaks, "value": peaks[0] / peaks[1], "interval": [peaks[0] / peaks[1]] * 2, "pairs": 1}


def _train(options: Options) -> dict[str, Any]:
    x, y = _batch()
    nets = [_trained(20, METHOD, x), _trained(20, None, x), _trained(14, None, x)]
    times = _times([Run(_step(net, method, x, y)) for net, method in nets], options)
    ratio = median_interval(times[:, 0] / (times[:, 1] + times[:, 2]))
    return {"unit": "ratio", **_setting(nets[0][0], x), **_row(ratio, times)}


def _trained(depth: int, method: Method | None, x: Tensor) -> tuple[tp.Routed, Method | None]:
    net = tp.route(cifar_resnet(depth), method, example=x[:2])
    return net.to(memory_format=torch.channels_last).train(), method


def _step(net: tp.Routed, method: Method | None, x: Tensor, y: Tensor, parts: bool = True) -> Callable[[], None]:
    objective = tp.Objective(net, method)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        for losses in objective.passes(x, y) if parts else [objective(x, y)]:
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def _times(runs: list[Run], options: Options) -> np.ndarray[Any, np.dtype[np.float64]]:
    timer = stopwatch(torch.device("cpu"))
    return interleave([[run] for run in runs], seconds=options.seconds, least=options.pairs, timer=timer)


def _setting(net: nn.Module, x: Tensor) -> dict[str, Any]:
    return setting_of(net, x, None).to_json()


def _row(value: Median, times: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    ms = (1e3 * np.median(times, axis=0)).tolist()
    return {"value": value.value, "interval": [value.low, value.high], "ms": ms, "pairs": len(times)}


def _known(options: Options, key: list[Any]) -> bool:
    return key in [row["key"] for row in read_rows(options.out)]


def _keep(options: Options, key: list[Any], row: dict[str, Any]) -> None:
    with options.out.open("a") as file:
        file.write(json.dumps({"key": key, **row}) + "\n")


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="Adaptive depth, eager, float32; intervals hold with 95 %")
    for column in ("what", "network", "threads", "batch", "ms or MiB", "result", "interval", "pairs"):
        table.add_column(column, justify="left" if column in ("what", "network", "result") else "right")
    for row in rows:
        kind, name, threads, batch = row["key"]
        if kind == "base":
            ms, (low, high) = f"{row['plain_ms']:.1f} -> {row['ms']:.1f}", row["gap_interval"]
            result = f"MACs {row['macs_ratio']:.3f}, time {row['time_ratio']:.3f}, gap {row['gap']:.3f}"
        else:
            ms, (low, high) = ", ".join(f"{t:.1f}" for t in row["ms"]), row["interval"]
            result = RESULTS[row["unit"]].format(row["value"])
        table.add_row(kind, name, str(threads), str(batch), ms, result, f"{low:.3f} to {high:.3f}", str(row["pairs"]))
    Console(width=150).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
