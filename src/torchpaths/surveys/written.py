"""What a survey's JSON must hold to be read: `Document`. The arrays beside it are in `torchpaths.surveys.arrays`."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec

from torchpaths.layout import Cost, Layout
from torchpaths.meter.setting import Setting
from torchpaths.schema import Count, MalformedError, NotNegative, Positive, Share, Strict, Whole, convert
from torchpaths.surveys.columns import Alone, Attacked, FrontPoint, Shown, Times

Top: TypeAlias = tuple[tuple[Count, Share], ...]


@dataclass(frozen=True)
class Network:
    """Which network, and over which images."""

    name: str
    architecture: str
    method: tuple[str, ...]
    dataset: str
    split: str
    fingerprint: str
    along: str = ""
    weights: str = ""


@dataclass(frozen=True)
class Classes:
    """Names and groups by label."""

    name: tuple[str, ...]
    group: tuple[str, ...] = ()


@dataclass(frozen=True)
class Site:
    """A site and how many units it has."""

    name: str
    units: Count
    decided_by: Literal["input", "class", "outside"]


@dataclass(frozen=True)
class Units:
    """Costs of the units, in columns."""

    macs: list[Whole]
    params: list[Whole]
    alone_points: tuple[float | None, ...] | None = None
    alone_macs: tuple[NotNegative | None, ...] | None = None
    alone_open: tuple[NotNegative | None, ...] | None = None
    ms: tuple[NotNegative, ...] | None = None


@dataclass(frozen=True)
class Paths:
    """How many different paths were taken, and whether all are there."""

    distinct: Count
    whole: bool = True


@dataclass(frozen=True)
class Arrays:
    """Which file holds the arrays, its digest, and whether it has images' paths: all, or of how many."""

    file: str
    sha256: str
    samples: bool
    keep: Count = 0


@dataclass(frozen=True)
class Energies:
    """Where energies were measured."""

    sites: tuple[str, ...]


@dataclass(frozen=True)
class OfAlone:
    """Over which images units were shut one at a time."""

    images: Count
    accuracy: Share
    macs: NotNegative | None = None
    open: NotNegative | None = None


@dataclass(frozen=True)
class Now:
    """What the network takes as it is, where that was measured."""

    ms: dict[str, Any] | None = None
    gap: Positive | None = None
    gap_interval: tuple[Positive, Positive] | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class WithTime:
    """Costs, with milliseconds where they were measured."""

    ms: NotNegative | None = None


@dataclass(frozen=True)
class OfFront:
    """A point of the front."""

    kind: str
    macs: NotNegative
    accuracy: Share
    path: str | None = None
    threshold: float | None = None
    ms: Positive | None = None


@dataclass(frozen=True)
class OfImage:
    """An image of the gallery, or an attacked one."""

    thumb: bytes
    path: str
    top: Top
    score: tuple[float | None, ...] = ()
    without: dict[str, Top] = dataclasses.field(default_factory=dict)
    id: Count = 0
    label: Count = 0
    name: str = ""
    strength: float = 0.0
    attacked: tuple[dict[str, Any], ...] = ()


