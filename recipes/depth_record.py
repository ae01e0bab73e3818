"""Write a record of adaptive depth: run folders with weights, every depth of the adaptive networks, and one table."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass

from record import copy_run, provenance, same_weights

import torchpaths as tp
from torchpaths import cli
from torchpaths.errors import RunError
from torchpaths.files.write import write_json
from torchpaths.fronts.points import Kind, Point
from torchpaths.train.folder import load_run, read_json
from torchpaths.train.recipe import Json


@dataclass(frozen=True)
class Entry:
    """One network of a record.

    Attributes:
        label: in the table.
        depths: whether it has depths.
    """

    label: str
    depths: bool


def write_record(
    record: pathlib.Path,
    runs: pathlib.Path,
    entries: Mapping[str, Entry],
    data: pathlib.Path,
    notes: str,
    start: str = "from scratch",
) -> None:
    """Copy finished runs, measure every depth of theirs and write README.md and results.json.

    What was measured of the same weights, beside the same twins, is not measured again.

    Args:
        record: folder of the record.
        runs: folder of the run folders.
        entries: run folder -> what it is, in the order of the table; "plain" and "plain-base" are the twins. Those that
            are not finished are left out.
        data: the data set.
        notes: Markdown, below the table.
        start: what the networks began from, in words.

    Raises:
        RunError: if a network cannot be measured.
    """
    finished = {name: entry for name, entry in entries.items() if (runs / name / "summary.json").is_file()}
    kept = {name for name in finished if same_weights(runs / name, record / name)}
    for name in finished:
        copy_run(runs / name, record / name)
    twins = {name: record / name for name in ("plain", "plain-base") if name in finished}
    beside = [str(argument) for name, folder in twins.items() for argument in (f"--{name}", folder)]
    accuracies = [read_json(folder / "summary.json")["accuracy"] for folder in twins.values()]
    rows: list[Json] = []
    for name, entry in finished.items():
        result = read_json(record / name / "summary.json")
        row = {"name": name, "label": entry.label, "accuracy": result["accuracy"], "plain_macs": result["plain_macs"]}
        row |= provenance(record / name)
        if entry.depths:
            measured = record / name / "depths.json"
            known = name in kept and measured.is_file()
            known = known and list(read_json(measured)["references"].values()) == accuracies
            if not known and cli.main(["depths", str(record / name), "--data", str(data), *beside]) != 0:
                raise RunError(f"the depths of {name} could not be measured, see above.")
            row["depths"] = read_json(measured)["depths"]
            write_front(record / name)
        rows.append(row)
    write_json(record / "results.json", {"rows": rows})
    (record / "README.md").write_text(_readme(record.name, rows, notes, start))


def write_front(folder: pathlib.Path) -> None:
    """All depths as a front, for the run's page: `torchpaths.front` keeps only those that no other beats."""
    run = load_run(folder)
    layout = run.net.layout
    points = []
    for depth in read_json(folder / "depths.json")["depths"]:
        opened = {site: (letter == "F",) for site, letter in zip(layout.sites, depth["skip"], strict=True)}
        share = depth["skip"].count("F") / len(opened)
        kind: Kind = "full" if share == 1 else "every"
        path = tp.Path(opened, layout.fingerprint)
        points.append(Point(kind, path, None, depth["accuracy"], float(depth["macs"]), share))
    data = read_json(folder / "run.json")["data"]
    whole = next(point.accuracy for point in points if point.kind == "full")
    name, images = run.recipe.model, data["images"][1]
    cloud = tuple((point.macs, point.accuracy) for point in points)
    tp.Front(layout, tuple(points), (), whole, images, cloud, images, name, data["name"], "test").save(folder)


def _readme(name: str, rows: list[Json], notes: str, start: str) -> str:
    first = rows[0]
    lines = [
        f"# {name}",
        "",
        f"10,000 test images of CIFAR-10, one seed ({first['seed']}), {first['epochs']} epochs {start}, "
        f"{first['device']}, {first['threads']} thread, torch {first['torch']}. MACs are those of one image.",
        "",
        "| network | accuracy, everything | MACs | accuracy, base-net | MACs | training |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        base = next((d for d in row.get("depths", []) if set(d["skip"]) == {"T"}), None)
        shrunk = f"{base['accuracy']:.2%} | {base['macs'] / 1e6:.1f} M" if base else " | "
        lines.append(
            f"| {row['label']} | {row['accuracy']:.2%} | {row['plain_macs'] / 1e6:.1f} M | {shrunk} | "
            f"{row['seconds'] / 60:.0f} min |"
        )
    for row in rows:
        if "depths" in row:
            found = ", ".join(f"{d['skip']} {d['accuracy']:.2%}" for d in row["depths"])
            lines += ["", f"**{row['label']}**, every depth (T: the stage leaves its last block out): {found}."]
    lines += ["", *([notes.strip(), ""] if notes else [])]
    lines += ["Commits: " + "; ".join(f"{row['name']} {row['commit']}" for row in rows) + ".", ""]
    return "\n".join(lines)
