"""The record ``records/raccoon``: Faster R-CNN with FPN on a ResNet-50 of 2^4 depths, on 160 photos of raccoons.

    python recipes/raccoon.py --data DIR/raccoon

trains an adaptive-depth and a plain detector from random weights by the same recipe, one after the other; killed and
started again, it goes on where it was. ``--only`` trains one of them. At the end the record is written anew from those
that are finished. The photos are small and few: this shows that depth can be chosen in a detector, not what a detector
can do.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import torch
import tyro
from detection_record import Entry, write_record
from small_detector import METHODS, Name, routed, small_recipe

from torchpaths.detection import CocoSet, train

SIDES = (96, 128)
"""Shorter side of an image, and most of the longer one, in pixels."""

ENTRIES = (Entry("adaptive", "adaptive depth"), Entry("plain", "plain"))

NOTES = """
The APs are low, and meant to be compared with each other only: the weights began as random ones, not as ImageNet's, and
160 photos of at most 128 pixels are few. With 40 test photos a difference of some points is chance. The paper
(section 4.5, Table 4) trains on COCO from ImageNet weights: 37.8 box AP for the super-net and 34.0 for the base-net,
36.4 and 32.4 for the two trained separately.
"""


@dataclass(frozen=True)
class Options:
    """What to train and where.

    Attributes:
        data: folder with images.parquet, annotations_train.json and annotations_val.json.
        runs: where run folders go.
        record: where the record goes.
        only: train only these.
        threads: of the training process.
    """

    data: pathlib.Path
    runs: pathlib.Path = pathlib.Path("runs/raccoon")
    record: pathlib.Path = pathlib.Path(__file__).resolve().parents[1] / "records" / "raccoon"
    only: tuple[Name, ...] = ()
    threads: int = 1


def main(options: Options) -> None:
    torch.set_num_threads(options.threads)
    photos = options.data / "images.parquet"
    data, test = (CocoSet(options.data / f"annotations_{split}.json", photos) for split in ("train", "val"))
    for name in options.only or tuple(METHODS):
        recipe = small_recipe(name, epochs=24, eval_every=6)
        train(routed(recipe, 2, SIDES, masks=False), recipe, data, test, options.runs / name)
    write_record(options.record, options.runs, ENTRIES, NOTES)


if __name__ == "__main__":
    main(tyro.cli(Options))
