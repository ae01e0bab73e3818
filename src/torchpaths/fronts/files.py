"""A front on disk: one versioned JSON file beside the model, read by `Front.load`, by ``cut --budget`` and by the page.

    schema, network {name, architecture, fingerprint, dataset, split, images}
    plain {macs, params, accuracy}
    profiles [{setting {...}, plain_ms, pairs}]
    points [{kind, path, threshold, accuracy, macs, macs_share, open, ms, front, times [{ms, ratio, macs_ratio}]}]
    searched, cloud [[macs, accuracy], ...]

A point's ``path`` is that of `Path.to_json`, null where gates decide; ``ms`` and ``front`` (whether no other point
beats it) are those of the first profile; ``times`` has an entry for each profile, ratios as [median, low, high].
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from torchpaths.errors import DataError, PathError
from torchpaths.files.document import read_document
from torchpaths.fronts.measured import Measured, Profile
from torchpaths.fronts.points import Kind, Point, Time
from torchpaths.layout import Layout
from torchpaths.meter.setting import Setting
from torchpaths.meter.timing import Median
from torchpaths.path import Path
from torchpaths.train.checkpoint import write_file

SCHEMA = "torchpaths.front/2"

Some = TypeVar("Some", bound=Measured)


def to_json(front: Measured) -> dict[str, Any]:
    """A front as JSON data, see above."""
    layout = front.layout
    worth_having = {_identity(point) for point in front.points}
    times = list(zip(*(profile.times for profile in front.profiles), strict=True))
    return {
        "schema": SCHEMA,
        "network": {
            "name": front.name,
            "architecture": layout.network,
            "fingerprint": layout.fingerprint,
            "dataset": front.dataset,
            "split": front.split,
            "images": front.images,
        },
        "plain": {"macs": layout.plain.macs, "params": layout.plain.params, "accuracy": front.accuracy},
        "profiles": [
            {"setting": p.setting.to_json(), "plain_ms": p.plain_ms, "pairs": p.pairs} for p in front.profiles
        ],
        "points": [
            {
                "kind": point.kind,
                "path": None if point.path is None else json.loads(point.path.to_json()),
                "threshold": point.threshold,
                "accuracy": point.accuracy,
                "macs": point.macs,
                "macs_share": point.macs / layout.plain.macs,
                "open": point.open,
                "ms": times[i][0].ms if times else None,
                "front": _identity(point) in worth_having,
                "times": [_time(time) for time in times[i]] if times else [],
            }
            for i, point in enumerate(front.candidates)
        ],
        "searched": front.searched,
        "cloud": [list(tried) for tried in front.cloud],
    }


def _identity(point: Point) -> tuple[Path | None, float | None]:
    return point.path, point.threshold


def _time(time: Time) -> dict[str, Any]:
    ratio = time.ratio
    return {"ms": time.ms, "ratio": [ratio.value, ratio.low, ratio.high], "macs_ratio": time.macs_ratio}


def save(front: Measured, where: pathlib.Path) -> pathlib.Path:
    """Write a front, whole or not at all, and return the file; ``where`` as in `Front.save`."""
    file = _file(where)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_file(file, (json.dumps(to_json(front), allow_nan=False) + "\n").encode())
    return file


def load(where: pathlib.Path, kind: type[Some], layout: Layout) -> Some:
    """Read a front as that class, whole and of the right network, or raise `DataError`; see `Front.load`."""
    file = _file(where)
    document = read_document(file, SCHEMA, "front", "torchpaths front RUN")
    try:
        network = document["network"]
        if network["fingerprint"] != layout.fingerprint:
            raise DataError(
                f"{file} is a front of network {network['fingerprint']} ({network['architecture']}), not of "
                f"{layout.fingerprint} ({layout.network}); make one of this network: torchpaths front RUN."
            )
        points = tuple(_point(data, layout) for data in document["points"])
        times = [[_read_time(time) for time in data["times"]] for data in document["points"]]
        if not points or {len(row) for row in times} != {len(document["profiles"])}:
            raise ValueError("no points, or not a time for each profile")
        profiles = tuple(
            Profile(
                Setting.from_json(data["setting"]),
                _positive(data["plain_ms"]),
                int(data["pairs"]),
                tuple(row[i] for row in times),
            )
            for i, data in enumerate(document["profiles"])
        )
        return kind(
            layout=layout,
            candidates=points,
            profiles=profiles,
            accuracy=_share(document["plain"]["accuracy"]),
            images=int(network["images"]),
            cloud=tuple((float(macs), float(accuracy)) for macs, accuracy in document["cloud"]),
            searched=int(document["searched"]),
            name=str(network["name"]),
            dataset=str(network["dataset"]),
            split=str(network["split"]),
        )
    except DataError:
        raise
    except PathError as error:
        raise DataError(f"{file}: {error}") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(
            f"{file}: a front whose contents are malformed ({type(error).__name__}: {error}); the file was edited, "
            "make it anew: torchpaths front RUN."
        ) from error


def _file(where: pathlib.Path) -> pathlib.Path:
    return where if where.suffix == ".json" else where / "front.json"


def _point(data: Mapping[str, Any], layout: Layout) -> Point:
    kind: Kind = data["kind"]
    if kind not in get_args(Kind):
        raise ValueError(f"kind {kind!r}")
    path = None if data["path"] is None else Path.from_json(json.dumps(data["path"]))
    if path is not None:
        path.check(layout)
    threshold = None if data["threshold"] is None else float(data["threshold"])
    if path is None and threshold is None:
        raise ValueError("a point without path and threshold")
    return Point(
        kind, path, threshold, _share(data["accuracy"]), _positive(data["macs"]), _share(data["open"])
    )  # fmt: skip


def _read_time(data: Mapping[str, Any]) -> Time:
    value, low, high = (_positive(number) for number in data["ratio"])
    return Time(_positive(data["ms"]), Median(value, low, high), _positive(data["macs_ratio"]))


def _positive(value: Any) -> float:
    if not 0 < float(value) < math.inf:
        raise ValueError(f"{value!r} where a positive number belongs")
    return float(value)


def _share(value: Any) -> float:
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{value!r} where a share from 0 to 1 belongs")
    return float(value)
