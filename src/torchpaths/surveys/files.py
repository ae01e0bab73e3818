"""A survey on disk: versioned JSON in columns, large arrays beside it in a safetensors file.

The JSON names its array file, which carries a digest of its contents in its name. Arrays are written first, then the
JSON takes its place in one step, so at any moment ``survey.json`` is either the old survey or the new one, whole. The
JSON holds what a page or a person reads at once (rates are also in the arrays, exactly, as counts).
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
from torchpaths.schema import MalformedError, reading
from torchpaths.surveys.counts import Counts, Floats, PathCount, Samples
from torchpaths.surveys.order import similarity_order
from torchpaths.surveys.stages import stage_name
from torchpaths.surveys.written import Arrays, Document, check_arrays

SCHEMA = "torchpaths.survey/1"

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
    data = save_arrays(_arrays(survey))
    digest = hashlib.sha256(data).hexdigest()
    beside = file.with_name(f"{file.stem}.{digest[:12]}.safetensors")
    text = json.dumps(_document(survey, beside.name, digest), allow_nan=False)
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
        document: Document = read_document(file, SCHEMA, "survey", "torchpaths survey RUN", Document)
        own = _layout(document)
        survey = _survey(document, own, _read_arrays(file, document.arrays), kind)
    if layout is not None and own.fingerprint != layout.fingerprint:
        raise DataError(
            f"{file} is a survey of network {own.fingerprint} ({own.network}, {len(own.units)} units), not of "
            f"{layout.fingerprint} ({layout.network}, {len(layout.units)} units); "
            "survey this network, or load the one it was made with."
        )
    return survey


def _file(where: pathlib.Path) -> pathlib.Path:
    return where if where.suffix == ".json" else where / "survey.json"


def _arrays(survey: Counts) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "images": survey.images,
        "correct": survey.correct,
        "opened": survey.opened,
        "histogram": survey.histogram,
        "macs": survey.macs_by_class,
        "macs_std": survey.macs_std_by_class,
        "path": np.array([list(p.packed) for p in survey.top_paths], np.uint8).reshape(len(survey.top_paths), -1),
        "path_count": np.array([[p.count, p.label] for p in survey.top_paths], np.int64).reshape(-1, 2),
        "path_share": np.array([p.share for p in survey.top_paths], np.float64),
    }
    if survey.samples is not None:
        arrays |= {
            f"sample_{name}": getattr(survey.samples, name) for name in ("packed", "labels", "predictions", "macs")
        }
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}


def _document(survey: Counts, beside: str, digest: str) -> dict[str, Any]:
    layout, units = survey.layout, survey.layout.units
    mean, std = survey.executed
    sites, start = [], 0
    for name, members in layout.sites.items():
        decided = "input" if name in survey.decided else "outside"
        sites.append(
            {"name": name, "stage": stage_name(name), "decided_by": decided, "start": start, "units": len(members)}
        )
        start += len(members)
    present = survey.openness[survey.images > 0]
    params = layout.cost(np.ones(len(units), bool)).params
    return {
        "schema": SCHEMA,
        "network": {
            "name": survey.name,
            "architecture": layout.network,
            "method": list(survey.method),
            "dataset": survey.dataset,
            "split": survey.split,
            "images": int(survey.images.sum()),
            "fingerprint": layout.fingerprint,
        },
        "classes": {
            "name": list(survey.classes),
            "images": survey.images.tolist(),
            "accuracy": _known(survey.accuracy_by_class),
            "executed": [_known(row) for row in survey.executed_by_class],
            "macs": _known(survey.macs_by_class),
            "order": similarity_order(survey.openness),
        },
        "sites": sites,
        "units": {
            "macs": [u.cost.macs for u in units],
            "params": [u.cost.params for u in units],
            "rate": _known(survey.rates),
            "spread": _known(present.std(0)),
        },
        "fixed": {"macs": layout.fixed.macs, "params": layout.fixed.params},
        "layout": layout.more_json(),
        "openness": {"shape": list(survey.opened.shape), "array": "opened", "divide_by": "images"},
        "histogram": {"all": survey.histogram.sum(0).tolist(), "by_class": "histogram"},
        "paths": {
            "distinct": survey.distinct_paths,
            "top": [
                {"path": p.packed.hex(), "class": p.label, "count": p.count, "share": p.share} for p in survey.top_paths
            ],
        },
        "plain": {"macs": layout.plain.macs, "params": layout.plain.params},
        "now": {
            "macs": survey.macs,
            "macs_std": survey.macs_std,
            "params": params,
            "accuracy": survey.accuracy,
            "executed": mean,
            "executed_std": std,
        },
        "arrays": {"file": beside, "sha256": digest, "samples": survey.samples is not None},
    }


def _known(values: Floats) -> list[float | None]:
    """Numbers for JSON, which has no NaN: null for what is not known."""
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


def _layout(document: Document) -> Layout:
    columns = document.units
    if sum(site.units for site in document.sites) != len(columns.macs):
        raise MalformedError(f"sites: not of as many units as there are costs, {len(columns.macs)}")
    places = [(site.name, index) for site in document.sites for index in range(site.units)]
    data = {
        "network": document.network.architecture,
        "fingerprint": document.network.fingerprint,
        "site": [name for name, _ in places],
        "index": [index for _, index in places],
        "macs": columns.macs,
        "params": columns.params,
        "fixed": document.fixed,
        "plain": document.plain,
    }
    return Layout.from_json({**data, **document.layout})


def _survey(document: Document, layout: Layout, arrays: dict[str, NDArray[Any]], kind: type[Some]) -> Some:
    network, classes = document.network, document.classes.name
    check_arrays(arrays, len(classes), len(layout.units), document.arrays.samples)
    paths = zip(arrays["path"], arrays["path_count"].tolist(), arrays["path_share"].tolist(), strict=True)
    names = ("packed", "labels", "predictions", "macs")
    samples = Samples(*(arrays[f"sample_{n}"] for n in names)) if document.arrays.samples else None
    return kind(
        layout=layout,
        classes=classes,
        images=arrays["images"],
        correct=arrays["correct"],
        opened=arrays["opened"],
        histogram=arrays["histogram"],
        macs_by_class=arrays["macs"],
        macs_std_by_class=arrays["macs_std"],
        distinct_paths=document.paths.distinct,
        top_paths=tuple(PathCount(bits.tobytes(), count, label, share) for bits, (count, label), share in paths),
        decided=tuple(site.name for site in document.sites if site.decided_by == "input"),
        samples=samples,
        name=network.name,
        method=network.method,
        dataset=network.dataset,
        split=network.split,
    )
