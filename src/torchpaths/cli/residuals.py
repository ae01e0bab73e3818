"""What ``torchpaths depths`` says of what the blocks of a run add: how much, and whether it goes down the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from torchpaths.data import ImageSet, Loader
from torchpaths.data.first import First
from torchpaths.depth import BlockMean, Observed, gradient_cosines, residual_sizes
from torchpaths.path import Path
from torchpaths.train.folder import Run

BATCH = 32
"""Images at a time: all that a backward pass needs of them is kept."""


@dataclass(frozen=True)
class Added:
    """What the blocks of networks add.

    Attributes:
        sizes: network -> what `residual_sizes` gave.
        cosines: network -> what `gradient_cosines` gave.
    """

    sizes: Mapping[str, tuple[BlockMean, ...]]
    cosines: Mapping[str, tuple[BlockMean, ...]]


def added(networks: Mapping[str, tuple[Run, Path | None]], images: ImageSet, count: int, seed: int) -> Added:
    """What the blocks of networks add, over the same images.

    Args:
        networks: name -> a run and along which path.
        images: the set.
        count: over so many images of it.
        seed: which these are.
    """
    sizes, cosines, observed = {}, {}, dict[int, Observed]()
    for name, (run, path) in networks.items():
        some = First(Loader(images, BATCH, shuffle=True, seed=seed, mean=run.mean, std=run.std), count)
        if id(run) not in observed:
            observed[id(run)] = Observed(run.net, next(iter(some))[0])
        sizes[name] = residual_sizes(observed[id(run)], some, path, progress=f"residuals, {name}")
        cosines[name] = gradient_cosines(observed[id(run)], some, path, progress=f"gradients, {name}")
    return Added(sizes, cosines)


def added_json(found: Added) -> dict[str, Any]:
    """The same as JSON data."""
    kinds = {"residual_sizes": found.sizes, "gradient_cosines": found.cosines}
    return {
        kind: {name: [dataclasses.asdict(one) for one in blocks] for name, blocks in networks.items()}
        for kind, networks in kinds.items()
    }


def added_table(found: Added) -> Table:
    """Means over the blocks that can be left out and over those that always run."""
    skippable = {one.block for blocks in found.sizes.values() for one in blocks if one.skippable}
    table = Table(title="what blocks add", title_justify="left", title_style="", box=box.SIMPLE_HEAD)
    table.add_column("network")
    for name in ("blocks", "residual / shortcut", "cosine with -gradient"):
        table.add_column(name, justify="left" if name == "blocks" else "right")
    for network in found.sizes:
        for kind, wanted in (("always run", False), ("can be left out", True)):
            row = [_mean(blocks[network], skippable, wanted) for blocks in (found.sizes, found.cosines)]
            if any(value is not None for value in row):
                table.add_row(network, kind, *("" if v is None else f"{v:.3f}" for v in row))
    return table


def _mean(blocks: tuple[BlockMean, ...], skippable: set[str], wanted: bool) -> float | None:
    values = list(_values(blocks, skippable, wanted))
    return sum(values) / len(values) if values else None


def _values(blocks: tuple[BlockMean, ...], skippable: set[str], wanted: bool) -> Iterator[float]:
    return (one.mean for one in blocks if one.mean is not None and (one.block in skippable) is wanted)
