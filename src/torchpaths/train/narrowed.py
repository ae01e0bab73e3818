"""Run folders of narrowed networks: ``save_narrowed`` writes one, ``read_left`` says how narrow a folder's network is.

recipe.json           the recipe of the run that was narrowed; it starts from no other run
run.json              what is known of that run
narrowed.json         which filters are left of each layer, and which of them keep their gates
weights.safetensors   the weights that are left, deciders' too
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torchpaths.errors import RunError
from torchpaths.files.disk import inside
from torchpaths.files.document import read_document, read_json
from torchpaths.files.fresh import fresh_folder
from torchpaths.files.tensors import to_bytes
from torchpaths.files.write import write_file
from torchpaths.narrowing.left import Left, combined, from_json, to_json
from torchpaths.routed import Routed
from torchpaths.schema import reading

NARROWED = "narrowed.json"
SCHEMA = "torchpaths.narrowed/1"
COMMAND = "torchpaths cut RUN --silent --out DIR"


def read_left(folder: pathlib.Path) -> dict[str, Left] | None:
    """What is left of the filters of a folder's network; None where it was not narrowed.

    Raises:
        RunError: for a file that was edited or cut short, or is of another schema.
    """
    file = folder / NARROWED
    if not file.exists():
        return None
    with reading(file, RunError, "narrow the run again"):
        found: _Written = read_document(inside(folder, NARROWED), SCHEMA, "narrowed network", COMMAND, _Written)
        return from_json(found.sites)


@dataclass(frozen=True)
class _Written:
    sites: dict[str, Any]


def write_left(folder: pathlib.Path, left: Mapping[str, Left], source: str) -> None:
    """Write what is left, and of which run's network, into a run folder."""
    data = {"schema": SCHEMA, "source": source, "sites": to_json(left)}
    write_file(folder / NARROWED, (json.dumps(data, indent=1) + "\n").encode())


def save_narrowed(
    net: Routed, left: Mapping[str, Left], run: pathlib.Path, out: pathlib.Path, force: bool = False
) -> dict[str, Left]:
    """Write a narrowed network as a run folder, whole or not at all.

    Args:
        net: the narrowed network.
        left: what is left of the sites of the run's network, which may have been narrowed before.
        run: the run's folder.
        out: where to; made if absent, and it must be empty.
        force: replace a network that is there.

    Returns:
        What is left of the sites of the network that the run's recipe makes.

    Raises:
        RunError: for a folder that is not empty, or a full disk.
    """
    found = combined(read_left(run) or {}, left)
    with fresh_folder(out.absolute(), force) as fresh:  # "." has no name
        recipe = {**read_json(run / "recipe.json", RunError, "give the folder of a run"), "start": None}
        write_file(fresh / "recipe.json", (json.dumps(recipe, indent=1) + "\n").encode())
        write_file(fresh / "run.json", (run / "run.json").read_bytes())
        write_left(fresh, found, str(run.absolute()))
        write_file(fresh / "weights.safetensors", to_bytes(net.state_dict()))
    return found
