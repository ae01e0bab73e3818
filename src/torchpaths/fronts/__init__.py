"""The menu of a network: `front` makes it, `Front` holds it, ``front.best(Budget(...))`` chooses a `Point` from it.

| file | what |
|---|---|
| `build` | `front`: search, measure, time |
| `candidates` | where choices come from, one function for each source |
| `evaluate` | accuracy, MACs and open units of choices over images |
| `profile` | their times |
| `points` | choices, points, which of them are worth having |
| `measured` | what was measured, and which points are worth having |
| `files` | the same as front.json |
| `result` | `Front` and the best point in a budget |
| `figure` | the plot |
"""

from __future__ import annotations

from torchpaths.fronts.build import front
from torchpaths.fronts.measured import Profile
from torchpaths.fronts.points import Choice, Point, Time
from torchpaths.fronts.result import Front

__all__ = ["Choice", "Front", "Point", "Profile", "Time", "front"]
