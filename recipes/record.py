"""Write a record: what was measured, with everything needed to see it again, into one folder.

A record holds for each network its run folder (recipe, commit, versions, log, final weights), made independent of the
machine it ran on, its survey over the test images and the figures; and for all of them a table (README.md,
results.json) and the figure of accuracy against MACs executed. ``torchpaths evaluate records/NAME/NETWORK --data DIR``
evaluates a network of a record anew.
"""

from __future__ import annotations

import pathlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from torchpaths import Path
from torchpaths.cli.tables import count
from torchpaths.files.write import write_json
from torchpaths.surveys.figures import Point, accuracy_macs, save, save_all
from torchpaths.train.evaluate import Surveyed, summary, survey_run
from torchpaths.train.folder import read_json
from torchpaths.train.metrics import read_metrics
from torchpaths.train.recipe import Json

LARGEST_WEIGHTS = 4 * 2**20
"""Bytes of weights that a record may hold."""


@dataclass(frozen=True)
class Entry:
    """One network of a record.

    Attributes:
        name: of its run folder.
        label: in tables and figures.
        role: what it is there for.
    """

    name: str
    label: str
    role: Literal["run", "plain", "control"]


def write_record(
    record: pathlib.Path,
    runs: pathlib.Path,
    entries: Sequence[Entry],
    data: pathlib.Path,
    notes: str = "",
    beside: Sequence[Point] = (),
) -> None:
    """Survey finished runs and write the record.

    Args:
        record: folder of the record; networks whose weights changed since it was written are surveyed again.
        runs: folder of the run folders.
        entries: the networks, in the order of the table.
        data: the data set.
        notes: Markdown, put between the table and the rest.
        beside: points of other records, for the figure.
    """
    kept = read_json(record / "results.json")["rows"] if (record / "results.json").is_file() else []
    rows: list[Json] = [row for row in kept if same_weights(runs / row["name"], record / row["name"])]
    for entry in entries:
        if any(row["name"] == entry.name for row in rows):
            continue
        found = survey_run(runs / entry.name, data=str(data), keep_paths=True)
        copy_run(runs / entry.name, record / entry.name)
        found.survey.save(record / entry.name)
        # Without the images themselves: a record holds measurements, the data stays where it is.
        metrics = record / entry.name / "metrics.jsonl"
        save_all(found.survey, record / entry.name / "figures", metrics=metrics)
        rows.append({"name": entry.name, "label": entry.label, "role": entry.role, **_row(found, runs / entry.name)})
        if entry.role == "run":
            rows[-1]["shuffled_accuracy"] = shuffled(found)
            starred = survey_run(runs / entry.name, data=str(data), inference="expected").survey
            rows[-1]["starred_accuracy"] = starred.accuracy
    order = [entry.name for entry in entries]
    rows = sorted((row for row in rows if row["name"] in order), key=lambda row: order.index(row["name"]))
    write_json(record / "results.json", {"rows": rows})
    points = [Point(row["label"], row["macs"], row["accuracy"], row["role"]) for row in rows] + list(beside)
    save(accuracy_macs(points, f"{rows[0]['model']} on {rows[0]['data']}", joined=not beside), record / "accuracy-macs")
    (record / "README.md").write_text(_readme(record.name, rows, notes))


def shuffled(found: Surveyed, seed: int = 0) -> float:
    """Accuracy when every image takes another image's decisions: same blocks, same rates, the looking undone.

    Every site's decisions are permuted over the images of a batch, each site by itself, so each block still opens for
    as many images as before.
    """
    draw = torch.Generator().manual_seed(seed)
    correct = total = 0
    net = found.run.net
    with torch.inference_mode():
        for x, y in found.run.loader(batch=500):
            _, trace = net(x)
            own = Path.of(trace)
            other = Path({site: own[site][torch.randperm(len(x), generator=draw)] for site in own})
            correct += int((net(x, other)[0].argmax(1) == y).sum())
            total += len(y)
    return correct / total


