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
    sites = layout.sites
    for number, unit in enumerate(layout.units):
        single = len(sites[unit.site]) == 1
        name = stage_name(unit.site) if single else unit.site
        if not groups or groups[-1][0] != name:
            groups.append((name, number, []))
        groups[-1][2].append(unit.site[len(name) :].lstrip(".") if single else str(unit.index))
    return [Stage(name, start, tuple(labels)) for name, start, labels in groups]


def noun(layout: Layout) -> str:
    """What figures call a unit: a block where each site has just one, a unit otherwise (branches, filters)."""
    return "block" if len(layout.sites) == len(layout.units) else "unit"
