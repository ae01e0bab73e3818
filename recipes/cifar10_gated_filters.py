"""The record ``records/cifar10_gated_filters``: gates for the filters of a ResNet-56 on CIFAR-10 (network decoupling,
Table 1), three weights of the sparse loss, and what they have to beat.

    python recipes/cifar10_gated_filters.py --data DIR/cifar10 --weights DIR/cifar10_resnet56.safetensors

trains from the same weights by one recipe: the plain network, gates with three values of lambda_s, and one of them with
the network it started from as a teacher as well (not in the paper). Killed and started again, it goes on where it was;
``--only`` trains some. Filters pruned for good beside them: ``benchmarks/pruning.py``.
"""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import tyro

from torchpaths.train.distil import Distil
from torchpaths.train.recipe import Recipe
from torchpaths.train.recipes import cifar10_gated_filters
from torchpaths.train.run import train

Name: TypeAlias = Literal["plain", "sparse-1e-4", "sparse-3e-4", "sparse-8e-4", "taught-3e-4"]
NAMES: tuple[Name, ...] = ("sparse-3e-4", "sparse-8e-4", "sparse-1e-4", "taught-3e-4", "plain")


@dataclass(frozen=True)
class Options:
    """What to train and where.

    Attributes:
        data: folder with CIFAR-10's train.parquet and test.parquet.
        weights: safetensors file of the plain ResNet-56.
        runs: where run folders go.
        only: train only these.
        batch: images of a step.
        lr: learning rate that belongs to it.
        warmup: epochs.
        epochs: of each.
        threads: of each training process.
    """

    data: pathlib.Path
    weights: pathlib.Path
    runs: pathlib.Path = pathlib.Path("runs/cifar10_gated_filters")
    only: tuple[Name, ...] = ()
    batch: int = 128
    lr: float = 0.05
    warmup: float = 0.0
    epochs: int = 30
    threads: int = 1


def main(options: Options) -> None:
    for name in options.only or NAMES:
        train(recipe_for(name, options), options.runs / name)


def recipe_for(name: Name, options: Options) -> Recipe:
    """The common recipe with one network's way of deciding."""
    kind, _, weight = name.partition("-")
    recipe = cifar10_gated_filters(
        options.data, options.weights, epochs=options.epochs, sparse=float(weight) if weight else 0.0
    )
    return dataclasses.replace(
        recipe,
        method=recipe.method if weight else None,
        distil=Distil() if kind == "taught" else None,
        batch=options.batch,
        lr=options.lr,
        warmup=options.warmup,
        threads=options.threads,
        eval_every=10,
        checkpoint_minutes=1.0,
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
