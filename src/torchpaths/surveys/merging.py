"""``merge``: several surveys of one network, each of its own images, as the survey that one process would have made."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from torchpaths.errors import DataError
from torchpaths.surveys.counts import Counts
from torchpaths.surveys.kept import check_apart
from torchpaths.surveys.tally import Tally

Some = TypeVar("Some", bound=Counts)

_MEASURED = ("alone", "times", "front", "cloud", "gallery", "filters")
_ALIKE = {
    "along": "another path",
    "weights": "other weights",
    "groups": "other groups of classes",
    "dataset": "another data set",
    "split": "another split",
}
_COUNTED = ("sums", "taken", "confused", "ran", "together")
_NONE = np.zeros(0, np.int64)


def merge(first: Some, others: Sequence[Counts]) -> Some:
    """See `torchpaths.surveys.Survey.merge`."""
    for number, other in enumerate(others, 2):
        if not isinstance(other, Counts):
            raise DataError(f"number {number} is a {type(other).__name__} and no survey; read it by Survey.load.")
        if other.layout != first.layout:
            raise DataError(
                f"survey {number} is of network {other.layout.fingerprint} ({other.layout.network}), the first of "
                f"{first.layout.fingerprint} ({first.layout.network}), or along a path of its own; merge surveys of "
                "one network that decides in one way."
            )
        if other.classes != first.classes:
            raise DataError(f"survey {number} is of other classes than the first; merge surveys of one data set.")
        for name, of in _ALIKE.items():
            values = {getattr(survey, name) for survey in (first, other)} - {"", ()}  # those are not known
            if len(values) > 1:
                raise DataError(
                    f"survey {number} is of {of} than the first; merge surveys of one network that decides in one way, "
                    "over one split of one data set."
                )
        if (other.samples is None) != (first.samples is None) or other.keep != first.keep:
            raise DataError(
                f"survey {number} kept the paths of {_kept(other)}, the first of {_kept(first)}; give each process the "
                "same keep_paths, or survey --keep."
            )
    every: tuple[Counts, ...] = (first, *others)
    if len({id(survey) for survey in every}) < len(every):
        raise DataError(
            "one survey is given twice, so its images would count twice; merge surveys that are each of other images."
        )
    if any(getattr(survey, name) is None for survey in every for name in _COUNTED):
        raise DataError(
            "a survey among these was made by an older version, which counted less, and cannot be merged; survey its "
            "images again."
        )
    # Before samples are merged, which drops most numbers of small ones.
    check_apart(np.concatenate([np.unique(s.samples.numbers) for s in every if s.samples is not None] or [_NONE]))
    tally = Tally(first.layout, first.classes, first.keep)
    for survey in every:
        tally.join(survey)
    unlike = {f.name: f for f in dataclasses.fields(Counts) if f.name in _MEASURED}
    alike = {name for name in unlike if all(getattr(other, name) == getattr(first, name) for other in others)}
    kept: dict[str, Any] = {name: getattr(first, name) for name in alike}
    nothing = {name: f.default_factory() if callable(f.default_factory) else f.default for name, f in unlike.items()}
    return dataclasses.replace(first, **{**tally.fields(), **nothing, **kept})


def _kept(survey: Counts) -> str:
    return "all images" if survey.keep is None else f"{survey.keep} images" if survey.keep else "no image"
