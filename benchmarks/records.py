"""Whether every network of every record still opens and gives what it gave: the check that files outlive a version.

    python benchmarks/records.py --data data/cifar10 --threads 1

Each run folder under records/ is opened by the code as it is now, its network evaluated on the test images, and
compared with what the record says: accuracy (of its survey, or of its summary where it has none), the fingerprint of
its layout, and for a network of several depths the accuracy of the shallowest. Records without weights are opened as
far as their recipe goes. Prints a table and JSON; the exit status is 1 if anything differs by more than a few images.
"""

from __future__ import annotations

import json
import pathlib
import sys
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from torchpaths import Path
from torchpaths.data import Loader
from torchpaths.fronts.evaluate import evaluate, undisturbed
from torchpaths.fronts.points import Choice
from torchpaths.train.evaluate import Surveyed, survey_run
from torchpaths.train.folder import read_json, read_recipe


@dataclass(frozen=True)
class Options:
    """What is checked.

    Attributes:
        data: the image set that the records' networks were evaluated on.
        records: folder of records, of one record, or one network's.
        threads: of the processor.
        within: images whose answer may differ: sums are rounded otherwise on another processor.
    """

    data: pathlib.Path
    records: pathlib.Path = pathlib.Path("records")
    threads: int = 1
    within: int = 3


def check(folder: pathlib.Path, options: Options) -> dict[str, Any]:
    """What a network was and what it is now; "wrong" says in words where they differ."""
    row: dict[str, Any] = {"network": f"{folder.parent.name}/{folder.name}", "wrong": []}
    if "network" in read_json(folder / "run.json"):  # a detector: its network is given beside the folder, not named
        return {**row, "note": "a detector; no weights kept"}
    recipe = read_recipe(folder)
    row["method"] = None if recipe.method is None else ",".join(recipe.method.names)
    if not (folder / "weights.safetensors").is_file():
        return {**row, "note": "no weights kept; the recipe opens"}
    found = survey_run(folder, data=str(options.data))
    images = int(found.survey.images.sum())
    row |= {"images": images, "accuracy": found.survey.accuracy, "fingerprint": found.run.net.layout.fingerprint}
    kept = _kept(folder)
    pairs = [("accuracy", kept["accuracy"], found.survey.accuracy)]
    if "path" in kept:
        row["base_accuracy"] = _along(found, kept["path"])
        pairs.append(("base accuracy", kept["base_accuracy"], row["base_accuracy"]))
    for name, was, now in pairs:
        row[f"recorded {name}"] = was
        off = round(abs(now - was) * images)
        row["images_off"] = max(off, row.get("images_off", 0))
        if off > options.within:
            row["wrong"].append(f"{name} {was:.4f} -> {now:.4f}")
    row["recorded fingerprint"] = kept.get("fingerprint")
    if kept.get("fingerprint", row["fingerprint"]) != row["fingerprint"]:
        row["wrong"].append(f"fingerprint {kept['fingerprint']} -> {row['fingerprint']}")
    return row


def _kept(folder: pathlib.Path) -> dict[str, Any]:
    """What the record says of a network."""
    kept: dict[str, Any] = {"accuracy": read_json(folder / "summary.json")["accuracy"]}
    if (folder / "survey.json").is_file():
        survey = read_json(folder / "survey.json")
        kept |= {"accuracy": survey["now"]["accuracy"], "fingerprint": survey["network"]["fingerprint"]}
    if (folder / "depths.json").is_file():
        base = min(read_json(folder / "depths.json")["depths"], key=lambda depth: depth["macs"])
        path = base["path"]
        kept |= {"base_accuracy": base["accuracy"], "fingerprint": path["network"], "path": json.dumps(path)}
    return kept


def _along(found: Surveyed, path: str) -> float:
    """Accuracy along a path that a record holds."""
    loader = Loader(found.images, 256, mean=found.run.mean, std=found.run.std)
    with undisturbed(found.run.net):
        [worth] = evaluate(found.run.net, [Choice("every", Path.from_json(path))], loader)
    assert worth.point.accuracy is not None
    return worth.point.accuracy


def main(options: Options) -> int:
    """Check, print, and return the exit status."""
    torch.set_num_threads(options.threads)
    rows = [check(file.parent, options) for file in sorted(options.records.rglob("recipe.json"))]
    table = Table(box=None, header_style="bold")
    for name in ("network", "method", "recorded", "now", "base recorded", "base now", "images off", "fingerprint", ""):
        table.add_column(name, justify="left" if name in ("network", "method", "") else "right")
    for row in rows:
        numbers = (
            _percent(row.get(k)) for k in ("recorded accuracy", "accuracy", "recorded base accuracy", "base_accuracy")
        )
        same = "" if row.get("recorded fingerprint") is None else "same" if not row["wrong"] else row["fingerprint"]
        said = "; ".join(row["wrong"]) or row.get("note", "")
        table.add_row(row["network"], row.get("method") or "", *numbers, str(row.get("images_off", "")), same, said)
    Console(width=160).print(table)
    print(json.dumps({"rows": rows, "threads": options.threads, "torch": torch.__version__}))
    return int(any(row["wrong"] for row in rows))


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
