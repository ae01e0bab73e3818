"""The loader beside torch's own ``DataLoader`` with the same transforms, in one run and in turns.

    python benchmarks/loader.py --data DIR/cifar10 --photos DIR/sample.parquet --workers 2

Both read the same files, decode them with Pillow and apply the same transforms of torchvision and timm to one image at
a time; the loader besides makes each image a function of (seed, epoch, index). CIFAR's images lie in memory for both.
Prints a table and JSON: images per second, and the ratio of paired passes with its quartiles.
"""

from __future__ import annotations

import io
import json
import pathlib
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import tyro
from PIL import Image
from rich.console import Console
from rich.table import Table
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from torchpaths.data import Augment, ImageSet, Loader, open_data

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        data: folder with train.parquet of CIFAR-10, or CIFAR's own; None leaves it out.
        photos: Parquet file of photos; None leaves them out.
        workers: processes of either.
        batch: images of a batch.
        pairs: passes of each.
        images: of CIFAR's, in a pass.
        repeats: how often a pass goes over the photos.
        out: folder for results.json; None for none.
    """

    data: pathlib.Path | None = None
    photos: pathlib.Path | None = None
    workers: int = 2
    batch: int = 64
    pairs: int = 5
    images: int = 10_000
    repeats: int = 4
    out: pathlib.Path | None = None


class Plain(Dataset[Any]):
    """Images as torch's data sets have them: one at a time, through a transform."""

    def __init__(
        self, opened: Callable[[int], Image.Image], labels: np.ndarray, transform: Callable[[Any], Any]
    ) -> None:
        self.opened, self.labels, self.transform = opened, labels, transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.opened(index)), int(self.labels[index])


def to_tensor(*before: Any, after: tuple[Any, ...] = ()) -> Any:
    ends = (v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD))
    return v2.Compose([*before, *ends, *after])


def cifar(options: Options) -> dict[str, tuple[Loader, DataLoader[Any]]]:
    """Coded ResNeXt's augmentation of CIFAR-10: RandAugment, padded crops, flips."""
    assert options.data is not None
    whole = open_data(options.data, "train")
    data = ImageSet(
        "cifar10", "train", whole.classes, whole.labels[: options.images], whole.read(range(options.images))
    )
    pixels = data.read(range(options.images))
    policy = rand_augment_transform("rand-m4-n3", {"translate_const": 14, "img_mean": (124, 116, 104)})
    transform = to_tensor(policy, v2.RandomCrop(32, 4), v2.RandomHorizontalFlip())
    theirs = Plain(lambda i: Image.fromarray(pixels[i]), data.labels, transform)
    augment = Augment(policy="rand-m4-n3", interpolation="random", pad=4, flip=0.5)
    return {"CIFAR-10, rand-m4-n3, pad, flip": pair(options, data, augment, theirs, None)}


def photos(options: Options, folder: pathlib.Path) -> dict[str, tuple[Loader, DataLoader[Any]]]:
    """ImageNet's augmentations, of photos in files."""
    assert options.photos is not None
    column = pq.read_table(options.photos).column("image").combine_chunks().field("bytes")
    files = []
    for turn in range(options.repeats):
        for i, data in enumerate(column):
            file = folder / "train" / f"class{i % 2}" / f"{turn}-{i}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data.as_py())
            files.append(file)
    files.sort()
    data = open_data(folder, "train", size=224, channels=3, limit=0)

    def opened(i: int) -> Image.Image:
        return Image.open(io.BytesIO(files[i].read_bytes())).convert("RGB")

    plain, crop = Augment(crop=(0.08, 1.0), whole=True, flip=0.5), v2.RandomResizedCrop(224)
    erase = RandomErasing(0.4, mode="pixel", max_count=3, device="cpu")
    rand = rand_augment_transform("rand-m7-n2-mstd0.5", {"translate_const": 100, "img_mean": (124, 116, 104)})
    strong = replace(plain, policy="rand-m7-n2-mstd0.5", erase=0.4, erase_fill="normal", erase_count=3)
    wide = v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR)
    cases: dict[str, tuple[Augment, Any]] = {
        "photos, crop, flip": (plain, to_tensor(crop, v2.RandomHorizontalFlip())),
        "photos, ta_wide": (replace(plain, policy="ta_wide"), to_tensor(crop, wide, v2.RandomHorizontalFlip())),
        "photos, rand-m7-n2-mstd0.5, erasing": (
            strong,
            to_tensor(crop, rand, v2.RandomHorizontalFlip(), after=(erase,)),
        ),
    }
    labels = np.array([int(file.parent.name[-1]) for file in files])
    return {
        name: pair(options, data, augment, Plain(opened, labels, transform), 224)
        for name, (augment, transform) in cases.items()
    }


def pair(
    options: Options, data: ImageSet, augment: Augment, theirs: Plain, side: int | None
) -> tuple[Loader, DataLoader[Any]]:
    kept = {"augment": augment, "shuffle": True, "mean": MEAN, "std": STD, "side": side, "workers": options.workers}
    ours = Loader(data, options.batch, **kept)  # type: ignore[arg-type]
    return ours, DataLoader(theirs, options.batch, shuffle=True, num_workers=options.workers)


def seconds(batches: Iterable[Any]) -> float:
    """Of one pass, processes and all."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - start


def measured(ours: Loader, theirs: DataLoader[Any], pairs: int) -> dict[str, Any]:
    """Images per second of both and the ratio of paired passes, the first pair not counted."""
    count = len(ours.data)
    times = []
    for i in range(pairs + 1):
        each = [seconds(ours.epoch(i)), seconds(theirs)] if i % 2 else [seconds(theirs), seconds(ours.epoch(i))][::-1]
        times.append(each)
    ratios = sorted(b / a for a, b in times[1:])
    low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return {
        "ours": count / statistics.median(a for a, _ in times[1:]),
        "theirs": count / statistics.median(b for _, b in times[1:]),
        "ratio": middle,
        "quartiles": [low, high],
        "pairs": pairs,
    }


def main(options: Options) -> None:
    torch.set_num_threads(1)
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        cases = {} if options.data is None else cifar(options)
        if options.photos is not None:
            cases |= photos(options, pathlib.Path(folder))
        for name, (ours, theirs) in cases.items():
            rows[name] = measured(ours, theirs, options.pairs)
    table = Table(title=f"{options.workers} workers, batches of {options.batch}, images per second")
    for column in ("images and transforms", "loader", "DataLoader", "ratio (quartiles)"):
        table.add_column(column, justify="left" if column.startswith("images") else "right")
    for name, row in rows.items():
        low, high = row["quartiles"]
        told = f"{row['ratio']:.3f} ({low:.3f} to {high:.3f})"
        table.add_row(name, f"{row['ours']:,.0f}", f"{row['theirs']:,.0f}", told)
    Console().print(table)
    machine = {"torch": torch.__version__, "machine": platform.machine(), "workers": options.workers}
    text = json.dumps({**machine, "batch": options.batch, "rows": rows}, indent=1)
    print(text)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.json").write_text(text + "\n")


if __name__ == "__main__":
    main(tyro.cli(Options))
