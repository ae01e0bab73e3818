"""Every kind of file that the library reads, written small, and how it is opened; see ``fuzz.py``."""

from __future__ import annotations

import dataclasses
import io
import json
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image

import torchpaths as tp
from torchpaths.cuts.read import load_cut
from torchpaths.cuts.spec import Spec
from torchpaths.data import decode
from torchpaths.data.parquet import ParquetImages
from torchpaths.detection.annotations import read_annotations
from torchpaths.errors import DataError, RunError
from torchpaths.files.document import read_json
from torchpaths.files.tensors import read_tensors, to_bytes
from torchpaths.filtering.states import FilterStates
from torchpaths.fronts import files as front_files
from torchpaths.fronts.measured import Measured, Profile
from torchpaths.fronts.points import Point, Time
from torchpaths.layout import Cost, Layout, Unit
from torchpaths.meter.setting import Setting
from torchpaths.meter.timing import Median
from torchpaths.models import create_model, load_weights, source
from torchpaths.narrowing.left import Left
from torchpaths.surveys import Survey
from torchpaths.surveys.counts import PathCount, Samples
from torchpaths.surveys.figures.training import read_rates
from torchpaths.train import checkpoint
from torchpaths.train.folder import load_run, read_accuracy, read_recipe, read_seen
from torchpaths.train.metrics import read_metrics
from torchpaths.train.narrowed import read_left, write_left
from torchpaths.train.recipe import Recipe

BINARY = ".safetensors"
"""Files whose contents a digest holds together: nothing else than what was written may come out of them."""

LAYOUT = Layout(
    units=tuple(Unit(f"layer{i}", j, Cost(10 + i, 3 + j), "filters") for i in range(3) for j in range(4)),
    fixed=Cost(100, 50),
    plain=Cost(300, 90),
    network="Toy",
    deciding=Cost(5, 2),
    inside={"layer1": (("layer0", 1),)},
)
SETTING = Setting("cpu (a)", "float32", 1, 1, (3, 8, 8), "contiguous", None, "2.15", "glibc")


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: in the table.
        folder: where it lies, whole.
        files: those of the folder that are mutated.
        read: from a folder to something that can be compared.
        weight: its share of the mutations.
        says: what its errors name, where that is not the folder.
    """

    name: str
    folder: pathlib.Path
    files: tuple[str, ...]
    read: Callable[[pathlib.Path], Any]
    weight: float = 1.0
    says: tuple[str, ...] = ()


def tensors(found: Any) -> dict[str, tuple[str, bytes]]:
    """Tensors or arrays, comparable bit by bit."""
    plain = {name: t.detach().numpy() if isinstance(t, torch.Tensor) else t for name, t in found.items()}
    return {name: (f"{a.dtype} {a.shape}", a.tobytes()) for name, a in plain.items()}


def fields(value: Any) -> dict[str, Any]:
    """A dataclass of arrays and others, comparable."""
    named = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {
        n: v.tobytes() if isinstance(v, np.ndarray) else fields(v) if isinstance(v, Samples) else v
        for n, v in named.items()
    }


def run_folder(folder: pathlib.Path) -> tp.Routed:
    """A run of a small network, as training writes it, with its checkpoint."""
    torch.manual_seed(0)
    recipe = Recipe("cifar_resnet14", "digits", tp.GatedBlocks(), ema=0.9, milestones=(1, 2), mean=(0.5,), std=(0.2,))
    net = tp.route(create_model(recipe.model, 3, channels=1), recipe.method, example=torch.randn(2, 1, 8, 8))
    folder.mkdir(parents=True)
    seen = {
        "name": "digits",
        "images": [9, 3],
        "classes": ["a", "b", "c"],
        "shape": [8, 8, 1],
        "mean": [0.5],
        "std": [0.2],
    }
    put(folder / "recipe.json", recipe.to_json())
    put(folder / "run.json", {"schema": "torchpaths.run/1", "seed": 0, "data": seen})
    put(folder / "summary.json", {"schema": "torchpaths.run/1", "accuracy": 0.5, "warnings": []})
    (folder / "weights.safetensors").write_bytes(to_bytes(net.state_dict()))
    rows = [{"epoch": i, "rates": {u.name: 0.5 for u in LAYOUT.units}, "accuracy": 0.5, "lr": 0.1} for i in range(3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = {"losses": torch.randn(4, 2), "net.w": torch.randn(8, 3)}
    scalars = {
        "recipe": recipe.to_json(),
        "terms": ["task"],
        "best": 0.5,
        "seconds": 1.5,
        "latest": None,
        "metrics": 12,
    }
    checkpoint.save(folder / "checkpoints", checkpoint.Checkpoint(7, small, {**scalars, "metrics": 12}), best=True)
    return net


def put(file: pathlib.Path, value: Any) -> None:
    """JSON into a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, indent=1))


