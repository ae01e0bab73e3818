"""The record ``records/cifar10_shrunk``: a trained ResNet-56 with blocks closed for good and the rest trained for a few
epochs, by `torchpaths.shrink`. The control that everything which decides for each image has to beat.

    python recipes/cifar10_shrunk.py --data DIR/cifar10 --weights DIR/cifar10_resnet56.safetensors

For each share of the MACs: which blocks the network's output misses least, then training with the network as its own
teacher. Killed and started again, it goes on where it was. The record is written anew from all that are finished.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from dataclasses import dataclass
from typing import Any

import tyro

from torchpaths.budget import Budget
from torchpaths.shrinking.job import DISTIL, shrink_run
from torchpaths.train.environment import commit
from torchpaths.train.recipes import cifar10_resnet56

NOTES = """
Blocks are chosen on 384 training images; the loss is 0.3 CE + 0.7 T^2 KL, T = 3, from the whole network; the learning
rate falls from 0.02 along half a cosine; bf16, batch 128, crops and flips. Trained networks beside it, of the same MACs
or nearly: a plain ResNet-44 has 93.10 % at 77.4 % of the MACs and a ResNet-32 92.63 % at 54.9 % (pretrained, from
scratch for 200 epochs); gates with one target for all blocks, ten epochs, [92.08 % at
78.2 %](../cifar10_resnet56/README.md). The weights of the second row are left out for room; the command makes them
again in twenty minutes.
"""


SIBLINGS = """
## Beside smaller plain networks, in milliseconds

`python benchmarks/siblings.py`: all take turns on one thread, shares of the plain network's time of the same back end,
95 % intervals; trained networks on CIFAR-10, then networks with random weights at 224 pixels. On CIFAR the first
cut is as good as ResNet-44 in a little less time, the second dearer and a little worse than ResNet-32; both plain
networks were trained from scratch for 200 epochs, where the cuts took five from weights at hand. MACs do not tell which
is faster: ResNet-34 has 0.90 of ResNet-50's MACs and takes 0.69 to 0.88 of its time.
"""


@dataclass(frozen=True)
class Options:
    """What to train and where.

    Attributes:
        data: folder with train.parquet and test.parquet.
        weights: of the plain network.
        shares: of its MACs, each a network.
        epochs: of training after blocks were closed.
        runs: folder for the runs.
        record: folder for the record.
    """

    data: pathlib.Path = pathlib.Path("data/cifar10")
    weights: pathlib.Path = pathlib.Path("data/weights/cifar10_resnet56.safetensors")
    shares: tuple[float, ...] = (0.75, 0.63)
    epochs: int = 5
    runs: pathlib.Path = pathlib.Path("runs/cifar10_shrunk")
    record: pathlib.Path = pathlib.Path("records/cifar10_shrunk")


def main(options: Options) -> None:
    recipe = dataclasses.replace(
        cifar10_resnet56(options.data, options.weights, epochs=options.epochs), method=None, distil=DISTIL, threads=1
    )
    for share in options.shares:
        shrink_run(recipe, Budget(macs=share), options.runs / f"{share:g}", batch=(1, 32), progress=print)
    write(options)


def write(options: Options) -> None:
    """The record of all that are finished."""
    options.record.mkdir(parents=True, exist_ok=True)
    lines, kept = [], {}
    for folder in sorted(options.runs.iterdir(), reverse=True):
        if not (folder / "shrunk.json").is_file():
            continue
        found = kept[folder.name] = json.loads((folder / "shrunk.json").read_text())
        made = json.loads((folder / "run" / "run.json").read_text())
        original, closed, shrunk = found["rows"]
        times = [_time(row) for row in found["times"]]
        names = ", ".join(step["unit"] for step in found["closed"])
        lines.append(
            f"| {folder.name} | {names} | {original['accuracy']:.2%} | {closed['accuracy']:.2%} | "
            f"{shrunk['accuracy']:.2%} | {shrunk['macs'] / original['macs']:.1%} | "
            f"{shrunk['params'] / original['params']:.1%} | {' | '.join(times)} |"
        )
        (options.record / folder.name).mkdir(exist_ok=True)
        for name in ("weights.safetensors", "metrics.jsonl", "run.json", "summary.json"):
            shutil.copy(folder / "run" / name, options.record / folder.name / name)
        recipe = json.loads((folder / "run" / "recipe.json").read_text())
        recipe |= {name: pathlib.Path(recipe[name]).name for name in ("data", "weights")}
        (options.record / folder.name / "recipe.json").write_text(json.dumps(recipe, indent=1) + "\n")
        about = f"{made['device']}, torch {made['versions']['torch']}, commit {commit() or 'unknown'}"
    (options.record / "results.json").write_text(json.dumps(kept, indent=1) + "\n")
    head = "| budget | closed | original | closed | trained | MACs | parameters | time, batch 1 | time, batch 32 |"
    title = f"# cifar10_shrunk\n\nResNet-56 on CIFAR-10, {options.epochs} epochs after blocks were closed; {about}.\n"
    table = "\n".join([head, "|---" * 9 + "|", *lines])
    beside = options.record / "siblings.json"
    siblings = _siblings(json.loads(beside.read_text())) if beside.is_file() else ""
    (options.record / "README.md").write_text(f"{title}\n{table}\n{NOTES}{siblings}")


def _siblings(found: dict[str, Any]) -> str:
    """What ``benchmarks/siblings.py`` measured: plain networks of fewer blocks, which one would take instead."""
    lines = [SIBLINGS.strip(), ""]
    for made in found.values():
        rows = made["rows"]
        wheres = list(rows[0]["times"])
        lines += [f"| network | accuracy | MACs | {' | '.join(wheres)} |", "|---" * (3 + len(wheres)) + "|"]
        for row in rows:
            times = [f"{t['value']:.2f} ({t['low']:.2f} to {t['high']:.2f})" for t in row["times"].values()]
            accuracy = f"{row['accuracy']:.2%}" if "accuracy" in row else ""
            lines.append(f"| {row['name']} | {accuracy} | {row['macs_share']:.1%} | {' | '.join(times)} |")
        lines.append("")
    return "\n" + "\n".join(lines)


def _time(row: dict[str, Any]) -> str:
    low, high = row["time_ratio_interval"]
    return f"{row['time_ratio']:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main(tyro.cli(Options))
