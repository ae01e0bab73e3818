"""torchpaths: networks whose information paths you can see, choose and cut out.

The public surface, imported on first use: ``import torchpaths`` alone costs nothing, so the command answers at once.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torchpaths.compiled import Menu as Menu
    from torchpaths.compiled import compiled as compiled
    from torchpaths.cost import cost as cost
    from torchpaths.cut.read import load_cut as load_cut
    from torchpaths.cut.save import save_cut as save_cut
    from torchpaths.deciders import Chance as Chance
    from torchpaths.deciders import Gate as Gate
    from torchpaths.deciders import Switch as Switch
    from torchpaths.export import Exported as Exported
    from torchpaths.export import export as export
    from torchpaths.extract import extract as extract
    from torchpaths.extract import plain as plain
    from torchpaths.front import Front as Front
    from torchpaths.front import front as front
    from torchpaths.junction import Decision as Decision
    from torchpaths.junction import Junction as Junction
    from torchpaths.junction import Routed as Routed
    from torchpaths.junction import Trace as Trace
    from torchpaths.measure import Measurement as Measurement
    from torchpaths.measure import measure as measure
    from torchpaths.measure import measure_all as measure_all
    from torchpaths.methods.adaptive_depth import AdaptiveDepth as AdaptiveDepth
    from torchpaths.methods.gated_blocks import GatedBlocks as GatedBlocks
    from torchpaths.methods.random_drop import RandomDrop as RandomDrop
    from torchpaths.parts import Residual as Residual
    from torchpaths.path import Path as Path
    from torchpaths.residual import ResidualJunction as ResidualJunction
    from torchpaths.route import route as route
    from torchpaths.skip import Skipping as Skipping
    from torchpaths.skip import skipping as skipping
    from torchpaths.split import split as split
    from torchpaths.survey import Survey as Survey
    from torchpaths.survey import survey as survey
    from torchpaths.train.objective import Objective as Objective
    from torchpaths.units import Budget as Budget
    from torchpaths.units import Cost as Cost
    from torchpaths.units import Layout as Layout
    from torchpaths.units import Unit as Unit

__version__ = "0.1.0"

_HOME = {
    "AdaptiveDepth": "methods.adaptive_depth",
    "Budget": "units",
    "Chance": "deciders",
    "Cost": "units",
    "Decision": "junction",
    "Exported": "export",
    "Front": "front",
    "Gate": "deciders",
    "GatedBlocks": "methods.gated_blocks",
    "Junction": "junction",
    "Layout": "units",
    "Measurement": "measure",
    "Menu": "compiled",
    "Objective": "train.objective",
    "Path": "path",
    "RandomDrop": "methods.random_drop",
    "Residual": "parts",
    "ResidualJunction": "residual",
    "Routed": "junction",
    "Skipping": "skip",
    "Survey": "survey",
    "Switch": "deciders",
    "Trace": "junction",
    "Unit": "units",
    "compiled": "compiled",
    "cost": "cost",
    "export": "export",
    "extract": "extract",
    "front": "front",
    "measure": "measure",
    "measure_all": "measure",
    "load_cut": "cut.read",
    "plain": "extract",
    "route": "route",
    "save_cut": "cut.save",
    "skipping": "skip",
    "split": "split",
    "survey": "survey",
}

__all__ = sorted(_HOME)


class _Package(ModuleType):
    """Importing the file ``route.py`` must not hide the function ``route``, nor any other of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"torchpaths.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'torchpaths' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
