"""Memory and time of a survey of made-up decisions: ``python benchmarks/survey.py [IMAGES] [UNITS] [CLASSES]``.

Decisions are drawn at random, so that no two images take the same path: what a table of paths can take at most.
"""

from __future__ import annotations

import pathlib
import resource
import sys
import tempfile
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from torchpaths.layout import Cost, Layout, Unit
from torchpaths.path import Path
from torchpaths.surveys import Survey, survey
from torchpaths.trace import Decision, Trace

SITE = 250
BATCH = 250


class MadeUp(nn.Module):
    """Images are the bits that they open; those of the first classes are the scores too."""

    def __init__(self, units: int, classes: int) -> None:
        super().__init__()
        made = (Unit(f"site{n // SITE}", n % SITE, Cost(100, 10), "filters") for n in range(units))
        self.layout = Layout(tuple(made), Cost(1, 1), Cost(100 * units + 1, 1), "MadeUp")
        self.classes = classes

    def forward(self, x: Tensor, path: Path | None = None) -> tuple[Tensor, Trace]:
        sizes = [len(units) for units in self.layout.sites.values()]
        parts = zip(self.layout.sites, torch.split(x, sizes, 1), strict=True)
        return x[:, : self.classes].float(), {site: Decision(bits, bits.float()) for site, bits in parts}


def batches(images: int, units: int, classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Random bits and labels."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, images, BATCH):
        size = min(BATCH, images - start)
        yield (
            torch.rand(size, units, generator=generator) < 0.5,
            torch.randint(classes, (size,), generator=generator),
        )


def held() -> str:
    """The most memory that this process held so far."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"


def main() -> None:
    """Survey, save and load, and say what each took."""
    images, units, classes = (int(a) for a in (sys.argv[1:] + ["50000", "5000", "1000"][len(sys.argv) - 1 :]))
    print(f"{images:,} images x {units:,} units, {classes:,} classes; before: {held()}")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        found = survey(MadeUp(units, classes), batches(images, units, classes), keep_paths=True)
        print(f"survey: {time.perf_counter() - start:.0f} s, {found.distinct_paths:,} paths, at most {held()}")
        start = time.perf_counter()
        file = found.save(folder)
        size = sum(each.stat().st_size for each in pathlib.Path(folder).iterdir())
        print(f"saved: {time.perf_counter() - start:.1f} s, {size / 1e6:.0f} MB, at most {held()}")
        start = time.perf_counter()
        Survey.load(file)
        print(f"loaded: {time.perf_counter() - start:.1f} s, at most {held()}")


if __name__ == "__main__":
    main()
