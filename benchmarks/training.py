"""What gates cost in training: steps of the gated network against steps of the plain one, paired in one run.

    python benchmarks/training.py --threads 2

Both networks start from the same weights; their steps take turns, so that whatever else the machine does meets both.
Prints a table and JSON: median seconds per step, images per second, and the ratio of throughputs with its quartiles.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from typing import Literal

import torch
import tyro
from rich.console import Console
from rich.table import Table

import torchpaths as tp
from torchpaths.models import create_model
from torchpaths.train.objective import Objective, total


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        model: network for 32 x 32 images.
        batch: images per step.
        threads: of the processor.
        precision: arithmetic of the forward pass.
        device: where.
        pairs: steps of each network.
        target: target rate of the gates.
    """

    model: str = "cifar_resnet56"
    batch: int = 128
    threads: int = 2
    precision: Literal["fp32", "bf16"] = "bf16"
    device: Literal["cpu", "cuda"] = "cpu"
    pairs: int = 20
    target: float = 0.6


class Stepper:
    """One network with its objective and optimizer."""

    def __init__(self, options: Options, method: tp.GatedBlocks | None) -> None:
        torch.manual_seed(0)
        model = create_model(options.model, 10)
        net = tp.route(model, method, example=torch.randn(2, 3, 32, 32)).to(options.device)
        self.objective = Objective(net.to(memory_format=torch.channels_last), method).train()
        self.optimizer = torch.optim.SGD(
            self.objective.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=1e-4
        )
        self.options = options

    def step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """Seconds of one optimizer step."""
        device = x.device.type
        start = time.perf_counter()
        with torch.autocast(device, torch.bfloat16, enabled=self.options.precision == "bf16"):
            losses = self.objective(x, y)
        total(losses.values()).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    x = torch.randn(options.batch, 3, 32, 32, device=options.device).to(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (options.batch,), device=options.device)
    plain, gated = Stepper(options, None), Stepper(options, tp.GatedBlocks(budget=tp.Budget(open=options.target)))
    for _ in range(3):
        plain.step(x, y), gated.step(x, y)
    pairs = [(plain.step(x, y), gated.step(x, y)) for _ in range(options.pairs)]
    ratios = sorted(a / b for a, b in pairs)
    medians = [statistics.median(column) for column in zip(*pairs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    table = Table(title=f"{options.model}, batch {options.batch}, {options.precision}, {options.threads} thread(s)")
    for column in ("network", "seconds per step", "images per second"):
        table.add_column(column, justify="right")
    for name, seconds in zip(("plain", "gated"), medians, strict=True):
        table.add_row(name, f"{seconds:.3f}", f"{options.batch / seconds:.0f}")
    Console(stderr=True).print(table, f"throughput of gated / plain: {middle:.3f} ({low:.3f} to {high:.3f})")
    result = {
        "options": vars(options),
        "torch": torch.__version__,
        "seconds": dict(zip(("plain", "gated"), medians, strict=True)),
        "throughput_ratio": {"median": middle, "quartiles": [low, high]},
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(tyro.cli(Options))
