"""A survey's measured columns as JSON, which `torchpaths.surveys.written` reads again; what is not known is absent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from torchpaths.surveys.columns import Alone, Attacked, FrontPoint, Shown, Times


def alone_json(alone: Alone | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The columns of ``units`` that tell of units shut alone, and ``alone``; both empty where that was not tried."""
    if alone is None:
        return {}, {}
    units: dict[str, Any] = {"alone_points": list(alone.points)}
    of: dict[str, Any] = {"images": alone.images, "accuracy": alone.accuracy}
    if alone.cost is not None and alone.before is not None:
        for at, name in enumerate(("macs", "open")):
            units[f"alone_{name}"] = [None if cost is None else cost[at] for cost in alone.cost]
            of[name] = alone.before[at]
    return units, of


def times_json(times: Times | None) -> dict[str, Any]:
    """The columns ``now.ms`` and ``now.gap``; none where nothing was measured."""
    if times is None:
        return {}
    found = {
        "ms": {"value": times.ms, **times.setting.to_json()},
        "gap": times.gap,
        "gap_interval": list(times.gap_interval),
    }
    return found | ({"warnings": list(times.warnings)} if times.warnings else {})


def front_json(front: tuple[FrontPoint, ...]) -> list[dict[str, Any]]:
    """The column ``front``."""
    entries = (
        {
            "kind": p.kind,
            "path": None if p.packed is None else p.packed.hex(),
            "threshold": p.threshold,
            "macs": p.macs,
            "ms": p.ms,
            "accuracy": p.accuracy,
        }
        for p in front
    )
    return [_present(entry) for entry in entries]


def images_json(gallery: tuple[Shown, ...]) -> list[dict[str, Any]]:
    """The column ``images``: thumbs in base64, paths in hexadecimal digits."""
    return [
        {
            "id": image.number,
            "label": image.label,
            **_seen_json(image),
            **(
                {"attacked": [{"name": a.name, "strength": a.strength, **_seen_json(a)} for a in image.attacked]}
                if image.attacked
                else {}
            ),
        }
        for image in gallery
    ]


def _seen_json(image: Shown | Attacked) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "thumb": msgspec.to_builtins(image.thumb),
        "path": image.packed.hex(),
        "top": [list(pair) for pair in image.top],
    }
    if image.score:
        entry["score"] = list(image.score)
    if image.without:
        entry["without"] = {str(unit): [list(pair) for pair in top] for unit, top in image.without.items()}
    return entry


def _present(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is not known."""
    return {name: value for name, value in entry.items() if value is not None}
