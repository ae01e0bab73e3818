"""docs/models.md, written from the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

INTRO = """# Models that were tried

Written by `python benchmarks/models.py`; do not edit. Random weights, batch of 2, each model at its own input size
({sides}), float32 on a CPU; torch {torch}, torchvision {torchvision}, timm {timm}. **{passed} of {tried}
architectures pass, {automatic} of them with nothing given by hand.** [Models of transformers](#models-of-transformers)
have a table of their own. A pass means:

* **open == original**: with every unit open, `net(x)`, `net(x, Path.full(net))` and `net.model(x)` are the original's
  output bit for bit, and the state_dict has the same keys;
* **left out == masked**: two random paths, each given as plain bools (work left out) and as one per-sample path
  (multiplied by 0), agree to {tolerance:g} of the output's largest value, 0 meaning bit for bit; layers that start at 0
  were moved off it first, and the paths have to move the output by at least {visible:g} of it;
* the MACs that run along a path are those that `path.cost(net)` adds up;
* deepcopy and pickle give networks that answer the same;
* **gates**: one training step with `GatedBlocks` reaches every gate with a gradient ("not tried" where that takes more
  than {limit:.0f} GiB);
* **untouched**: `route` refused at the last moment, for a gate that is not there, leaves the model bitwise and
  attribute for attribute as it was. This holds for {untouched} of all {tried}, those that do not route included.

**Depths**: `AdaptiveDepth` makes so many networks of it, the smallest with the share of the MACs in brackets. The
largest is the original bit for bit, the smallest what `extract` cuts out. {deep} of the architectures have depths.
"""

SHALLOW = """
## No depths

Routed models in which `AdaptiveDepth` with its defaults finds no stage to shorten, or norms that cannot have a second
version.
"""

FAMILIES = """
## Models of transformers

Families of Hugging Face's transformers {transformers}, made small from their configurations: random weights, images of
{side} pixels. **{passed} of {tried} pass**: all of the above, and

* **asked**: asked for these besides, `net(x)` returns what the plain model returns, bit for bit, all open;
* **skip**: `skipping(net)` against masking, by a path for each image; **cut**: what `extract` cuts out against the
  path, a part of a block and a whole one closed; the largest difference relative to the largest value;
* **saved**: the cuts, by `save_pretrained` and `from_pretrained`, answer the same;
* **exported**: files for torch.export and ONNX that decide for themselves, and along a path, against the network: the
  largest difference, where {allowed:g} is allowed.
"""

FAILURES = """
## Not routed

These raise `RouteError` and stay as they were. Without a residual sum there is nothing to close.
"""

PARTIAL = """
## Left as they are

Routed models in which some modules look residual and do not come apart; these always run. `N` stands for numbers.
"""

LEVELS = """
## Where the sums are

Modules that hold the sums. A block inside another block is left to the outer one. A sum counts as residual wherever
both operands come from the block's input and have one shape, so parallel branches that are merged for inference
(RepVGG, MobileOne, FastViT, RepViT) count too: there the shorter way is what always runs, or that with fewer
parameters.
"""

BY_HAND = """
## By hand

What is not found can be given: patterns of module names -> `Residual(branch, shortcut, post)`. These were checked in
the same way, with the code of `benchmarks/models_by_hand.py`:

```python
{code}
```
"""


def write(table: dict[str, Any], target: Path) -> None:
    """Write the page of a table of results."""
    target.write_text(page(table))


def page(table: dict[str, Any]) -> str:
    """The page's text."""
    from models import SIDES
    from models_check import MEMORY, TOLERANCE, VISIBLE

    families = [row for row in table["models"] if "uses" in row]
    rows = [row for row in table["models"] if row not in families]
    routed = [row for row in rows if best(row)["outcome"] != "not routed"]
    passed = [row for row in rows if best(row)["outcome"] == "passed"]
    text = INTRO.format(
        **table["versions"],
        tried=len(rows),
        passed=len(passed),
        automatic=sum(row["outcome"] == "passed" for row in rows),
        tolerance=TOLERANCE,
        visible=VISIBLE,
        limit=MEMORY / 2**30,
        untouched=sum(best(row).get("untouched", False) for row in rows),
        deep=sum(row["depths"]["outcome"] == "passed" for row in rows),
        sides=", ".join(f"{name.partition('/')[2]} at {side}" for name, side in SIDES.items()),
    )
    columns = (
        "Model",
        "Library",
        "Sums",
        "MACs",
        "Closable",
        "Open == original",
        "Left out == masked",
        "Gates",
        "Depths",
        "Notes",
    )
    lines = [_row(columns), _row(["---"] * len(columns)), *(_row(_cells(row)) for row in routed)]
    text += "\n" + "\n".join(lines) + "\n" + _families(families, table["versions"]) + FAILURES + "\n"
    lines = [_row(("Model", "Library", "Why")), _row(["---"] * 3)]
    lines += [_row((*_names(row), best(row)["reason"])) for row in rows if row not in routed]
    text += "\n".join(lines) + "\n" + SHALLOW + "\n"
    lines = [_row(("Model", "Library", "Why")), _row(["---"] * 3)]
    lines += [_row((*_names(row), row["depths"]["reason"])) for row in routed if row["depths"]["outcome"] != "passed"]
    text += "\n".join(lines) + "\n" + LEVELS + "\n"
    lines = [_row(("Model", "Library", "Modules (sums)")), _row(["---"] * 3)]
    lines += [_row((*_names(row), _places(best(row).get("places", {})))) for row in routed]
    text += "\n".join(lines) + "\n" + PARTIAL + "\n"
    lines = [_row(("Model", "Library", "Modules", "Why")), _row(["---"] * 4)]
    lines += [
        _row((*_names(row), ", ".join(f"`{m}`" for m in modules), reason))
        for row in routed
        for reason, modules in best(row).get("refused", {}).items()
    ]
    code = Path(__file__).with_name("models_by_hand.py").read_text().strip()
    return text + "\n".join(lines) + "\n" + BY_HAND.format(code=code)


def best(row: dict[str, Any]) -> dict[str, Any]:
    """A row's result with blocks given by hand where there is one, else the automatic one."""
    found: dict[str, Any] = row.get("by_hand", row)
    return found


def _names(row: dict[str, Any]) -> tuple[str, str]:
    library, _, name = row["name"].partition("/")
    return name, library


def _cells(row: dict[str, Any]) -> list[str]:
    found = best(row)
    if not found.get("sums"):
        return [*_names(row), "0", *[""] * 6, found["reason"]]
    gates = "not tried" if found["gates"] is None else f"{found['gates'][0]}/{found['gates'][1]}"
    notes = [found["reason"]] if found["reason"] else []
    if "by_hand" in row:
        automatic = f"{row['sums']} sums found" if row["sums"] else "none found"
        notes.append(f"[by hand](#by-hand); {automatic} automatically")
    if found["refused"]:
        notes.append("[in part](#left-as-they-are)")
    return [
        *_names(row),
        str(found["sums"]),
        f"{found['macs'] / 1e9:.2f} G",
        f"{found['closable']:.0%}",
        "yes" if found["open_equals"] else "no",
        f"{found['left_out']:.0e}" if found["left_out"] else "0",
        gates,
        _depths(row["depths"]),
        "; ".join(notes),
    ]


def _families(rows: list[dict[str, Any]], versions: dict[str, str]) -> str:
    """The section about models of transformers."""
    from torchpaths.exports.verify import TOLERANCE
    from transformers_toys import X

    passed = [row for row in rows if row["outcome"] == row["depths"]["outcome"] == row["uses"]["outcome"] == "passed"]
    text = FAMILIES.format(**versions, passed=len(passed), tried=len(rows), side=X.shape[-1], allowed=TOLERANCE)
    columns = ("Model", "Sums", "Open == original", "Left out == masked", "Gates", "Depths")
    columns += ("Asked", "Skip", "Cut", "Saved", "Exported", "Notes")
    lines = [_row(columns), _row(["---"] * len(columns))]
    for row in rows:
        uses = row["uses"]
        gates = "/".join(map(str, row["gates"] or ("?",)))
        asked = ", ".join(what for what, same in uses["asked"].items() if same and what != "everything")
        files = ", ".join(f"{kind} {max(found):.0e}" for kind, found in uses["exported"].items())
        notes = "; ".join(found["reason"] for found in (row, row["depths"], uses) if found["reason"])
        left_out, *off = (f"{d:.0e}" if d else "0" for d in (row["left_out"], uses["skip"], uses["cut"]))
        exact = "yes" if row["open_equals"] else "no"
        cells = [uses["kind"], row["sums"], exact, left_out, gates, _depths(row["depths"])]
        lines.append(_row([*cells, asked, *off, "yes" if uses["saved"] else "no", files, notes]))
    return "\n".join(["", text.strip(), "", *lines, ""])


def _depths(found: dict[str, Any]) -> str:
    if found["outcome"] != "passed":
        return "[no](#no-depths)"
    return f"{found['count']} ({found['base']:.0%})"


def _places(places: dict[str, int]) -> str:
    return ", ".join(f"`{module}` ({count})" for module, count in places.items())


def _row(cells: Any) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"
