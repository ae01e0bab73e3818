"""The arrays of a survey's file: a survey's counts as arrays and back, and what arrays must be to be read.

Counts are written in the narrowest whole numbers that hold them and read as int64. A group of arrays may be absent,
where an older version did not count it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from torchpaths.layout import Layout
from torchpaths.schema import MalformedError
from torchpaths.surveys.counts import Counts, Energy, Samples, Sums, Together, moments
from torchpaths.surveys.taken import TOP_PATHS, Ints, PathCount, Taken

Arrays: TypeAlias = Mapping[str, NDArray[Any]]

_LIMB = 2**62
"""Sums of squares may pass what a whole number of 64 bits holds: they are written as how often this goes into them,
and what is left."""


def to_arrays(survey: Counts) -> dict[str, NDArray[Any]]:
    """A survey's counts by name, see `forms`."""
    found: dict[str, NDArray[Any]] = {
        "images": survey.images,
        "correct": survey.correct,
        "opened": survey.opened,
        "histogram": survey.histogram,
    }
    if survey.sums is None:
        found |= {"macs": survey.macs_by_class, "macs_std": survey.macs_std_by_class}
    else:
        found["macs_sums"] = np.array(survey.sums.macs, np.int64)
        found["macs_squares"] = np.array([divmod(n, _LIMB) for n in survey.sums.squares], np.int64).reshape(-1, 2)
    if survey.taken is None:
        top = survey.top_paths
        found["path"] = np.array([list(p.packed) for p in top], np.uint8).reshape(len(top), -1)
        found["path_count"] = np.array([[p.count, p.label] for p in top], np.int64).reshape(-1, 2)
        found["path_share"] = np.array([p.share for p in top], np.float64)
    else:
        found |= {f"taken_{name}": getattr(survey.taken, name) for name in ("packed", *_TAKEN)}
    if survey.samples is not None:
        found |= {f"sample_{name}": getattr(survey.samples, name) for name in ("packed", *_SAMPLE)}
    if survey.together is not None:
        found |= {"together_units": survey.together.units, "together": survey.together.counts}
    if survey.energy is not None:
        found["energy"] = survey.energy.sums
    found |= {
        name: array for name in ("confused", "ran", "top5", "code") if (array := getattr(survey, name)) is not None
    }
    return {name: np.ascontiguousarray(_narrow(array)) for name, array in found.items()}


_TAKEN = ("labels", "predictions", "counts")
_SAMPLE = ("labels", "predictions", "macs", "numbers")


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype != np.int64 or not array.size or array.min() < 0:
        return array
    kind = next((kind for kind in (np.uint8, np.uint16, np.uint32) if array.max() <= np.iinfo(kind).max), np.int64)
    return array.astype(kind)


def from_arrays(
    arrays: Arrays, layout: Layout, classes: int, energetic: Sequence[str], distinct: int, whole: bool
) -> dict[str, Any]:
    """The fields of `Counts` that arrays hold.

    Args:
        arrays: as they were read; older versions wrote fewer.
        layout: of the network.
        classes: how many.
        energetic: sites where energies were measured.
        distinct: how many different paths were taken, for arrays that do not tell.
        whole: whether all of them are there.

    Raises:
        MalformedError: unless these are the arrays of a survey of so many classes and units.
    """
    if "sample_labels" in arrays and "sample_numbers" not in arrays:  # version 1 kept all
        arrays = {**arrays, "sample_numbers": np.arange(len(arrays["sample_labels"]))}
    held = _checked(arrays, classes, layout, tuple(energetic), whole)
    images = held["images"]
    fields: dict[str, Any] = {name: held[name] for name in ("images", "correct", "opened", "histogram")}
    fields |= {name: held.get(name) for name in ("confused", "ran", "top5", "code")}
    if "macs" in held:
        fields |= {"macs_by_class": held["macs"], "macs_std_by_class": held["macs_std"]}
    else:
        squares = tuple(high * _LIMB + low for high, low in held["macs_squares"].tolist())
        sums = Sums(tuple(held["macs_sums"].tolist()), squares)
        means, deviations = moments(sums, images)
        fields |= {"sums": sums, "macs_by_class": means, "macs_std_by_class": deviations}
    if "path" in held:
        paths = zip(held["path"], held["path_count"].tolist(), held["path_share"].tolist(), strict=True)
        top = tuple(PathCount(bits.tobytes(), count, label, share) for bits, (count, label), share in paths)
        fields |= {"distinct_paths": distinct, "top_paths": top}
    else:
        labels, predictions, counts = (held[f"taken_{name}"] for name in _TAKEN)
        taken = Taken(held["taken_packed"], labels, predictions, counts, whole)
        top = taken.top(TOP_PATHS, images)
        fields |= {"taken": taken, "distinct_paths": taken.distinct, "top_paths": top}
    if "sample_packed" in held:
        fields["samples"] = Samples(held["sample_packed"], *(held[f"sample_{name}"] for name in _SAMPLE))
    if "together" in held:
        fields["together"] = Together(held["together_units"], held["together"])
    if "energy" in held:
        fields["energy"] = Energy(tuple(energetic), held["energy"])
    return fields


