"""What ``torchpaths survey`` says of what was measured beside the counts: units shut alone, images kept, times."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torchpaths.meter.row import digits
from torchpaths.surveys import Survey

MOST = 8
"""Units shut alone that are named, those that cost most."""


def measured(found: Survey) -> Iterator[str]:
    """Lines for people; none of what was not measured."""
    if found.alone is not None:
        alone = found.alone
        points = zip(found.layout.units, alone.points, strict=True)
        tried = sorted(((lost, unit.name) for unit, lost in points if lost is not None), key=lambda each: -each[0])
        named = ", ".join(f"{name} {-100 * lost + 0.0:+.1f}" for lost, name in tried[:MOST])
        yield f"shut alone, in points of {alone.accuracy:.1%} on {alone.images:,} images: {named}" + (
            f" and {len(tried) - MOST} that cost less" if len(tried) > MOST else ""
        )
    if found.gallery:
        yield f"kept {len(found.gallery)} images to look at"
    if (times := found.times) is not None:
        low, high = times.gap_interval
        yield (
            f"{digits(times.ms)} ms, plain {digits(times.plain_ms)} ms ({times.ms / times.plain_ms:.0%}), "
            f"gap {times.gap:.2f} ({low:.2f} to {high:.2f})\n{times.setting}"
        )
        yield from (f"! {warning}" for warning in times.warnings)


def measured_json(found: Survey) -> dict[str, Any]:
    """The same as JSON data."""
    told: dict[str, Any] = {}
    if (alone := found.alone) is not None:
        points = dict(zip((unit.name for unit in found.layout.units), alone.points, strict=True))
        told["alone"] = {"images": alone.images, "accuracy": alone.accuracy, "lost_by_unit": points}
    if (times := found.times) is not None:
        told["times"] = {
            "ms": times.ms,
            "plain_ms": times.plain_ms,
            "gap": times.gap,
            "gap_interval": list(times.gap_interval),
            "setting": times.setting.to_json(),
            "warnings": list(times.warnings),
        }
    return told
