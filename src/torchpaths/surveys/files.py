"""A survey on disk: versioned JSON in columns, large arrays beside it in a safetensors file.

The JSON names its array file, which carries a digest of its contents in its name. Arrays are written first, then the
JSON takes its place in one step, so at any moment ``survey.json`` is either the old survey or the new one, whole. The
JSON holds what a page or a person reads at once; rates are also in the arrays, exactly, as counts. Its columns are told
in ``docs/survey.md``: what was not measured is absent, never a guess or null.

Version 1 is still read: it counted less, and what it lacks is absent.
"""

from __future__ import annotations

import hashlib
import json
import math
import pathlib
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from torchpaths.errors import DataError
from torchpaths.files.disk import inside, read_bytes
from torchpaths.files.document import read_document
from torchpaths.files.write import disk, write_file
from torchpaths.layout import Layout
from torchpaths.schema import reading
from torchpaths.surveys.arrays import from_arrays, narrowest, to_arrays
from torchpaths.surveys.counts import ENERGY_STEPS, Counts, Floats
from torchpaths.surveys.order import class_order, unit_order
from torchpaths.surveys.stages import stage_name
from torchpaths.surveys.told import alone_json, front_json, images_json, times_json
from torchpaths.surveys.written import Arrays, Document

SCHEMA = "torchpaths.survey/2"
OLDER = ("torchpaths.survey/1",)

ORDERED = 32
"""Units of a site above which it has an order of its own, by which neighbours are alike: fewer are drawn one by one."""

Some = TypeVar("Some", bound=Counts)


def save(survey: Counts, where: pathlib.Path) -> pathlib.Path:
    """Write a survey and return the path of its JSON file.

    Args:
        survey: what to write.
        where: a ``.json`` file, or a folder for ``survey.json``; folders are made.

    Raises:
        RunError: if the disk is full or refuses; the survey that was there is untouched.
    """
    file = _file(where)
    data = save_arrays(to_arrays(survey))
    digest = hashlib.sha256(data).hexdigest()
    beside = file.with_name(f"{file.stem}.{digest[:12]}.safetensors")
    text = json.dumps(document(survey, beside.name, digest), allow_nan=False)
    with disk(file, "what was there before is intact"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(beside, data)
        write_file(file, (text + "\n").encode())
    for old in file.parent.glob(f"{file.stem}.{'[0-9a-f]' * 12}.safetensors"):
        if old != beside:
            old.unlink()
    return file


def load(where: pathlib.Path, kind: type[Some], layout: Layout | None = None) -> Some:
    """Read a survey as that class, whole and of the right network, or raise `DataError`; see `Survey.load`."""
    file = _file(where)
    remedy = "survey the network again"
    with reading(file, DataError, remedy):
        found: Document = read_document(file, SCHEMA, "survey", "torchpaths survey RUN", Document, older=OLDER)
        own = found.read_layout()
        arrays = _read_arrays(file, found.arrays)
        paths, sites = found.paths, found.energy.sites
        fields = from_arrays(arrays, own, len(found.classes.name), sites, paths.distinct, paths.whole)
        survey = kind(
            layout=own,
            classes=found.classes.name,
            decided=tuple(site.name for site in found.sites if site.decided_by == "input"),
            name=found.network.name,
            method=found.network.method,
            dataset=found.network.dataset,
            split=found.network.split,
            along=found.network.along,
            weights=found.network.weights,
            keep=found.arrays.keep or (None if found.arrays.samples else 0),
            **fields,
            **found.measured(own),
        )
    if layout is not None and own.fingerprint != layout.fingerprint:
        raise DataError(
            f"{file} is a survey of network {own.fingerprint} ({own.network}, {len(own.units)} units), not of "
            f"{layout.fingerprint} ({layout.network}, {len(layout.units)} units); "
            "survey this network, or load the one it was made with."
        )
    return survey


def _file(where: pathlib.Path) -> pathlib.Path:
    return where if where.suffix == ".json" else where / "survey.json"


def document(survey: Counts, beside: str = "", digest: str = "") -> dict[str, Any]:
    """A survey's JSON data.

    Args:
        survey: any.
        beside: name of the file of its arrays.
        digest: of that file.
    """
    layout, units = survey.layout, survey.layout.units
    mean, std = survey.executed
    present = survey.openness[survey.images > 0]
    params = layout.cost(np.ones(len(units), bool)).params
    times = survey.times
    alone_of_units, alone = alone_json(survey.alone)
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "network": {
            "name": survey.name,
            "architecture": layout.network,
            "method": list(survey.method),
            "dataset": survey.dataset,
            "split": survey.split,
            "images": int(survey.images.sum()),
            "fingerprint": layout.fingerprint,
            **{name: value for name in ("along", "weights") if (value := getattr(survey, name))},
        },
        "classes": {
            "name": list(survey.classes),
            **({"group": list(survey.groups)} if survey.groups else {}),
            "images": survey.images.tolist(),
            "accuracy": _known(survey.accuracy_by_class),
            "executed": [_known(row) for row in survey.executed_by_class],
            "macs": _known(survey.macs_by_class),
            "order": class_order(survey.openness, survey.groups),
        },
        "sites": _sites(survey),
        "units": {
            "macs": [u.cost.macs for u in units],
            "params": [u.cost.params for u in units],
            "rate": _known(survey.rates),
            "spread": _known(present.std(0)),
            **alone_of_units,
            **({} if times is None or times.units is None else {"ms": list(times.units)}),
        },
        "fixed": {
            "macs": layout.fixed.macs,
            "params": layout.fixed.params,
            **({} if times is None or times.fixed is None else {"ms": times.fixed}),
        },
        "layout": layout.more_json(),
        "openness": {
            "shape": list(survey.opened.shape),
            "dtype": narrowest(survey.opened),
            "array": "opened",
            "divide_by": "images",
        },
        "histogram": {"all": survey.histogram.sum(0).tolist(), "by_class": "histogram"},
        "paths": _paths(survey),
        "plain": {
            "macs": layout.plain.macs,
            "params": layout.plain.params,
            **({} if times is None else {"ms": times.plain_ms}),
        },
        "now": {
            "macs": survey.macs,
            "macs_std": survey.macs_std,
            "params": params,
            "accuracy": survey.accuracy,
            **({} if survey.accuracy_top5 is None else {"accuracy_top5": survey.accuracy_top5}),
            "executed": mean,
            "executed_std": std,
            **times_json(times),
        },
        "arrays": {
            "file": beside,
            "sha256": digest,
            "samples": survey.samples is not None,
            **({"keep": survey.keep} if survey.keep else {}),
        },
    }
    if survey.energy is not None:
        where = {"shape": list(survey.opened.shape), "array": "energy", "divide_by": "ran", "steps": ENERGY_STEPS}
        data["energy"] = {"sites": list(survey.energy.sites), **where}
    if survey.code is not None:
        data["code"] = {"shape": list(survey.code.shape), "array": "code"}
    optional: dict[str, Any] = {
        "alone": alone,
        "front": front_json(survey.front),
        "cloud": [list(tried) for tried in survey.cloud],
        "images": images_json(survey.gallery),
        "filters": {str(unit): list(images) for unit, images in survey.filters.items()},
    }
    return data | {name: column for name, column in optional.items() if column}


