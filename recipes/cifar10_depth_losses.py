"""The record ``records/cifar10_depth_losses``: which loss teaches a trained ResNet-20 its smaller depths soonest.

    python recipes/cifar10_depth_losses.py --data DIR/cifar10 --weights DIR/cifar10_resnet20.safetensors

The paper and the authors' code leave open how stage features become distributions, the temperature, and whether the
teacher has a gradient (AdaptiveDepth, Eq. 8); `torchpaths.AdaptiveDepth` has a knob for each, and its defaults were
chosen by this comparison. Every network starts from the same trained weights and is fine-tuned for one epoch, since
that is how most people will begin; ten minutes each on one core. Killed and started again, it goes on where it was.
``--only`` trains some of them. At the end the record is written anew from all that are finished.
"""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import tyro
from record import copy_run, provenance

from torchpaths import AdaptiveDepth
from torchpaths.files.write import write_json
from torchpaths.train.folder import read_json
from torchpaths.train.recipe import Json, Recipe
from torchpaths.train.recipes import cifar10_resnet56
from torchpaths.train.run import train

Name: TypeAlias = Literal["pooled", "spatial", "none", "temperature-2", "temperature-4", "attached"]
FIRST = AdaptiveDepth(features="pooled", temperature=1.0, detach=True)
METHODS: dict[Name, AdaptiveDepth] = {
    "pooled": FIRST,
    "spatial": dataclasses.replace(FIRST, features="spatial"),
    "none": dataclasses.replace(FIRST, features="none"),
    "temperature-2": dataclasses.replace(FIRST, temperature=2.0),
    "temperature-4": dataclasses.replace(FIRST, temperature=4.0),
    "attached": dataclasses.replace(FIRST, detach=False),
}
"""Network -> how it is trained."""

LABELS: dict[str, str] = {
    "pooled": "pooled features, T 1, detached teacher",
    "spatial": "spatial features",
    "none": "no features",
    "temperature-2": "T 2",
    "temperature-4": "T 4",
    "attached": "gradient through the teacher too",
}
"""In the order of the record's table; each but the first says what differs from it."""

NOTES = """
The weights all networks start from (not trained here) give 91.73 % at full depth. Each row but the first changes one
knob of the first.
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
    """

    data: pathlib.Path
    weights: pathlib.Path
    runs: pathlib.Path = pathlib.Path("runs/cifar10_depth_losses")
    record: pathlib.Path = pathlib.Path(__file__).resolve().parents[1] / "records" / "cifar10_depth_losses"
    only: tuple[Name, ...] = ()
    threads: int = 1


def main(options: Options) -> None:
    for name in options.only or tuple(METHODS):
        train(recipe_for(name, options), options.runs / name)
    _write_record(options)


def recipe_for(name: Name, options: Options) -> Recipe:
    """The common recipe, that of the gated ResNet-56 for one epoch, with one network's loss."""
    recipe = cifar10_resnet56(options.data, options.weights, epochs=1, method=METHODS[name])
    return dataclasses.replace(recipe, model="cifar_resnet20", threads=options.threads, precision="fp32")


def _write_record(options: Options) -> None:
    rows: list[Json] = []
    for name, label in LABELS.items():
        run = options.runs / name
        if not (run / "summary.json").is_file():
            continue
        copy_run(run, options.record / name, weights=False)
        result = read_json(run / "summary.json")
        base = result["paths"]["base"]
        kept = {
            "accuracy": result["accuracy"],
            "base_accuracy": base["accuracy"],
            "base_macs_share": base["macs_share"],
        }
        rows.append({"name": name, "label": label, **kept, "losses": result["losses"], **provenance(run)})
    write_json(options.record / "results.json", {"rows": rows})
    (options.record / "README.md").write_text(_readme(rows))


def _readme(rows: list[Json]) -> str:
    first = rows[0]
    lines = [
        "# cifar10_depth_losses",
        "",
        f"ResNet-20 on CIFAR-10, 10,000 test images; one seed ({first['seed']}), {first['epochs']} epoch from trained "
        f"weights, {first['device']}, {first['threads']} thread, torch {first['torch']}. The base-net has "
        f"{first['base_macs_share']:.1%} of the MACs. Training is by the clock, on a machine that did other work "
        "beside it.",
        "",
        "| loss | accuracy, everything | accuracy, base-net | mean of both | training |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['label']} | {row['accuracy']:.2%} | {row['base_accuracy']:.2%} | "
        f"{(row['accuracy'] + row['base_accuracy']) / 2:.2%} | {row['seconds'] / 60:.0f} min |"
        for row in rows
    ]
    commits = "; ".join(f"{row['name']} {row['commit']}" for row in rows)
    return "\n".join([*lines, "", NOTES.strip(), "", f"Commits: {commits}.", ""])


if __name__ == "__main__":
    main(tyro.cli(Options))
