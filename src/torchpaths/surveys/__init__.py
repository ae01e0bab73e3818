"""What a routed network does over a data set: `survey`, the `Survey` it returns, and the health of its gates.

Analysis knows paths and layouts only, never a method or a model class, so one survey serves every way of deciding. The
figures are in `torchpaths.surveys.figures`, imported on their own because they need matplotlib.
"""

from __future__ import annotations

from torchpaths.surveys.collect import survey
from torchpaths.surveys.counts import Samples
from torchpaths.surveys.health import GateHealth, Health, gate_health
from torchpaths.surveys.order import similarity_order
from torchpaths.surveys.result import Survey
from torchpaths.surveys.taken import PathCount

__all__ = ["GateHealth", "Health", "PathCount", "Samples", "Survey", "gate_health", "similarity_order", "survey"]