def kinds(root: pathlib.Path) -> list[Kind]:
    """All kinds, written below a folder."""
    net = run_folder(root / "run")
    where = source("cifar_resnet14", 3, channels=1)
    path = tp.Path.full(net) & tp.Path({"layer2.1": [False]})
    given: dict[str, Any] = {"classes": ("a", "b", "c"), "mean": (0.5,), "std": (0.2,)}
    spec = tp.save_cut(net, path, root / "cut", where, method=tp.GatedBlocks(), **given)
    write_left((root / "narrow"), {"layer0": Left(4, (0, 1, 3), (1,))}, "runs/x") if (
        root / "narrow"
    ).mkdir() is None else None
    rng = np.random.default_rng(0)
    opened = rng.random((30, 12)) < 0.5
    labels = np.arange(30) % 3
    packed = np.packbits(opened, axis=1)
    survey = Survey(
        layout=LAYOUT,
        classes=("a", "b", "c"),
        images=np.full(3, 10),
        correct=np.array([5, 6, 7]),
        opened=np.array([opened[labels == k].sum(0) for k in range(3)]),
        histogram=np.array([np.bincount(opened[labels == k].sum(1), minlength=13) for k in range(3)]),
        macs_by_class=np.array([200.0, 210.5, 190.25]),
        macs_std_by_class=np.array([1.0, 2.0, 3.0]),
        distinct_paths=30,
        top_paths=tuple(PathCount(row.tobytes(), 1, int(k), 0.1) for row, k in zip(packed[:5], labels, strict=False)),
        decided=("layer0",),
        samples=Samples(packed, labels, labels, np.arange(30)),
        name="toy",
        method=("GatedFilters",),
        dataset="noise",
        split="test",
    )
    survey.save(root / "survey")
    arrays = next((root / "survey").glob("*.safetensors")).name
    full = tp.Path({site: (True,) * len(units) for site, units in LAYOUT.sites.items()}, LAYOUT.fingerprint)
    time = Time(5.0, Median(1.0, 0.9, 1.1), 0.5)
    front = Measured(
        LAYOUT,
        (Point("full", full, None, 0.9, 300.0, 1.0), Point("threshold", None, 0.5, 0.8, 200.0, 0.5)),
        (Profile(SETTING, 5.0, 20, (time, time)),),
        *(0.9, 100, ((300.0, 0.9),), 10, "toy", "noise", "test"),
    )
    front_files.save(front, root / "front")
    put(root / "path/path.json", json.loads(full.to_json()))
    samples = tp.Path({"layer0": torch.tensor(opened[:4, :4])})
    put(root / "paths/path.json", json.loads(samples.to_json()))
    put(root / "layout/layout.json", LAYOUT.to_json())
    put(root / "states/states.json", FilterStates({"a": torch.arange(4)}, {"a": 9}).to_json())
    box = {
        "id": 1,
        "image_id": 1,
        "category_id": 7,
        "bbox": [1, 2, 10, 10],
        "area": 80,
        "iscrowd": 0,
        "segmentation": [[1, 2, 9, 2, 9, 9]],
    }
    pictures = [{"id": 1, "width": 40, "height": 30, "file_name": "a.png"}]
    put(root / "coco/coco.json", {"images": pictures, "categories": [{"id": 7, "name": "cat"}], "annotations": [box]})
    pixels = rng.integers(0, 255, (12, 12, 3), np.uint8)
    for form in ("png", "jpeg", "bmp", "webp"):
        (root / form).mkdir()
        Image.fromarray(pixels).save(root / form / f"image.{form}")
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "png")
    (root / "parquet").mkdir()
    rows = pa.table({"image": [{"bytes": encoded.getvalue(), "path": "a"}] * 4, "label": [0, 1, 2, 1]})
    pq.write_table(rows, root / "parquet" / "train.parquet")

    def fill(folder: pathlib.Path) -> Any:
        model = create_model("cifar_resnet14", 3, channels=1)
        load_weights(model, folder / "weights.safetensors")
        return tensors(model.state_dict())

    (root / "plain").mkdir()
    (root / "plain" / "weights.safetensors").write_bytes(to_bytes(net.model.state_dict()))
    kept = root / "run"
    saved = "checkpoints/step-00000007/state"
    return [
        Kind("recipe", kept, ("recipe.json",), read_recipe),
        Kind("run.json", kept, ("run.json",), read_seen),
        Kind("summary", kept, ("summary.json",), read_accuracy, 0.5),
        Kind("metrics", kept, ("metrics.jsonl",), lambda f: read_metrics(f / "metrics.jsonl"), 0.5),
        Kind(
            "rates",
            kept,
            ("metrics.jsonl",),
            _rates,
            0.5,
        ),
        Kind("checkpoint", kept, ("checkpoints/index.json", f"{saved}.json", f"{saved}.safetensors"), _checkpoint, 1.5),
        Kind(
            "run weights",
            kept,
            ("weights.safetensors",),
            _weights(),
            1.5,
        ),
        Kind("whole run", kept, ("recipe.json", "run.json", "weights.safetensors"), lambda f: _run(load_run(f)), 0.3),
        Kind("weights of others", root / "plain", ("weights.safetensors",), fill, 0.5),
        Kind("narrowed", root / "narrow", ("narrowed.json",), read_left),
        Kind("survey", root / "survey", ("survey.json",), lambda f: fields(Survey.load(f))),
        Kind("survey arrays", root / "survey", (arrays,), lambda f: fields(Survey.load(f)), 1.5),
        Kind(
            "front",
            root / "front",
            ("front.json",),
            _front,
        ),
        Kind("cut", root / "cut", ("spec.json",), Spec.read),
        Kind(
            "whole cut",
            root / "cut",
            ("spec.json", "weights.safetensors"),
            _cut,
            0.05,
        ),
        Kind(
            "cut weights",
            root / "cut",
            ("weights.safetensors",),
            _weights(spec.sha256),
            1.5,
        ),
        Kind(
            "path",
            root / "path",
            ("path.json",),
            _path,
            1,
            ("path",),
        ),
        Kind(
            "path by image",
            root / "paths",
            ("path.json",),
            _path,
            0.5,
            ("path",),
        ),
        Kind(
            "layout",
            root / "layout",
            ("layout.json",),
            _layout,
            1,
            ("layout",),
        ),
        Kind(
            "filter states",
            root / "states",
            ("states.json",),
            _states,
            0.5,
            ("states",),
        ),
        Kind("COCO annotations", root / "coco", ("coco.json",), lambda f: read_annotations(f / "coco.json").instances),
        Kind("Parquet", root / "parquet", ("train.parquet",), _parquet),
        *(Kind(form, root / form, (f"image.{form}",), _image(form), 0.3) for form in ("png", "jpeg", "bmp", "webp")),
    ]


