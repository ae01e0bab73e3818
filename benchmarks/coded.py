"""What coding costs, and what a class cut out saves: coded ResNeXts beside the plain ones, in paired runs.

    python benchmarks/coded.py --threads 2
    python benchmarks/coded.py --networks resnext29_10x11d --parts cut

*Training*: whole steps (forward, backward, SGD) of the coded and of the plain network take turns; the ratio of a pair
is one observation. Peak memory is what torch's allocator hands out during a step. *Cut*: one class's binary classifier
beside the same network without the energy normalisation (a plain network of those sizes), and beside the whole plain
network: the gap is time ratio / MACs ratio. fp32, random weights. To be run alone on the machine. Prints a table and
JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.costs import count_macs, count_params
from torchpaths.meter.memory import peak_memory
from torchpaths.meter.setting import device_name
from torchpaths.meter.timing import Median, Run, interleave, median_interval, stopwatch
from torchpaths.models import create_model
from torchpaths.models.energy import EnergyConv2d
from torchpaths.train.objective import Objective, total

TRAINING = {
    "resnext50_32x4d": (1000, ((32, 96), (16, 96))),
    "resnext29_10x11d": (10, ((64, 32),)),
    "resnext29_20x6d": (100, ((64, 32),)),
    "resnext20_10x4d": (10, ((128, 32),)),
}
"""Network -> classes, and the batches and sides in pixels of the training steps."""
SIDES = {"resnext50_32x4d": 224}
"""Of the images that cut networks are timed on; 32 for others."""


@dataclass(frozen=True)
class Options:
    """What is measured."""

    networks: tuple[str, ...] = tuple(TRAINING)
    parts: tuple[Literal["training", "cut"], ...] = ("training", "cut")
    threads: int = 2
    channels_last: bool = False
    seconds: float = 60.0
    """Timed work for each row."""
    device: str = "cpu"
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of training steps."""
    batches: tuple[int, ...] = ()
    """Of training steps, in place of those above."""


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    for name in options.networks:
        classes, settings = TRAINING[name]
        if options.batches:
            settings = tuple((batch, SIDES.get(name, 32)) for batch in options.batches)
        for batch, side in settings if "training" in options.parts else ():
            rows.append(shown(training(name, classes, batch, side, options)))
        if "cut" in options.parts:
            rows.append(shown(cutting(name, classes, SIDES.get(name, 32), options)))
    where = f"{device_name(torch.device(options.device))}, {options.threads} thread(s)"
    setting = f"{where}, {options.precision}, torch {torch.__version__}"
    made = Table(title=setting)
    for column in ("network", "what", "batch", "side", "ratio", "MACs", "gap", "memory"):
        made.add_column(column, justify="left" if column in ("network", "what") else "right")
    for row in rows:
        ratio = "{:.3f} ({:.3f} to {:.3f})".format(*row["ratio"])
        rest = (str(row.get(name, "")) for name in ("macs_ratio", "gap", "memory_ratio"))
        made.add_row(row["network"], row["what"], str(row["batch"]), str(row["side"]), ratio, *rest)
    Console(stderr=True, width=140).print(made)
    json.dump({"setting": setting, "channels_last": options.channels_last, "rows": rows}, sys.stdout)
    print()


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """Print a row as soon as it is there: all of them take minutes."""
    print(json.dumps(row), file=sys.stderr, flush=True)
    return row


def training(name: str, classes: int, batch: int, side: int, options: Options) -> dict[str, Any]:
    """Steps of the coded network against steps of the plain one."""
    x = ordered(torch.randn(batch, 3, side, side), options)
    y = torch.randint(0, classes, (batch,), device=options.device)
    steps = [step(name, classes, method, x, y, options) for method in (None, tp.CodedPaths(classes=classes))]
    ratio = paired(steps, options)
    memory = [peak_memory(call, x.device) for call in steps]
    return {
        "network": name,
        "what": "training step, coded / plain",
        "batch": batch,
        "side": side,
        "ratio": ratio,
        "memory_ratio": round(memory[1] / memory[0], 3),
        "memory_bytes": memory,
    }


def step(
    name: str, classes: int, method: tp.Method | None, x: Tensor, y: Tensor, options: Options
) -> Callable[[], object]:
    """One training step of a network."""
    torch.manual_seed(0)
    net = tp.route(create_model(name, classes), method, example=x[:2])
    objective = Objective(ordered(net, options), method).to(options.device).train()
    half = torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16")
    optimizer = torch.optim.SGD(objective.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)

    def run() -> None:
        with half:
            loss = total(objective(x, y).values())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return run


def cutting(name: str, classes: int, side: int, options: Options) -> dict[str, Any]:
    """One class's network against its twin without normalisation, and against the whole plain network."""
    torch.manual_seed(0)
    x = ordered(torch.randn(32, 3, side, side), options)
    plain = create_model(name, classes).eval()
    method = tp.CodedPaths(classes=classes)
    net = tp.route(create_model(name, classes), method, example=x[:2]).eval()
    cut = tp.extract(net, method.path(net, classes=[0]), classes=[0])
    twin = without_energies(tp.extract(net, method.path(net, classes=[0]), classes=[0]))
    models = [ordered(model, options) for model in (plain, twin, cut)]
    with torch.no_grad():
        calls = [lambda model=model: model(x) for model in models]
        whole, same, own = (call for call in calls)
        against_twin, against_plain = paired([same, own], options), paired([whole, own], options)
    macs = [count_macs(lambda model=model: model(x[:1])) for model in (plain, cut)]  # type: ignore[misc]
    params = [count_params(model) for model in (plain, cut)]
    macs_ratio = macs[1] / macs[0]
    return {
        "network": name,
        "what": "a class cut out / plain of its sizes",
        "batch": 32,
        "side": side,
        "ratio": against_twin,
        "time_ratio": against_plain,
        "macs_ratio": round(macs_ratio, 4),
        "gap": round(against_plain[0] / macs_ratio, 3),
        "parameters": params,
    }


def without_energies(model: nn.Module) -> nn.Module:
    """The same layers with ordinary convolutions behind the branches."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, EnergyConv2d):
            made = nn.Conv2d(layer.in_channels, layer.out_channels, 1, bias=layer.bias is not None)
            made.load_state_dict(layer.state_dict())
            model.set_submodule(name, made.eval())
    return model


def ordered(thing: Any, options: Options) -> Any:
    """A tensor or module in the memory format and place asked for."""
    thing = thing.to(options.device)
    return thing.to(memory_format=torch.channels_last) if options.channels_last else thing


def paired(calls: list[Callable[[], object]], options: Options) -> tuple[float, float, float]:
    """Median of second / first, with its 95 % interval."""
    times = interleave(
        [[Run(call)] for call in calls], seconds=options.seconds, timer=stopwatch(torch.device(options.device))
    )
    found: Median = median_interval(times[:, 1] / times[:, 0])
    return round(found.value, 4), round(found.low, 4), round(found.high, 4)


if __name__ == "__main__":
    main(tyro.cli(Options))
