"""The record ``records/cifar10_anytime``: a trained ResNet-20 gets its depths by fine-tuning, beside two plain twins.

    python recipes/cifar10_anytime.py --data DIR/cifar10 --weights DIR/cifar10_resnet20.safetensors

This is what somebody does who has trained weights. All networks start from the same ones and are fine-tuned by the same
recipe: the ResNet-20 as it is; what is left of it without the blocks that can be left out, a ResNet-14 (so each of its
two depths has a twin, as in AdaptiveDepth, Table 1); and an adaptive one with the defaults. In float32, on one core
without AVX-512, four epochs of an adaptive network take half an hour; killed and started again, it goes on where it
was. ``--only`` trains some of them. At the end the record is written anew from all that are finished.
"""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import tyro
from depth_record import Entry, write_record
from safetensors.torch import save_file

from torchpaths import AdaptiveDepth, extract, route
from torchpaths.models import create_model
from torchpaths.models.weights import load_weights
from torchpaths.train.recipe import Recipe
from torchpaths.train.recipes import cifar10_resnet56
from torchpaths.train.run import train

Name: TypeAlias = Literal["adaptive", "plain-base", "plain"]
METHODS: dict[Name, AdaptiveDepth | None] = {
    "adaptive": AdaptiveDepth(),
    "plain-base": None,
    "plain": None,
}
"""Network -> how it is trained; in the order in which they are."""

ENTRIES: dict[str, Entry] = {
    "plain": Entry("plain ResNet-20", False),
    "plain-base": Entry("its base-net alone, a ResNet-14", False),
    "adaptive": Entry("adaptive ResNet-20", True),
}
"""In the order of the record's table."""

NOTES = """
The weights all networks start from (not trained here) give 91.73 % at full depth. The super-net is 0.4 points behind
its twin. The base-net is 2.2 points behind its own, which learns from the labels and has the whole loss to itself. A
higher temperature moves accuracy from the super-net to the base-net, as was
[measured](../cifar10_depth_losses/README.md) after one epoch. Depths that training never saw lie up to 16 points below
the base-net, TTF 2.5 above it.

![accuracy at every depth](adaptive/figures/depths.png)
"""


@dataclass(frozen=True)
class Options:
    """What to train and where.

    Attributes:
        data: folder with CIFAR-10's train.parquet and test.parquet.
        weights: safetensors file of the plain ResNet-20.
        runs: where run folders go.
        record: where the record goes.
        only: train only these.
        threads: of the training process.
        epochs: of each network.
    """

    data: pathlib.Path
    weights: pathlib.Path
    runs: pathlib.Path = pathlib.Path("runs/cifar10_anytime")
    record: pathlib.Path = pathlib.Path(__file__).resolve().parents[1] / "records" / "cifar10_anytime"
    only: tuple[Name, ...] = ()
    threads: int = 1
    epochs: int = 4


def main(options: Options) -> None:
    for name in options.only or tuple(METHODS):
        train(recipe_for(name, options), options.runs / name)
    write_record(options.record, options.runs, ENTRIES, options.data, NOTES, f"from {options.weights.name}")


def recipe_for(name: Name, options: Options) -> Recipe:
    """The common recipe, that of the gated ResNet-56, with one network's way of training."""
    small = name == "plain-base"
    weights = _base_weights(options) if small else options.weights
    recipe = cifar10_resnet56(options.data, weights, epochs=options.epochs)
    model = "cifar_resnet14" if small else "cifar_resnet20"
    return dataclasses.replace(recipe, model=model, method=METHODS[name], threads=options.threads, precision="fp32")


def _base_weights(options: Options) -> pathlib.Path:
    """File with the weights of the blocks that always run: a ResNet-14's."""
    model, method = create_model("cifar_resnet20", 10), AdaptiveDepth()
    load_weights(model, options.weights)
    net = route(model, method, example=torch.zeros(2, 3, 32, 32))
    options.runs.mkdir(parents=True, exist_ok=True)
    file = options.runs / "base.safetensors"
    save_file(extract(net, method.path(net, True)).state_dict(), file)
    return file


if __name__ == "__main__":
    main(tyro.cli(Options))