def _sites(survey: Counts) -> list[dict[str, Any]]:
    sites, start = [], 0
    coded = survey.coded
    known = survey.openness[survey.images > 0]
    for name, members in survey.layout.sites.items():
        decided = "input" if name in survey.decided else "class" if name in coded else "outside"
        entry: dict[str, Any] = {
            "name": name,
            "stage": stage_name(name),
            "decided_by": decided,
            "kind": members[0].kind,
        }
        entry |= {"start": start, "units": len(members)}
        if len(members) > ORDERED:
            entry["order"] = unit_order(known[:, start : start + len(members)])
        sites.append(entry)
        start += len(members)
    return sites


def _paths(survey: Counts) -> dict[str, Any]:
    top = []
    for p in survey.top_paths:
        entry: dict[str, Any] = {"path": p.packed.hex(), "class": p.label, "count": p.count, "share": p.share}
        if survey.taken is not None:
            entry["confused"] = survey.taken.confusion(p.packed).tolist()
        top.append(entry)
    whole = survey.taken is None or survey.taken.whole
    return {"distinct": survey.distinct_paths, "top": top, **({} if whole else {"whole": False})}


def _known(values: Floats) -> list[float | None]:
    """Numbers for JSON, which has no NaN: null for what there is none of, as the accuracy of no images."""
    return [None if math.isnan(v) else v for v in values.tolist()]


def _read_arrays(file: pathlib.Path, entry: Arrays) -> dict[str, NDArray[Any]]:
    beside = inside(file.parent, entry.file)
    try:
        data = read_bytes(beside)
    except FileNotFoundError as error:
        raise DataError(f"{file}: its arrays are missing, {beside.name}; copy both files together.") from error
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise DataError(
            f"{beside}: not the arrays that {file.name} was written with ({len(data):,} bytes); "
            "the file was cut short or changed, survey the network again."
        )
    return dict(load_arrays(data))
