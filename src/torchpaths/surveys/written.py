"""What a survey's files must hold to be read: `Document`, the JSON, and the arrays beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from torchpaths.layout import Cost
from torchpaths.schema import Count, MalformedError, Strict, Whole


@dataclass(frozen=True)
class Network:
    """Which network, and over which images."""

    name: str
    architecture: str
    method: tuple[str, ...]
    dataset: str
    split: str
    fingerprint: str


@dataclass(frozen=True)
class Classes:
    """Names by label."""

    name: tuple[str, ...]


@dataclass(frozen=True)
class Site:
    """A site and how many units it has."""

    name: str
    units: Count
    decided_by: Literal["input", "outside"]


@dataclass(frozen=True)
class Units:
    """Costs of the units, in columns."""

    macs: list[Whole]
    params: list[Whole]


@dataclass(frozen=True)
class Paths:
    """How many different paths were taken."""

    distinct: Count


@dataclass(frozen=True)
class Arrays:
    """Which file holds the arrays, its digest, and whether it has every image's path."""

    file: str
    sha256: str
    samples: bool


class Document(Strict, frozen=True):
    """``survey.json``; what is not read of it follows from the rest and the arrays."""

    schema: str
    network: Network
    classes: Classes
    sites: list[Site]
    units: Units
    fixed: Cost
    plain: Cost
    paths: Paths
    arrays: Arrays
    openness: Any
    histogram: Any
    now: Any
    layout: dict[str, Any] = msgspec.field(default_factory=dict)


def check_arrays(arrays: Mapping[str, NDArray[Any]], classes: int, units: int, samples: bool) -> None:
    """Raise `MalformedError` unless these are the arrays of a survey of so many classes and units.

    Args:
        arrays: by name.
        classes: how many.
        units: how many.
        samples: whether every image's path is among them.
    """
    packed = -(-units // 8)
    rows, images = (len(arrays[name]) if name in arrays else 0 for name in ("path", "sample_labels"))
    forms: dict[str, tuple[type[Any], tuple[int, ...]]] = {
        "images": (np.int64, (classes,)),
        "correct": (np.int64, (classes,)),
        "opened": (np.int64, (classes, units)),
        "histogram": (np.int64, (classes, units + 1)),
        "macs": (np.float64, (classes,)),
        "macs_std": (np.float64, (classes,)),
        "path": (np.uint8, (rows, packed if rows else arrays["path"].shape[-1] if "path" in arrays else 0)),
        "path_count": (np.int64, (rows, 2)),
        "path_share": (np.float64, (rows,)),
    }
    if samples:
        forms |= {f"sample_{name}": (np.int64, (images,)) for name in ("labels", "predictions", "macs")}
        forms["sample_packed"] = (np.uint8, (images, packed))
    for name, (kind, shape) in forms.items():
        found = arrays.get(name)
        if found is None:
            raise MalformedError(f"array {name!r} is missing")
        if found.dtype != kind or found.shape != shape:
            raise MalformedError(f"array {name!r} is {found.dtype} {found.shape}, not {np.dtype(kind)} {shape}")
    seen = arrays["images"]
    counts: dict[str, tuple[NDArray[Any], Any]] = {
        "images": (seen, None),
        "correct": (arrays["correct"], seen),
        "opened": (arrays["opened"].T, seen),
        "histogram": (arrays["histogram"].T, seen),
        "path_count": (arrays["path_count"][:, 1], classes - 1),
    }
    if samples:
        counts["sample_labels"] = (arrays["sample_labels"], classes - 1)
        counts["sample_predictions"] = (arrays["sample_predictions"], None)
    for name, (values, most) in counts.items():
        if (values < 0).any() or (most is not None and (values > most).any()):
            raise MalformedError(f"array {name!r} holds numbers that cannot be counts of these images or classes")
