"""How a network's units group into stages, from the names of their sites alone."""

from __future__ import annotations

from dataclasses import dataclass

from torchpaths.layout import Layout


@dataclass(frozen=True)
class Stage:
    """Consecutive units whose names begin alike.

    Attributes:
        name: what they share, ``layer3``.
        start: number of the first unit in the layout.
        labels: what tells them apart, ``("0", "1", ...)``.
    """

    name: str
    start: int
    labels: tuple[str, ...]


def stage_name(site: str) -> str:
    """The part of a network that a site belongs to: its name up to the last number, ``layer3.2`` -> ``layer3``."""
    parts = site.split(".")
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[: numbers[-1]]) if numbers else ".".join(parts[:-1])


def stages(layout: Layout) -> list[Stage]:
    """The stages of a network, in order of execution; a site of several units is a stage of its own."""
    groups: list[tuple[str, int, list[str]]] = []
    parts = {stage_name(unit.site) for unit in layout.units}
    for number, unit in enumerate(layout.units):
        single = unit.siblings == 1
        whole = single and unit.site in parts  # a stage that is a site itself, among its blocks
        name = stage_name(unit.site) if single and not whole else unit.site
        if not groups or groups[-1][0] != name:
            groups.append((name, number, []))
        label = unit.kind if whole else unit.site[len(name) :].lstrip(".") if single else str(unit.index)
        groups[-1][2].append(label)
    return [Stage(name, start, tuple(labels)) for name, start, labels in groups]


def noun(layout: Layout) -> str:
    """What figures call a unit: a block or a stage where each is a site by itself, else a unit."""
    single = len(layout.sites) == len(layout.units)
    return next(iter(layout.kinds)) if single and len(layout.kinds) == 1 else "unit"
