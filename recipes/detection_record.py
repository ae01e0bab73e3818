"""Write a record of detectors: run folders without weights, and a table of average precision by depth."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

from record import copy_run, images_per_second, provenance

from torchpaths.cli.tables import count
from torchpaths.files.write import write_json
from torchpaths.train.folder import read_json
from torchpaths.train.recipe import Json


@dataclass(frozen=True)
class Entry:
    """One network of a record.

    Attributes:
        name: of its run folder.
        label: in the table.
    """

    name: str
    label: str


def write_record(record: pathlib.Path, runs: pathlib.Path, entries: Sequence[Entry], notes: str) -> None:
    """Writes README.md, results.json and the run folders of finished runs.

    Args:
        record: folder of the record.
        runs: folder of the run folders.
        entries: the networks, in the order of the table; those not finished are left out.
        notes: Markdown, below the table.
    """
    finished = [entry for entry in entries if (runs / entry.name / "summary.json").is_file()]
    rows: list[Json] = []
    for entry in finished:
        copy_run(runs / entry.name, record / entry.name)
        rows += _rows(entry, runs / entry.name)
    record.mkdir(parents=True, exist_ok=True)
    write_json(record / "results.json", {"rows": rows})
    (record / "README.md").write_text(_readme(record.name, rows, notes))


def _rows(entry: Entry, run: pathlib.Path) -> list[Json]:
    """A row for each depth."""
    made, result = read_json(run / "run.json"), read_json(run / "summary.json")
    return [
        {
            "name": entry.name,
            "label": entry.label,
            "depth": depth,
            "ap": result["ap"][depth],
            "macs": macs,
            "network": result["network"],
            "parameters": made["network"]["parameters"],
            "images": [made["train"]["images"], made["test"]["images"]],
            "images_per_second": images_per_second(run),
            **provenance(run),
        }
        for depth, macs in result["macs"].items()
    ]


def _readme(name: str, rows: Sequence[Json], notes: str) -> str:
    first = rows[0]
    kinds = list(first["ap"])
    names = [f"{kind} {metric}" for kind in kinds for metric in ("AP", "AP50", "AP75")]
    lines = [
        f"# {name}",
        "",
        f"{first['network']}, {first['images'][0]} training and {first['images'][1]} test images; one seed "
        f"({first['seed']}), {first['epochs']} epochs from random weights, {first['device']}, {first['threads']} "
        f"thread(s), torch {first['torch']}. AP is COCO's, over IoU 0.50 to 0.95. MACs are multiply-accumulates of one "
        "image; those behind the proposals depend on how many there are, so the difference between depths says more "
        "than the ratio. Training is by the clock, on a machine that did other work beside it.",
        "",
        f"| network | depth | {' | '.join(names)} | MACs | training |",
        f"|---|---|{'---|' * len(names)}---|---|",
    ]
    for row in rows:
        found = [row["ap"][kind][metric] for kind in kinds for metric in ("AP", "AP50", "AP75")]
        cells = " | ".join("" if value is None else f"{value:.1%}" for value in found)
        lines.append(
            f"| {row['label']} | {row['depth']} | {cells} | {count(row['macs'])} | {row['seconds'] / 60:.0f} min |"
        )
    commits = dict.fromkeys(f"{row['name']} {row['commit']}" for row in rows)
    return "\n".join([*lines, "", notes.strip(), "", f"Commits: {'; '.join(commits)}.", ""])
