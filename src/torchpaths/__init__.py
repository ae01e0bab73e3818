"""torchpaths: networks whose information paths you can see, choose and cut out.

The public surface, imported on first use: ``import torchpaths`` alone costs nothing, so the command answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from torchpaths.version import __version__ as __version__

if TYPE_CHECKING:
    from torchpaths.budget import Budget as Budget
    from torchpaths.calibrating import calibrate as calibrate
    from torchpaths.coding.certificates import Certificate as Certificate
    from torchpaths.coding.certificates import certificate as certificate
    from torchpaths.coding.schemes import codes as codes
    from torchpaths.costs import cost as cost
    from torchpaths.cuts.read import load_cut as load_cut
    from torchpaths.cuts.save import save_cut as save_cut
    from torchpaths.deciders.chance import Chance as Chance
    from torchpaths.deciders.exit import Exit as Exit
    from torchpaths.deciders.gate import Gate as Gate
    from torchpaths.deciders.switch import Switch as Switch
    from torchpaths.explorer import explore as explore
    from torchpaths.exports import Exported as Exported
    from torchpaths.exports import export as export
    from torchpaths.extraction import extract as extract
    from torchpaths.extraction import plain as plain
    from torchpaths.fronts import Front as Front
    from torchpaths.fronts import front as front
    from torchpaths.junction import Junction as Junction
    from torchpaths.junction import Place as Place
    from torchpaths.layout import Cost as Cost
    from torchpaths.layout import Layout as Layout
    from torchpaths.layout import Unit as Unit
    from torchpaths.menus import Menu as Menu
    from torchpaths.menus import compiled as compiled
    from torchpaths.meter import Measurement as Measurement
    from torchpaths.meter import measure as measure
    from torchpaths.meter import measure_all as measure_all
    from torchpaths.methods.adaptive_depth import AdaptiveDepth as AdaptiveDepth
    from torchpaths.methods.base import Method as Method
    from torchpaths.methods.branches import Branches as Branches
    from torchpaths.methods.coded_paths import CodedPaths as CodedPaths
    from torchpaths.methods.filters import Filters as Filters
    from torchpaths.methods.fixed import Fixed as Fixed
    from torchpaths.methods.gated_blocks import GatedBlocks as GatedBlocks
    from torchpaths.methods.gated_filters import GatedFilters as GatedFilters
    from torchpaths.methods.random_drop import RandomDrop as RandomDrop
    from torchpaths.methods.together import Together as Together
    from torchpaths.narrowing.narrow import narrow as narrow
    from torchpaths.path import Path as Path
    from torchpaths.places.residual.parts import Residual as Residual
    from torchpaths.places.residual.split import split as split
    from torchpaths.pretrained import from_pretrained as from_pretrained
    from torchpaths.routed import Routed as Routed
    from torchpaths.routing import route as route
    from torchpaths.shrinking.close import Shrunk as Shrunk
    from torchpaths.shrinking.close import shrink as shrink
    from torchpaths.shrinking.targets import block_targets as block_targets
    from torchpaths.skips.network import Skipping as Skipping
    from torchpaths.skips.network import skipping as skipping
    from torchpaths.statistics import update_bn as update_bn
    from torchpaths.surveys import Survey as Survey
    from torchpaths.surveys import survey as survey
    from torchpaths.trace import Decider as Decider
    from torchpaths.trace import Decision as Decision
    from torchpaths.trace import Site as Site
    from torchpaths.trace import Trace as Trace
    from torchpaths.train.objective import Objective as Objective

_HOME = {
    "AdaptiveDepth": "methods.adaptive_depth",
    "Branches": "methods.branches",
    "Budget": "budget",
    "Certificate": "coding.certificates",
    "Chance": "deciders.chance",
    "CodedPaths": "methods.coded_paths",
    "Cost": "layout",
    "Decider": "trace",
    "Decision": "trace",
    "Exit": "deciders.exit",
    "Exported": "exports",
    "Filters": "methods.filters",
    "Fixed": "methods.fixed",
    "Front": "fronts",
    "Gate": "deciders.gate",
    "GatedBlocks": "methods.gated_blocks",
    "GatedFilters": "methods.gated_filters",
    "Junction": "junction",
    "Layout": "layout",
    "Measurement": "meter",
    "Menu": "menus",
    "Method": "methods.base",
    "Objective": "train.objective",
    "Path": "path",
    "Place": "junction",
    "RandomDrop": "methods.random_drop",
    "Residual": "places.residual.parts",
    "Routed": "routed",
    "Site": "trace",
    "Shrunk": "shrinking.close",
    "Skipping": "skips.network",
    "Survey": "surveys",
    "Switch": "deciders.switch",
    "Together": "methods.together",
    "Trace": "trace",
    "Unit": "layout",
    "block_targets": "shrinking.targets",
    "calibrate": "calibrating",
    "certificate": "coding.certificates",
    "codes": "coding.schemes",
    "compiled": "menus",
    "cost": "costs",
    "explore": "explorer",
    "export": "exports",
    "extract": "extraction",
    "from_pretrained": "pretrained",
    "front": "fronts",
    "load_cut": "cuts.read",
    "measure": "meter",
    "measure_all": "meter",
    "narrow": "narrowing.narrow",
    "plain": "extraction",
    "route": "routing",
    "save_cut": "cuts.save",
    "shrink": "shrinking.close",
    "skipping": "skips.network",
    "split": "places.residual.split",
    "survey": "surveys",
    "update_bn": "statistics",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"torchpaths.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'torchpaths' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
