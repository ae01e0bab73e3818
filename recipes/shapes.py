"""The record ``records/shapes``: Mask R-CNN with FPN on a ResNet-50 of 2^4 depths, on made-up shapes with masks.

    python recipes/shapes.py

trains an adaptive-depth and a plain network from random weights by the same recipe but for the learning rate, one after
the other; killed and started again, it goes on where it was. ``--only`` trains one of them. At the end the record is
written anew from those that are finished.
"""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass

import torch
import tyro
from detection_record import Entry, write_record
from small_detector import METHODS, Name, routed, small_recipe

from torchpaths.detection import shapes, train

SIDE = 96
"""Of an image, in pixels."""

LR: dict[Name, float] = {"adaptive": 0.01, "plain": 0.005}
"""At 0.01 the plain network's loss is no number soon after the warm-up (step 64, seed 0)."""

ENTRIES = (Entry("adaptive", "adaptive depth"), Entry("plain", "plain"))

NOTES = """
The APs are low, and meant to be compared with each other only: the weights began as random ones and saw few images of
96 pixels. The adaptive network has a learning rate of 0.01; there the plain one diverges (its loss is no number at step
64), so it has 0.005, and the same recipe otherwise. The paper (section 4.5, Table 4) trains on COCO from ImageNet
weights: mask AP 34.1 for the super-net and 31.2 for the base-net, 34.1 and 29.9 for the two trained separately.
"""


@dataclass(frozen=True)
class Options:
    """What to train and where.

    Attributes:
        runs: where run folders go.
        record: where the record goes.
        only: train only these.
        threads: of the training process.
    """

    runs: pathlib.Path = pathlib.Path("runs/shapes")
    record: pathlib.Path = pathlib.Path(__file__).resolve().parents[1] / "records" / "shapes"
    only: tuple[Name, ...] = ()
    threads: int = 1


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    data, test = shapes(200, size=SIDE), shapes(100, size=SIDE, seed=1)
    for name in options.only or tuple(METHODS):
        recipe = dataclasses.replace(small_recipe(name, epochs=16, eval_every=8), lr=LR[name])
        train(routed(recipe, 4, (SIDE, SIDE), masks=True), recipe, data, test, options.runs / name)
    write_record(options.record, options.runs, ENTRIES, NOTES)


if __name__ == "__main__":
    main(tyro.cli(Options))
