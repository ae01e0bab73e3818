"""Cut networks beside the next smaller plain ones, in milliseconds: what a user would take instead.

    python benchmarks/siblings.py --cuts records/cifar10_shrunk/0.75 --data DIR/cifar10 --weights DIR/weights
    python benchmarks/siblings.py                      # a ResNet-50 without half of its blocks, random weights

All networks take turns, in eager torch and as float files in ONNX Runtime, on one thread; every ratio is to the plain
network's time of the same back end and rounds. MACs do not tell which is faster: a shallower network of wider layers
may take less time with more of them.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
import torch
import tyro
from networks import open_network, random_path
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.costs import count_macs
from torchpaths.data import Loader, open_data
from torchpaths.files.write import write_json
from torchpaths.meter.setting import device_name, using_threads
from torchpaths.meter.timing import Run, interleave, median_interval, stopwatch
from torchpaths.models import create_model, load_weights
from torchpaths.train.folder import Run as Trained
from torchpaths.train.folder import load_run

IMAGES = 8
"""That times of single images are over."""


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        cuts: run folders of networks with a fixed path; none for a ResNet-50 with random weights.
        data: CIFAR-10's folder, for accuracies.
        weights: folder of the plain networks' weights.
        siblings: plain networks beside the first.
        batch: images per call in eager torch, the first one in ONNX Runtime too.
        seconds: timed work for each network.
        files: folder of the written files.
        out: results as JSON.
    """

    cuts: tuple[pathlib.Path, ...] = ()
    data: pathlib.Path | None = None
    weights: pathlib.Path = pathlib.Path("data/weights")
    siblings: tuple[str, ...] = ("cifar_resnet44", "cifar_resnet32", "cifar_resnet20")
    batch: tuple[int, ...] = (1, 32)
    seconds: float = 2.0
    files: pathlib.Path = pathlib.Path("runs/siblings")
    out: pathlib.Path = pathlib.Path("runs/siblings.json")


def main(options: Options) -> None:
    """Measure, print and write."""
    named, images = _trained(options) if options.cuts else _random()
    rows: list[dict[str, Any]] = []
    with using_threads(1), torch.inference_mode():
        eager = {n: [partial(_eager, net, images[:n]) for net in named.values()] for n in options.batch}
        calls: dict[str, list[Callable[[], object]]] = {f"eager, batch {n}": [*runs] for n, runs in eager.items()}
        calls["ONNX Runtime, batch 1"] = [_onnx(options, name, net, images) for name, net in named.items()]
        timed = {}
        for where, runs in calls.items():
            taking = [[Run(call)] for call in runs]
            times = interleave(taking, seconds=options.seconds * len(runs), timer=stopwatch(torch.device("cpu")))
            timed[where] = [
                {"ms": float(np.median(own)) * 1e3, **asdict(median_interval(own / times[:, 0]))} for own in times.T
            ]
        macs = [count_macs(partial(net, images[:1])) for net in named.values()]
    for i, (name, net) in enumerate(named.items()):
        row = {"name": name, "macs": macs[i], "macs_share": macs[i] / macs[0]}
        if options.data is not None:
            row["accuracy"] = _accuracy(net, load_run(options.cuts[0]), options.data)
        rows.append({**row, "times": {where: found[i] for where, found in timed.items()}})
    made = {
        "device": device_name(torch.device("cpu")),
        "torch": torch.__version__,
        "onnxruntime": onnxruntime.__version__,
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, made)
    _show(rows)
    print(json.dumps(made))


def _random() -> tuple[dict[str, nn.Module], Tensor]:
    """A ResNet-50, the same without half of its blocks, and smaller ones of timm; random weights, images of noise."""
    net, images = open_network("resnet50", "fp32", "contiguous", None)
    named = {"ResNet-50": tp.plain(net), "ResNet-50, cut": tp.extract(net, random_path(net))}
    named |= {f"ResNet-{depth}": create_model(f"timm/resnet{depth}", 1000).eval() for depth in (34, 26, 18)}
    return named, images[:IMAGES]


def _trained(options: Options) -> tuple[dict[str, nn.Module], Tensor]:
    """The network that was cut, what is left of it, and its smaller siblings, all trained on CIFAR-10."""
    opened = [load_run(folder) for folder in options.cuts]
    first = opened[0]
    named = {first.recipe.model: _sibling(first.recipe.model, options)}
    for folder, run in zip(options.cuts, opened, strict=True):
        path = tp.Path.of(run.net(torch.zeros(1, *run.net.example_shape))[1])[0]
        named[f"cut, {folder.parent.name if folder.name == 'run' else folder.name}"] = tp.extract(run.net, path)
    named |= {name: _sibling(name, options) for name in options.siblings}
    images = open_data(str(options.data), "test")
    x: Tensor = next(iter(Loader(images, max(options.batch), mean=first.mean, std=first.std)))[0]
    return named, x


def _sibling(name: str, options: Options) -> nn.Module:
    model = create_model(name, 10)
    load_weights(model, options.weights / f"cifar10_{name.removeprefix('cifar_')}.safetensors")
    return model.eval()


def _accuracy(net: nn.Module, run: Trained, data: pathlib.Path) -> float:
    """Of a network on test images, normalised as a run's."""
    loader = Loader(open_data(str(data), "test"), 250, mean=run.mean, std=run.std)
    return tp.survey(tp.route(net, example=torch.zeros(1, *run.net.example_shape)), loader).accuracy


def _eager(net: nn.Module, x: Tensor) -> object:
    return net(x)


def _onnx(options: Options, name: str, net: nn.Module, images: Tensor) -> Callable[[], object]:
    """One image through a network's float file."""
    options.files.mkdir(parents=True, exist_ok=True)
    file = options.files / f"{name.replace(', ', '-')}.onnx"
    with torch.inference_mode(False):
        tp.export(net, file, images[:2].clone())
    how = onnxruntime.SessionOptions()
    how.log_severity_level = 3
    how.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, how, providers=["CPUExecutionProvider"])
    return partial(session.run, None, {"x": images[:1].numpy()})


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table(title="time / the plain network's of the same back end, one thread (95 % interval)")
    for name in ("network", "accuracy", "MACs", *rows[0]["times"]):
        table.add_column(name, justify="left" if name == "network" else "right")
    for row in rows:
        accuracy = f"{row['accuracy']:.2%}" if "accuracy" in row else ""
        times = (f"{t['value']:.2f} ({t['low']:.2f} to {t['high']:.2f})" for t in row["times"].values())
        table.add_row(row["name"], accuracy, f"{row['macs_share']:.1%}", *times)
    Console(width=120).print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