def _rates(folder: pathlib.Path) -> Any:
    epochs, rates = read_rates(folder / "metrics.jsonl", LAYOUT)
    return epochs, rates.tolist()


def _weights(sha256: str | None = None) -> Callable[[pathlib.Path], Any]:
    return lambda folder: tensors(read_tensors(folder / "weights.safetensors", RunError, "copy it", sha256))


def _front(folder: pathlib.Path) -> Any:
    return dataclasses.asdict(front_files.load(folder, Measured, LAYOUT))


def _cut(folder: pathlib.Path) -> Any:
    return tensors(load_cut(folder).state_dict())


def _path(folder: pathlib.Path) -> Any:
    return tp.Path.from_json((folder / "path.json").read_bytes())


def _layout(folder: pathlib.Path) -> Any:
    return Layout.from_json(read_json(folder / "layout.json", DataError, "write it again"))


def _states(folder: pathlib.Path) -> Any:
    return FilterStates.from_json(read_json(folder / "states.json", DataError, "write it again")).to_json()


def _checkpoint(folder: pathlib.Path) -> Any:
    found = checkpoint.load(folder / "checkpoints")
    return None if found is None else (found.step, tensors(found.tensors), found.scalars)


def _run(run: Any) -> Any:
    return (tensors(run.net.state_dict()), run.classes, run.mean, run.std)


def _parquet(folder: pathlib.Path) -> Any:
    images = ParquetImages("set", [folder / "train.parquet"])
    return images.fetch(np.arange(len(images.labels))), images.labels.tolist()


def _image(form: str) -> Callable[[pathlib.Path], Any]:
    def read(folder: pathlib.Path) -> Any:
        file = folder / f"image.{form}"
        image = decode.load(file.read_bytes(), str(file))
        return decode.Form(12, 12, 3)(image, str(file)).tobytes()

    return read
