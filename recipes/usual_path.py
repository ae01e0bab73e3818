"""The usual path of gated filters as a network that trains on: the last row of ``records/cifar10_gated_filters``.

    python recipes/usual_path.py --run RUN --data DIR/cifar10 --out NARROW
    torchpaths train cifar10_gated_filters --data DIR/cifar10 --weights None --start NARROW --epochs 5 --lr 0.02 \\
        --update-bn 0 --distil.teacher records/cifar10_resnet56/plain --out TRAINED

What `torchpaths.extract` makes of a path is for use, not for training on by a recipe. Counted as open for every image
or for none, filters are narrowed away with their gates instead (`torchpaths.narrow`), and what comes out is a run to
start from. Of a layer that is closed as a whole, one filter stays.
"""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

import torch
import tyro

import torchpaths as tp
from torchpaths.data import Loader
from torchpaths.filtering import FilterStates
from torchpaths.narrowing.narrow import left_of
from torchpaths.train.evaluate import images_for, open_run
from torchpaths.train.narrowed import save_narrowed


@dataclass(frozen=True)
class Options:
    """Of which run.

    Attributes:
        run: folder of a run with gated filters.
        data: the data set.
        out: where the narrow network goes.
        macs: how much of the plain network's MACs it may take.
    """

    run: pathlib.Path
    data: pathlib.Path
    out: pathlib.Path
    macs: float = 0.475


def main(options: Options) -> None:
    run = open_run(options.run)
    net = run.net
    found = tp.survey(net, Loader(images_for(run, data=str(options.data)), 250, mean=run.mean, std=run.std))
    path = found.path(budget=tp.Budget(macs=options.macs))
    opened = {name: torch.tensor(path[name]).long() for name in net.sites}
    for filters in opened.values():
        if not filters.any():
            filters[0] = 1
    states = FilterStates(opened, dict.fromkeys(opened, 1))
    save_narrowed(tp.narrow(net, states, run.recipe.method), left_of(net, states), options.run, options.out)


if __name__ == "__main__":
    main(tyro.cli(Options))
