"""Runs whose gates open at another threshold than the one they were trained with: a point of a front, kept; or gates
that open as often in use as in training.

thresholds.json       site -> score above which its units open, of those that changed; the other files as in any run
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass

from torchpaths.errors import RunError, near
from torchpaths.files.disk import inside
from torchpaths.files.document import read_document
from torchpaths.files.fresh import fresh_folder
from torchpaths.files.tensors import to_bytes
from torchpaths.files.write import write_file
from torchpaths.routed import Routed
from torchpaths.schema import reading
from torchpaths.train.narrowed import NARROWED

THRESHOLDS = "thresholds.json"
SCHEMA = "torchpaths.thresholds/1"
COMMAND = "torchpaths cut RUN --point NAME --out DIR"


@dataclass(frozen=True)
class _Written:
    thresholds: dict[str, float]


def thresholds_of(net: Routed) -> dict[str, float]:
    """Site -> threshold, of the deciders that go by a score and not by the one they were trained with."""
    deciders = {name: site.decider for name, site in net.sites.items() if site.decider is not None}
    return {name: d.threshold for name, d in deciders.items() if d.by_score and d.threshold != 0}


def set_thresholds(net: Routed, thresholds: Mapping[str, float]) -> None:
    """Let deciders open at these scores.

    Raises:
        RunError: for a site that has no decider which goes by a score.
    """
    scored = {n: s.decider for n, s in net.sites.items() if s.decider is not None and s.decider.by_score}
    for site, threshold in thresholds.items():
        if site not in scored:
            raise RunError(f"no gate at {site!r} goes by a score. {near(site, scored)}")
        scored[site].threshold = threshold


def read_thresholds(folder: pathlib.Path) -> dict[str, float]:
    """Those of a run folder; none where its gates open as they were trained to.

    Raises:
        RunError: for a file that was edited or cut short, or is of another schema.
    """
    if not (folder / THRESHOLDS).exists():
        return {}
    with reading(folder / THRESHOLDS, RunError, f"make the run again with {COMMAND}"):
        found: _Written = read_document(inside(folder, THRESHOLDS), SCHEMA, "thresholds", COMMAND, _Written)
        return found.thresholds


def save_thresholds(net: Routed, run: pathlib.Path, out: pathlib.Path, force: bool = False) -> None:
    """Write a run's network with the thresholds that its deciders have now, as a run folder, whole or not at all.

    Args:
        net: the network of ``run``.
        run: its folder, of which recipe, description and summary of filters are copied.
        out: where to; made if absent, and it must be empty.
        force: replace a network that is there.

    Raises:
        RunError: for a folder that is not empty, or a full disk.
    """
    with fresh_folder(out.absolute(), force) as fresh:
        for name in ("recipe.json", "run.json", NARROWED):
            if (run / name).is_file():
                write_file(fresh / name, (run / name).read_bytes())
        data = {"schema": SCHEMA, "source": str(run.absolute()), "thresholds": thresholds_of(net)}
        write_file(fresh / THRESHOLDS, (json.dumps(data, indent=1) + "\n").encode())
        write_file(fresh / "weights.safetensors", to_bytes(net.state_dict()))
