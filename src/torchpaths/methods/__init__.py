"""The four papers' methods and controls, each a frozen dataclass of knobs, and their names for the command line."""

from __future__ import annotations

from torchpaths.methods.adaptive_depth import AdaptiveDepth
from torchpaths.methods.base import Method
from torchpaths.methods.branches import Branches
from torchpaths.methods.coded_paths import CodedPaths
from torchpaths.methods.filters import Filters
from torchpaths.methods.fixed import Fixed
from torchpaths.methods.gated_blocks import GatedBlocks
from torchpaths.methods.gated_filters import GatedFilters
from torchpaths.methods.random_drop import RandomDrop
from torchpaths.methods.together import Together

METHODS: dict[str, type[Method] | None] = {
    "AdaptiveDepth": AdaptiveDepth,
    "Branches": Branches,
    "CodedPaths": CodedPaths,
    "Filters": Filters,
    "Fixed": Fixed,
    "GatedBlocks": GatedBlocks,
    "GatedFilters": GatedFilters,
    "RandomDrop": RandomDrop,
    "none": None,
}
"""Name -> method; ``none`` is the plain network."""

__all__ = [
    "METHODS",
    "AdaptiveDepth",
    "Branches",
    "CodedPaths",
    "Filters",
    "Fixed",
    "GatedBlocks",
    "GatedFilters",
    "Method",
    "RandomDrop",
    "Together",
]