def _row(found: Surveyed, run: pathlib.Path) -> Json:
    """The numbers of one network and how it was made."""
    kept: dict[str, Any] = {k: v for k, v in summary(found.survey).items() if k not in ("by_class", "open_by_unit")}
    return {**kept, "images_per_second": images_per_second(run), **provenance(run)}


def same_weights(run: pathlib.Path, recorded: pathlib.Path) -> bool:
    """Whether a run was recorded as it stands, so that it need not be surveyed again."""
    files = [folder / "weights.safetensors" for folder in (run, recorded)]
    return all(file.is_file() for file in files) and files[0].read_bytes() == files[1].read_bytes()


def copy_run(run: pathlib.Path, to: pathlib.Path, weights: bool = True) -> None:
    """The run folder without checkpoints, its paths shortened to names; weights only up to `LARGEST_WEIGHTS`, and
    where nobody would use them not at all."""
    to.mkdir(parents=True, exist_ok=True)
    recipe = read_json(run / "recipe.json")
    for field in ("data", "weights"):
        if recipe.get(field):
            recipe[field] = pathlib.PurePath(recipe[field]).name
    write_json(to / "recipe.json", recipe)
    for name in ("run.json", "summary.json", "metrics.jsonl"):
        shutil.copyfile(run / name, to / name)
    if weights and (run / "weights.safetensors").stat().st_size <= LARGEST_WEIGHTS:
        shutil.copyfile(run / "weights.safetensors", to / "weights.safetensors")


def last_rates(run: pathlib.Path) -> dict[str, float]:
    """For how many images each site of a finished run opened at its last evaluation; says so if it is not finished."""
    read_json(run / "summary.json")
    last = [row for row in read_metrics(run / "metrics.jsonl") if row["kind"] == "epoch"][-1]
    return {site: float(rate) for site, rate in last["rates"].items()}


def provenance(run: pathlib.Path) -> Json:
    """How a run was made: epochs, time, commit, machine, seed, version of torch."""
    made, result = read_json(run / "run.json"), read_json(run / "summary.json")
    return {
        "epochs": result["epochs"],
        "seconds": result["seconds"],
        "commit": made["commit"],
        "device": made["device"],
        "threads": made["threads"],
        "seed": made["seed"],
        "torch": made["versions"]["torch"],
    }


def images_per_second(run: pathlib.Path) -> float:
    """The median over the windows of a run."""
    speeds = sorted(row["images_per_second"] for row in read_metrics(run / "metrics.jsonl") if row["kind"] == "steps")
    return float(speeds[len(speeds) // 2])


def _readme(name: str, rows: Sequence[Json], notes: str) -> str:
    first = rows[0]
    lines = [
        f"# {name}",
        "",
        f"{first['model']} on {first['data']}, {first['images']:,} test images; one seed ({first['seed']}), "
        f"{first['epochs']} epochs, {first['device']}, {first['threads']} thread(s), torch {first['torch']}. "
        "MACs are multiply-accumulates of one image, executed, gates included.",
        "",
        "| network | accuracy | blocks open | MACs | of plain | shuffled | `*` | training |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        other, starred = (f"{row[k]:.2%}" if k in row else "" for k in ("shuffled_accuracy", "starred_accuracy"))
        lines.append(
            f"| {row['label']} | {row['accuracy']:.2%} | {row['units_open']:.2f} of {row['units']} | "
            f"{count(row['macs'])} | "
            f"{row['macs_share']:.1%} | {other} | {starred} | {row['seconds'] / 60:.0f} min |"
        )
    lines += ["", "![accuracy against MACs](accuracy-macs.png)", ""]
    lines += [notes.strip(), ""] if notes else []
    lines += ["Commits: " + "; ".join(f"{row['name']} {row['commit']}" for row in rows) + ".", ""]
    return "\n".join(lines)
