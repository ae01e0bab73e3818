"""What closing filters saves in time: `torchpaths.skipping` of gated filters beside the plain network with its norms
folded into its convolutions, in paired runs.

    python benchmarks/filters.py --networks resnet18 vgg16 --shares 0.2 0.4 0.6 0.8 1.0

Weights are random. Each gate is a random projection of what its layer sees, shifted such that a share of its filters
opens on average; different ones for each image. Every call gets an image that was not seen before, since a convolution
of a new shape costs what one of a known shape does not. The MACs are those of the paths that were taken, gates
included. ``open``: gates look and everything opens, what looking costs. The gap is the time ratio over the MACs ratio.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torchvision
import tyro
from networks import noise
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

import torchpaths as tp
from torchpaths.deciders import FilterGate
from torchpaths.meter.setting import device_name
from torchpaths.meter.timing import median_interval, stopwatch
from torchpaths.models import cifar_resnet

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet18": (torchvision.models.resnet18, 224),
    "vgg16": (torchvision.models.vgg16, 224),
    "resnet56": (lambda: cifar_resnet(56), 32),
}
CALIBRATED = 24
"""Images by which gates are set."""


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        networks: which.
        shares: of the plain network's MACs that gates aim at; 1 for everything open.
        multiple: a multiple of so many filters opens, see `torchpaths.GatedFilters`.
        batch: images per call.
        order: memory formats.
        threads: of the processor.
        seconds: timed work for each row.
    """

    networks: tuple[str, ...] = ("resnet18", "vgg16", "resnet56")
    shares: tuple[float, ...] = (0.2, 0.41, 0.6, 0.8, 1.0)
    multiple: tuple[int, ...] = (1, 8)
    batch: int = 1
    order: tuple[str, ...] = ("channels_last", "contiguous")
    threads: int = 1
    seconds: float = 12.0


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    rows = []
    for name in options.networks:
        for order in options.order:
            for multiple in options.multiple:
                for share in options.shares:
                    rows.append(row(name, order, multiple, share, options))
                    print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    setting = f"{device_name(torch.device('cpu'))}, {options.threads} thread(s), fp32, torch {torch.__version__}"
    table = Table(title=setting)
    for column in ("network", "order", "multiple", "batch", "ms plain", "ms", "MACs", "time", "interval", "gap"):
        table.add_column(column, justify="left" if column in ("network", "order") else "right")
    for r in rows:
        low, high = r["interval"]
        cells = (f"{r['plain_ms']:.2f}", f"{r['ms']:.2f}", f"{r['macs_ratio']:.3f}", f"{r['time_ratio']:.3f}")
        ends = (f"{low:.3f} to {high:.3f}", f"{r['gap']:.2f}")
        table.add_row(r["network"], r["order"], str(r["multiple"]), str(r["batch"]), *cells, *ends)
    Console(stderr=True, width=140).print(table)
    json.dump({"setting": setting, "rows": rows}, sys.stdout)
    print()


@torch.no_grad()
def row(name: str, order: str, multiple: int, share: float, options: Options) -> dict[str, Any]:
    """One network with gates that open a share of its MACs."""
    torch.manual_seed(0)
    make, side = NETWORKS[name]
    memory = torch.channels_last if order == "channels_last" else torch.contiguous_format
    model = make().eval().to(memory_format=memory)
    images = noise((3, side, side)).contiguous(memory_format=memory)
    plain = fuse(model).to(memory_format=memory)
    net = tp.route(model, tp.GatedFilters(multiple=multiple), example=images[:1]).eval()
    set_gates(net, images[:CALIBRATED], share)
    fast = tp.skipping(net)
    batches = torch.split(images[CALIBRATED:], options.batch)
    batches = batches[: len(images[CALIBRATED:]) // options.batch]
    first, *others = batches
    for call in (plain, fast) * 2:
        call(first)
    timer, draw = stopwatch(torch.device("cpu")), random.Random(0)
    times: list[list[float]] = []
    macs: list[float] = []
    for batch in others:
        calls = [lambda batch=batch: plain(batch), lambda batch=batch: fast(batch)]
        spent = [0.0, 0.0]
        for i in draw.sample((0, 1), 2):
            spent[i] = timer(calls[i])
        times.append(spent)
        macs.append(float(tp.Path.of(fast(batch)[1]).macs(net).double().mean()))
    found = np.array(times)
    ratio, of_macs = median_interval(found[:, 1] / found[:, 0]), float(np.mean(macs)) / net.layout.plain.macs
    return {
        "network": name,
        "order": order,
        "multiple": multiple,
        "batch": options.batch,
        "aim": share,
        "images": len(others) * options.batch,
        "plain_ms": float(np.median(found[:, 0]) * 1e3),
        "ms": float(np.median(found[:, 1]) * 1e3),
        "macs_ratio": of_macs,
        "time_ratio": ratio.value,
        "interval": [ratio.low, ratio.high],
        "gap": ratio.value / of_macs,
    }


def set_gates(net: tp.Routed, images: Tensor, share: float) -> None:
    """Shift gates such that the paths of some images take a share of the plain network's MACs."""
    for gate in net.deciders.values():
        assert isinstance(gate, FilterGate)
        gate.fc1.bias.data.zero_()
        gate.fc2.weight.data.normal_()
    low, high = 0.0, 1.0
    for _ in range(1 if share >= 1 else 7):
        middle = 2.0 if share >= 1 else (low + high) / 2
        shift(net, images, middle)
        found = float(tp.Path.of(net(images)[1]).macs(net).double().mean()) / net.layout.plain.macs
        low, high = (low, middle) if found > share else (middle, high)


def shift(net: tp.Routed, images: Tensor, opened: float) -> None:
    """Let each gate open a share of its filters, given what those before it do."""
    seen: list[Tensor] = []
    for gate in net.deciders.values():
        assert isinstance(gate, FilterGate)
        gate.fc2.bias.data.zero_()
        handle = gate.register_forward_pre_hook(lambda gate, inputs: seen.append(inputs[0]))
        net(images)
        handle.remove()
        scores = gate.perceptron()(seen.pop())
        scale = scores.std(0).clamp(min=1e-6)
        gate.fc2.weight.data.div_(scale.unsqueeze(1))
        scores = (scores / scale).flatten()
        value = scores.min() - 1 if opened >= 1 else torch.quantile(scores, 1 - opened)
        gate.fc2.bias.data.fill_(-float(value))


if __name__ == "__main__":
    main(tyro.cli(Options))
