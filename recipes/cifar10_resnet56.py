"""The record ``records/cifar10_resnet56``: gates for a trained ResNet-56 on CIFAR-10, three targets, and controls.

    python recipes/cifar10_resnet56.py --data DIR/cifar10 --weights DIR/cifar10_resnet56.safetensors

trains five networks from the same weights by the same recipe: the plain one, gates at target rates 0.5, 0.6 and 0.7
(ConvNet-AIG, section 4.1), and a control that opens each block by chance, at the rates the 0.6 network ended with.
Each takes half an hour to an hour on one core; killed and started again, it goes on where it was. ``--only`` trains
some of them, so that two can run side by side. At the end the record is written anew from all that are finished.
"""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import tyro
from record import Entry, last_rates, write_record

from torchpaths import Budget, GatedBlocks, RandomDrop
from torchpaths.methods.base import Method
from torchpaths.train.recipe import Recipe
from torchpaths.train.recipes import cifar10_resnet56
from torchpaths.train.run import train

Name: TypeAlias = Literal["plain", "gated-0.7", "gated-0.6", "gated-0.5", "random-drop", "random-drop-3"]
NAMES: tuple[Name, ...] = ("gated-0.6", "plain", "gated-0.7", "gated-0.5", "random-drop")
CONTROLLED = "gated-0.6"


@dataclass(frozen=True)
class Options:
    """What to train and where.

    Attributes:
        data: folder with CIFAR-10's train.parquet and test.parquet.
        weights: safetensors file of the plain ResNet-56.
        runs: where run folders go.
        record: where the record goes.
        only: train only these.
        threads: of each training process.
    """

    data: pathlib.Path
    weights: pathlib.Path
    runs: pathlib.Path = pathlib.Path("runs/cifar10_resnet56")
    record: pathlib.Path = pathlib.Path(__file__).resolve().parents[1] / "records" / "cifar10_resnet56"
    only: tuple[Name, ...] = ()
    threads: int = 1


ENTRIES = (
    Entry("plain", "plain ResNet-56, fine-tuned", "plain"),
    Entry("gated-0.7", "gates, target 0.7", "run"),
    Entry("gated-0.6", "gates, target 0.6", "run"),
    Entry("gated-0.5", "gates, target 0.5", "run"),
    Entry("random-drop", "random drop at the rates of target 0.6", "control"),
    Entry("random-drop-3", "random drop at the rates of target 0.6, 3 epochs only", "control"),
)

NOTES = """
The weights all networks start from (not trained here) give 93.39 %. *Shuffled*: the same gated network, but every
image takes other images' decisions, each block by itself, so that as much runs and the looking is undone. `*`:
everything runs, scaled by the probability of being open (the paper's starred variant). *Training* is by the clock, on a
machine that did other work beside it.

The paper has no ResNet-56 on CIFAR-10. Its ResNet-110, trained for 350 epochs from scratch at target 0.7, makes 5.76 %
errors with 82 % of the layers, 5.14 % starred, the plain one 6.61 %.
"""


def main(options: Options) -> None:
    for name in options.only or NAMES:
        train(recipe_for(name, options), options.runs / name)
    finished = [entry for entry in ENTRIES if (options.runs / entry.name / "summary.json").is_file()]
    write_record(options.record, options.runs, finished, options.data, NOTES)


def recipe_for(name: Name, options: Options) -> Recipe:
    """The common recipe with one network's way of deciding."""
    recipe = cifar10_resnet56(options.data, options.weights, method=method_for(name, options.runs) or GatedBlocks())
    recipe = dataclasses.replace(recipe, threads=options.threads)
    if name == "random-drop-3":  # a first look at the control: fewer epochs, so not to be set beside the others
        recipe = dataclasses.replace(recipe, epochs=3, eval_every=3)
    return dataclasses.replace(recipe, method=None) if name == "plain" else recipe


def method_for(name: Name, runs: pathlib.Path) -> Method | None:
    """How a network decides. The control's rates are known once the network it stands beside is trained."""
    if name == "plain":
        return None
    if name.startswith("random-drop"):
        return RandomDrop(tuple(max(round(rate, 4), 1e-4) for rate in last_rates(runs / CONTROLLED).values()))
    return GatedBlocks(budget=Budget(open=float(name.removeprefix("gated-"))))


if __name__ == "__main__":
    main(tyro.cli(Options))
