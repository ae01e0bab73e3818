"""A survey as the one document that the page reads: its JSON, with the arrays that stand beside it inlined.

Shares become bytes (`torchpaths.explorer.packing`), points of a front paths in hexadecimal digits, pictures addresses
with their data in them. What was not measured stays absent: the page then draws no panel for it, and a dash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from torchpaths.errors import DataError
from torchpaths.explorer.decoded import classifiers_of
from torchpaths.explorer.packing import LARGE, overview, packed
from torchpaths.fronts.measured import Measured
from torchpaths.surveys import Survey
from torchpaths.surveys.files import document as survey_json
from torchpaths.surveys.gallery import MOST

PNG = "data:image/png;base64,"
"""Before a picture's data in an address."""


def document(
    survey: Survey,
    front: Measured | None = None,
    page: dict[str, Any] | None = None,
    decoded: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the page reads of a survey.

    Args:
        survey: of any network.
        front: of the same network, for the dial.
        page: how the page is shown: ``run``, the folder that commands name; ``live``, where the model runs.
        decoded: the decode report of the same network, for what classes are worth cut out.

    Raises:
        DataError: for a front or a report of another network.
    """
    data = survey_json(survey)
    rows = data["classes"]["order"]
    sites = [{"note": "", **site} for site in data["sites"]]
    shares = survey.openness
    made = {**data, "sites": sites, "page": page or {}}
    made["units"] |= {name: _rounded(data["units"][name]) for name in ("rate", "spread")}
    made["openness"] = {"images": survey.images.tolist(), **packed(shares)}
    if shares.size > LARGE:
        made["openness"]["overview"] = overview(shares, rows, _columns(sites))
    if survey.energies is not None:
        made["energy"] = packed(_energy_shares(survey))
    if survey.code is not None:
        made["code"] = packed(survey.code.astype(np.float64))
    made["histogram"] = {"all": data["histogram"]["all"]}
    made["plain"] = {**data["plain"], "ms": _value(data["plain"].get("ms"))}
    made["images"] = [image_of(image) for image in data.get("images", [])[:MOST]]
    if decoded is not None:
        made["classifiers"] = classifiers_of(decoded, survey)
    if front is not None:
        made |= _front(front, survey)
        made["plain"]["accuracy"] = front.accuracy
    elif made.get("front"):
        made["menu"] = {}  # a survey holds points of a front, not what the plain network took beside them
        made["plain"]["accuracy"] = next((p["accuracy"] for p in made["front"] if p["kind"] == "full"), None)
    made.pop("arrays", None)  # of the files that it was read from
    return made


def _energy_shares(survey: Survey) -> NDArray[np.float64]:
    """``[class, unit]``: a unit's share of its site's energy; where none was measured, of images that open it."""
    energies = survey.energies
    assert energies is not None
    shares = survey.openness
    start = 0
    for members in survey.layout.sites.values():
        own = energies[:, start : start + len(members)]
        if not np.isnan(own).all():
            with np.errstate(invalid="ignore", divide="ignore"):
                shares[:, start : start + len(members)] = own / own.sum(1, keepdims=True)
        start += len(members)
    return shares


def _columns(sites: list[dict[str, Any]]) -> NDArray[np.int64]:
    """Numbers of units in the order in which they are drawn."""
    orders = (site.get("order") or range(site["units"]) for site in sites)
    return np.array([site["start"] + i for site, order in zip(sites, orders, strict=True) for i in order], np.int64)


def _rounded(values: list[float | None]) -> list[float | None]:
    """To five digits, more than are drawn: of ten thousand units the others would be a fifth of a megabyte."""
    return [None if value is None else round(value, 5) for value in values]


def _value(value: float | None) -> dict[str, float] | None:
    return None if value is None else {"value": value}


def image_of(image: dict[str, Any]) -> dict[str, Any]:
    """An image with its picture, and those of its attacks, as addresses."""
    shown = {**image, "thumb": PNG + image["thumb"]}
    if "strength" in image:  # of the pixels' range; people count in its 255 steps
        shown["strength"] = float(f"{image['strength'] * 255:.3g}")
    if attacked := image.get("attacked"):
        shown["attacked"] = [image_of(each) for each in attacked]
    return shown


def _front(front: Measured, survey: Survey) -> dict[str, Any]:
    """The columns of a front: all its points, since the page draws the dominated ones too, and what else was tried.

    ``menu`` is the run that they are of: its times stand beside the plain network's of that run, never the survey's,
    and its accuracies beside the survey's only where both are of the same images (``same``).
    """
    layout = survey.layout
    if front.layout.fingerprint != layout.fingerprint:
        raise DataError(
            f"the front is of network {front.layout.fingerprint}, the survey of {layout.fingerprint} "
            f"({layout.network}); make both of the same network: torchpaths survey RUN, torchpaths front RUN."
        )
    profile = front.profiles[0] if front.profiles else None
    times = profile.times if profile else [None] * len(front.candidates)
    points = []
    for point, time in zip(front.candidates, times, strict=True):
        fixed = point.path if point.fixed else None
        bits = None if fixed is None else np.packbits(fixed.opened(layout)[0]).tobytes().hex()
        entry = {"kind": point.kind, "path": bits, "threshold": point.threshold, "macs": point.macs}
        entry |= {"accuracy": point.accuracy, "open": point.open, "ms": None if time is None else time.ms}
        points.append(entry)
    whole = (front.dataset, front.split, front.images) == (survey.dataset, survey.split, int(survey.images.sum()))
    menu: dict[str, Any] = {"images": front.images, "same": whole}
    if profile:
        menu |= {"plain_ms": profile.plain_ms, "setting": profile.setting.to_json()}
    return {"front": points, "cloud": [list(tried) for tried in front.cloud[:500]], "menu": menu}