class Document(Strict, frozen=True):
    """``survey.json``; what is not read of it follows from the rest and the arrays."""

    schema: str
    network: Network
    classes: Classes
    sites: list[Site]
    units: Units
    fixed: dict[str, Any]
    plain: dict[str, Any]
    paths: Paths
    arrays: Arrays
    openness: Any
    histogram: Any
    now: Now
    layout: dict[str, Any] = msgspec.field(default_factory=dict)
    energy: Energies = Energies(())
    code: Any = None
    alone: OfAlone | None = None
    front: tuple[OfFront, ...] = ()
    cloud: tuple[tuple[float, float], ...] = ()
    images: tuple[OfImage, ...] = ()
    filters: dict[str, tuple[Count, ...]] = msgspec.field(default_factory=dict)

    def read_layout(self) -> Layout:
        """The network's layout. Raises `MalformedError` or `PathError` for what is none."""
        columns = self.units
        if sum(site.units for site in self.sites) != len(columns.macs):
            raise MalformedError(f"sites: not of as many units as there are costs, {len(columns.macs)}")
        places = [(site.name, index) for site in self.sites for index in range(site.units)]
        data = {
            "network": self.network.architecture,
            "fingerprint": self.network.fingerprint,
            "site": [name for name, _ in places],
            "index": [index for _, index in places],
            "macs": columns.macs,
            "params": columns.params,
            "fixed": convert(self.fixed, Cost, "fixed"),
            "plain": convert(self.plain, Cost, "plain"),
        }
        return Layout.from_json({**data, **self.layout})

    def measured(self, layout: Layout) -> dict[str, Any]:
        """The fields of `torchpaths.surveys.counts.Counts` that somebody measured beside the counts.

        Raises:
            MalformedError: for a column that does not belong to this network.
        """
        units, classes = len(layout.units), len(self.classes.name)
        found: dict[str, Any] = {"groups": self.classes.group, "cloud": self.cloud}
        if self.classes.group and len(self.classes.group) != classes:
            raise MalformedError(f"classes.group: {len(self.classes.group)} for {classes} classes")
        if (points := self.units.alone_points) is not None:
            if self.alone is None or len(points) != units:
                raise MalformedError(f"units.alone_points: {len(points)} for {units} units, or of no known images")
            found["alone"] = self._alone(points, self.alone)
        if self.now.ms is not None:
            found["times"] = self._times(units)
        found["front"] = tuple(
            FrontPoint(p.kind, None if p.path is None else bits(p.path, units), p.macs, p.accuracy, p.threshold, p.ms)
            for p in self.front
        )
        found["gallery"] = tuple(
            Shown(
                **_seen(image, units, classes),
                number=image.id,
                label=_below(image.label, classes, "label"),
                thumb=image.thumb,
                attacked=tuple(_attacked(entry, units, classes) for entry in image.attacked),
            )
            for image in self.images
        )
        found["filters"] = {_unit(unit, units): images for unit, images in self.filters.items()}
        return found

    def _alone(self, points: tuple[float | None, ...], of: OfAlone) -> Alone:
        macs, opened = self.units.alone_macs, self.units.alone_open
        if macs is None or opened is None or of.macs is None or of.open is None:
            return Alone(points, of.images, of.accuracy)
        if not len(macs) == len(opened) == len(points):
            raise MalformedError(f"units.alone_macs, alone_open: {len(macs)} and {len(opened)} for {len(points)} units")
        pairs = zip(macs, opened, strict=True)
        cost = tuple(None if ran is None or units is None else (ran, units) for ran, units in pairs)
        return Alone(points, of.images, of.accuracy, cost, (of.macs, of.open))

    def _times(self, units: int) -> Times:
        plain, fixed = (convert(entry, WithTime, at).ms for entry, at in ((self.plain, "plain"), (self.fixed, "fixed")))
        setting = dict(self.now.ms or {})
        value = convert(setting.pop("value", None), Positive, "now.ms.value")
        if not plain or self.now.gap is None or self.now.gap_interval is None:
            raise MalformedError("now.ms: without plain.ms, now.gap and now.gap_interval")
        of_units = self.units.ms
        if of_units is not None and len(of_units) != units:
            raise MalformedError(f"units.ms: {len(of_units)} for {units} units")
        interval, warnings = self.now.gap_interval, self.now.warnings
        return Times(Setting.from_json(setting), value, plain, self.now.gap, interval, warnings, of_units, fixed)


def bits(path: str, units: int) -> bytes:
    """A path's bits from its hexadecimal digits."""
    try:
        packed = bytes.fromhex(path)
    except ValueError:
        packed = b""
    if len(packed) != -(-units // 8):
        raise MalformedError(f"path {path[:40]!r} is not one of {units} units")
    return packed


def _seen(image: OfImage, units: int, classes: int) -> dict[str, Any]:
    if image.score and len(image.score) != units:
        raise MalformedError(f"images.score: {len(image.score)} for {units} units")
    without = {_unit(unit, units): _top(top, classes) for unit, top in image.without.items()}
    top = _top(image.top, classes)
    return {"packed": bits(image.path, units), "top": top, "score": image.score, "without": without}


def _attacked(entry: dict[str, Any], units: int, classes: int) -> Attacked:
    image: OfImage = convert(entry, OfImage, "images.attacked")
    return Attacked(**_seen(image, units, classes), name=image.name, strength=image.strength, thumb=image.thumb)


def _top(top: Top, classes: int) -> Top:
    for label, _ in top:
        _below(label, classes, "top")
    return top


def _below(number: int, limit: int, at: str) -> int:
    if number >= limit:
        raise MalformedError(f"images.{at}: {number} of {limit}")
    return number


def _unit(text: str, units: int) -> int:
    if not text.isascii() or not text.isdigit() or int(text[:12]) >= units:
        raise MalformedError(f"{text[:40]!r} is no number of one of {units} units")
    return int(text)
