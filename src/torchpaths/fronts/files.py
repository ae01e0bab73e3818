"""A front on disk: one versioned JSON file beside the model, read by `Front.load`, by ``cut --budget`` and by the page.

    schema, network {name, architecture, fingerprint, dataset, split, images}
    plain {macs, params, accuracy}
    profiles [{setting {...}, plain_ms, pairs, spread, waited, warnings}]
    points [{kind, path, threshold, accuracy, macs, macs_share, open, ms, front, times [...]}]
    a time: {ms, ratio, macs_ratio, warnings}
    searched, cloud [[macs, accuracy], ...], warnings

A point's ``path`` is that of `Path.to_json`, null where gates decide; ``ms`` and ``front`` (whether no other point
beats it) are those of the first profile; ``times`` has an entry for each profile, ratios as [median, low, high].
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass
from typing import Any, TypeVar

from torchpaths.errors import DataError
from torchpaths.files.document import read_document
from torchpaths.files.write import disk, write_file
from torchpaths.fronts.measured import Measured, Profile
from torchpaths.fronts.points import Kind, Point, Time
from torchpaths.fronts.swaps import swaps
from torchpaths.layout import Layout
from torchpaths.meter.setting import Setting
from torchpaths.meter.timing import Median
from torchpaths.path import Path
from torchpaths.schema import Count, MalformedError, NotNegative, Positive, Share, reading

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
            {
                "setting": p.setting.to_json(),
                "plain_ms": p.plain_ms,
                "pairs": p.pairs,
                "spread": p.spread,
                "waited": p.waited,
                "warnings": list(p.warnings),
            }
            for p in front.profiles
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
        "warnings": list(swaps(front)),
    }


def _identity(point: Point) -> tuple[Path | None, float | None]:
    return point.path, point.threshold


def _time(time: Time) -> dict[str, Any]:
    ratio = time.ratio
    return {
        "ms": time.ms,
        "ratio": [ratio.value, ratio.low, ratio.high],
        "macs_ratio": time.macs_ratio,
        "warnings": list(time.warnings),
    }


def save(front: Measured, where: pathlib.Path) -> pathlib.Path:
    """Write a front, whole or not at all, and return the file; ``where`` as in `Front.save`."""
    file = _file(where)
    text = json.dumps(to_json(front), allow_nan=False) + "\n"
    with disk(file, "what was there before is intact"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, text.encode())
    return file


def load(where: pathlib.Path, kind: type[Some], layout: Layout) -> Some:
    """Read a front as that class, whole and of the right network, or raise `DataError`; see `Front.load`."""
    file = _file(where)
    with reading(file, DataError, "the file was edited, make it anew: torchpaths front RUN"):
        document: _Document = read_document(file, SCHEMA, "front", "torchpaths front RUN", _Document)
        network = document.network
        if network.fingerprint != layout.fingerprint:
            raise DataError(
                f"{file} is a front of network {network.fingerprint} ({network.architecture}), not of "
                f"{layout.fingerprint} ({layout.network}); make one of this network: torchpaths front RUN."
            )
        if not document.points or {len(point.times) for point in document.points} != {len(document.profiles)}:
            raise MalformedError("no points, or not a time for each profile")
        return kind(
            layout=layout,
            candidates=tuple(point.read(layout) for point in document.points),
            profiles=tuple(
                profile.read(tuple(point.times[i].read() for point in document.points))
                for i, profile in enumerate(document.profiles)
            ),
            accuracy=document.plain.accuracy,
            images=network.images,
            cloud=document.cloud,
            searched=document.searched,
            name=network.name,
            dataset=network.dataset,
            split=network.split,
        )


def _file(where: pathlib.Path) -> pathlib.Path:
    return where if where.suffix == ".json" else where / "front.json"


@dataclass(frozen=True)
class _Network:
    name: str
    architecture: str
    fingerprint: str
    dataset: str
    split: str
    images: Count


@dataclass(frozen=True)
class _Plain:
    accuracy: Share


@dataclass(frozen=True)
class _Profile:
    setting: dict[str, Any]
    plain_ms: Positive
    pairs: Count
    spread: Positive | None = None
    waited: Share | None = None

    def read(self, times: tuple[Time, ...]) -> Profile:
        setting = Setting.from_json(self.setting)
        return Profile(setting, self.plain_ms, self.pairs, times, self.spread, self.waited)


@dataclass(frozen=True)
class _Time:
    ms: Positive
    ratio: tuple[Positive, Positive, Positive]
    macs_ratio: Positive

    def read(self) -> Time:
        return Time(self.ms, Median(*self.ratio), self.macs_ratio)


@dataclass(frozen=True)
class _Point:
    kind: Kind
    path: dict[str, Any] | None
    threshold: float | None
    accuracy: Share
    macs: NotNegative
    open: Share
    times: list[_Time]

    def read(self, layout: Layout) -> Point:
        path = None if self.path is None else Path.from_data(self.path)
        if path is not None:
            path.check(layout)
        if path is None and self.threshold is None:
            raise MalformedError("a point without path and threshold")
        return Point(self.kind, path, self.threshold, self.accuracy, self.macs, self.open)


@dataclass(frozen=True)
class _Document:
    network: _Network
    plain: _Plain
    profiles: list[_Profile]
    points: list[_Point]
    searched: Count
    cloud: tuple[tuple[float, float], ...]