def _checked(
    arrays: Arrays, classes: int, layout: Layout, energetic: tuple[str, ...], whole: bool
) -> dict[str, NDArray[Any]]:
    """The arrays, whole numbers as int64. Raises `MalformedError` for what is missing or can't be."""
    held: dict[str, NDArray[Any]] = {}
    for name, (kind, shape) in _forms(arrays, classes, layout).items():
        found = arrays.get(name)
        if found is None:
            raise MalformedError(f"array {name!r} is missing")
        if found.dtype.kind == "u" and kind is np.int64:
            found = found.astype(np.int64)
        if found.dtype != kind or found.shape != shape:
            raise MalformedError(f"array {name!r} is {found.dtype} {found.shape}, not {np.dtype(kind)} {shape}")
        held[name] = found
    if energetic and "energy" not in held:
        raise MalformedError("array 'energy' is missing")
    _check_counts(held, classes, len(layout.units))
    _check_sums(held, layout, whole)
    return held


def _forms(arrays: Arrays, classes: int, layout: Layout) -> dict[str, tuple[type[Any], tuple[int, ...]]]:
    """What each array is to be: type, and shape."""
    units = len(layout.units)
    packed = -(-units // 8)
    rows = {name: len(arrays[name]) if name in arrays else 0 for name in _ROWS}
    forms: dict[str, tuple[type[Any], tuple[int, ...]]] = {
        "images": (np.int64, (classes,)),
        "correct": (np.int64, (classes,)),
        "opened": (np.int64, (classes, units)),
        "histogram": (np.int64, (classes, units + 1)),
    }
    if "macs_sums" in arrays:
        forms |= {"macs_sums": (np.int64, (classes,)), "macs_squares": (np.int64, (classes, 2))}
    else:
        forms |= {"macs": (np.float64, (classes,)), "macs_std": (np.float64, (classes,))}
    if "taken_labels" in arrays:
        forms |= {f"taken_{name}": (np.int64, (rows["taken_labels"],)) for name in _TAKEN}
        forms["taken_packed"] = (np.uint8, (rows["taken_labels"], packed))
    else:
        width = packed if rows["path"] else arrays["path"].shape[-1] if "path" in arrays else 0
        forms |= {"path": (np.uint8, (rows["path"], width)), "path_count": (np.int64, (rows["path"], 2))}
        forms["path_share"] = (np.float64, (rows["path"],))
    if "sample_labels" in arrays:
        forms |= {f"sample_{name}": (np.int64, (rows["sample_labels"],)) for name in _SAMPLE}
        forms["sample_packed"] = (np.uint8, (rows["sample_labels"], packed))
    if "together" in arrays:
        some = rows["together"]
        forms |= {"together": (np.int64, (some, some)), "together_units": (np.int64, (some,))}
    optional: dict[str, tuple[type[Any], tuple[int, ...]]] = {
        "confused": (np.int64, (rows["confused"], 3)),
        "ran": (np.int64, (classes, len(layout.sites))),
        "top5": (np.int64, (classes,)),
        "energy": (np.int64, (classes, units)),
        "code": (np.bool_, (classes, units)),
    }
    return forms | {name: form for name, form in optional.items() if name in arrays}


_ROWS = ("path", "taken_labels", "sample_labels", "together", "confused")


def _check_counts(held: Arrays, classes: int, units: int) -> None:
    """Raise `MalformedError` for numbers that cannot be counts of these images, classes or units."""
    seen = held["images"]
    total = int(seen.sum())
    if total < 1:
        raise MalformedError("array 'images' counts none")
    most: dict[str, Any] = {
        "images": None,
        "correct": seen,
        "opened": seen,
        "histogram": seen,
        "ran": seen,
        "top5": seen,
        "macs_sums": None,
        "macs_squares": None,
        "path_count": classes - 1,
        "taken_labels": classes - 1,
        "taken_predictions": classes - 1,
        "taken_counts": total,
        "confused": classes - 1,
        "together": total,
        "together_units": units - 1,
        "energy": None,
        "sample_labels": classes - 1,
        "sample_predictions": classes - 1,
        "sample_macs": None,
        "sample_numbers": None,
    }
    columns = {"path_count": slice(1, 2), "confused": slice(0, 2)}
    for name in most.keys() & held.keys():
        values, limit = held[name].T, most[name]
        values = values[columns[name]] if name in columns else values
        if (values < 0).any() or (limit is not None and (values > limit).any()):
            raise MalformedError(f"array {name!r} holds numbers that cannot be counts of these images or classes")
    for name in {"macs", "macs_std", "path_share"} & held.keys():
        if not np.isfinite(held[name][seen > 0] if name != "path_share" else held[name]).all():
            raise MalformedError(f"array {name!r} holds what is no finite number")
    if any((np.diff(held[name]) <= 0).any() for name in {"sample_numbers", "together_units"} & held.keys()):
        raise MalformedError("arrays 'sample_numbers' and 'together_units' are to rise")


def _check_sums(held: Arrays, layout: Layout, whole: bool) -> None:
    """Raise `MalformedError` where counts of the same images contradict each other."""
    images, correct, opened, histogram = (held[name] for name in ("images", "correct", "opened", "histogram"))
    agree = {"histogram": (histogram.sum(1) == images).all()}
    agree["opened"] = (histogram @ np.arange(histogram.shape[1]) == opened.sum(1)).all()
    if "macs_sums" in held:
        squares = (high * _LIMB + low for high, low in held["macs_squares"].tolist())
        rows = zip(images.tolist(), held["macs_sums"].tolist(), squares, strict=True)
        agree["macs_squares"] = all(n * square >= macs**2 for n, macs, square in rows)
    tables = {"confused": held["confused"].T} if "confused" in held else {}
    if whole and "taken_labels" in held:
        tables["taken_labels"] = np.stack([held[f"taken_{name}"] for name in _TAKEN])
    for name, (labels, predictions, counts) in tables.items():
        right = labels == predictions
        agree[name] = (_sums(labels, counts, images) == images).all()
        agree[name] &= (_sums(labels[right], counts[right], images) == correct).all()
    if "together" in held:
        together, units = held["together"], held["together_units"]
        agree["together"] = (together == together.T).all() and (together.diagonal() == opened.sum(0)[units]).all()
    if "ran" in held:
        agree["ran"] = (np.repeat(held["ran"], [len(units) for units in layout.sites.values()], axis=1) >= opened).all()
    if "sample_labels" in held:
        agree["sample_labels"] = (np.bincount(held["sample_labels"], minlength=len(images)) <= images).all()
    if wrong := [name for name, fits in agree.items() if not fits]:
        raise MalformedError(f"array {wrong[0]!r} contradicts the other counts of the same images")


def _sums(labels: Ints, counts: Ints, images: Ints) -> Ints:
    found = np.zeros_like(images)
    np.add.at(found, labels, counts)
    return found


def narrowest(values: Ints) -> str:
    """The type that counts are written in, by name."""
    return str(_narrow(values).dtype)
