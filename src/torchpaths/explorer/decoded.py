"""The classifiers of a coded network's classes, for its page: what each class is worth cut out, as yes or no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchpaths.errors import DataError
from torchpaths.schema import Count, Share, convert, reading
from torchpaths.surveys import Survey


def classifiers_of(report: Mapping[str, Any], survey: Survey) -> dict[str, Any]:
    """Precision, recall and F1 by class, of a class cut out (``cut``) and of the whole network's score of it
    (``whole``), and over how many ``images``.

    Args:
        report: what `torchpaths.decoding.decode_report` gives.
        survey: of the same network.

    Raises:
        DataError: for a report of another network or other classes, or one that was edited.
    """
    with reading("the decode report", DataError, "it was edited or cut short; make it anew with torchpaths decode"):
        classes = convert(report["classes"], list[str], "classes")
        units = {site: convert(entry["units"], int, site) for site, entry in report["sites"].items()}
        images: int = convert(report["images"]["test"], Count, "images")
        found = {
            ours: convert(report["classifiers"][theirs]["test"]["by_class"], dict[str, list[Share]], theirs)
            for ours, theirs in (("cut", "paths"), ("whole", "whole"))
        }
        columns = {
            who: {name: numbers[name] for name in ("precision", "recall", "f1")} for who, numbers in found.items()
        }
    layout = survey.layout
    same = units == {site: len(layout.sites.get(site, ())) for site in units} and classes == list(survey.classes)
    if not same or any(len(column) != len(classes) for who in columns.values() for column in who.values()):
        raise DataError(
            f"the decode report is of {report.get('network')}, {len(classes)} classes and {len(units)} coded sites, "
            f"not of the survey's {layout.network}; make both of the same network: torchpaths decode RUN, torchpaths "
            "survey RUN."
        )
    return {"images": images, **columns}
