"""Methods as the command names them: ``GatedBlocks``, ``package.module:Class``, several with commas between; and models
of somebody else's."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from typing import Any

from torchpaths.cli import MisuseError
from torchpaths.errors import near, reason
from torchpaths.methods import METHODS, Method, Together
from torchpaths.models import MODELS


def named(text: str) -> Method | None:
    """The method or methods of a name, each at its own defaults.

    Raises:
        MisuseError: as `classes`; and for a method that cannot be made without arguments.
        RouteError: for methods that do not go together.
    """
    made = [_made(kind) for kind in classes(text)]
    return made[0] if len(made) == 1 else Together(tuple(made)) if made else None


def classes(text: str) -> list[type[Method]]:
    """The classes of a name; empty for ``none``.

    Args:
        text: names of `torchpaths.methods.METHODS`, and ``package.module:Class`` for methods of other packages, whose
            modules are imported here; as with ``python -m``, also from the working directory.

    Raises:
        MisuseError: for a name that leads to no method.
    """
    names = [name.strip() for name in text.split(",")]
    return [] if names == ["none"] else [_class(name) for name in names]


def _class(name: str) -> type[Method]:
    kind: Any = _imported(name) if ":" in name else METHODS.get(name)
    if kind is None:
        if name in METHODS:
            raise MisuseError(f"{name!r} stands for no method at all, so it goes with no other.")
        raise MisuseError(
            f"no method {name!r}. {near(name, METHODS)} Methods of your own: --method package.module:Class."
        )
    if not (isinstance(kind, type) and issubclass(kind, Method)):
        raise MisuseError(f"{name} is no method: derive a class from torchpaths.Method, and name that.")
    if "__dataclass_fields__" not in vars(kind):
        raise MisuseError(
            f"{name} is no dataclass, so a recipe could not keep it: write @dataclass(frozen=True) above it."
        )
    return kind


def _made(kind: Any) -> Method:
    needed = [
        field.name
        for field in dataclasses.fields(kind)
        if field.init and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    name = kind.__name__
    if needed:
        raise MisuseError(
            f"{name} needs {', '.join(needed)}: give its fields defaults, then --method.{needed[0]} sets it."
        )
    try:
        made: Method = kind()
    except TypeError as error:
        raise MisuseError(f"{name} cannot be made: {error}.") from error
    return made


def import_model(name: str) -> None:
    """Make a model of somebody's own known by its name, ``package.module:function``; the module is imported.

    The function is called with ``classes`` and ``channels`` and returns a network.

    Raises:
        MisuseError: for a name that leads to nothing that could make a model.
    """
    if ":" not in name:
        raise MisuseError(f"--model {name}: name a model of your own, package.module:function; others are found alone.")
    made = _imported(name)
    if not callable(made):
        raise MisuseError(f"{name} makes no model: name a function of classes and channels that returns a network.")
    MODELS[name] = made


def _imported(name: str) -> Any:
    """What ``package.module:Class`` names."""
    module, _, qualname = name.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module) if module.strip(".") == module and module else None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise MisuseError(f"{module} cannot be imported: {reason(error)}.") from error
        found = None
    except Exception as error:  # whatever the module's own code raises
        raise MisuseError(f"{module} cannot be imported: {reason(error)}.") from error
    if found is None:
        raise MisuseError(f"{name}: there is no module {module!r} in {here} or among the installed packages.")
    for part in qualname.split("."):
        if not hasattr(found, part):
            raise MisuseError(f"module {module!r} has no {qualname!r}. {near(qualname, _methods(module))}")
        found = getattr(found, part)
    return found


def _methods(module: str) -> list[str]:
    """Names of the methods that a module defines."""
    found = vars(sys.modules[module]).items()
    return [n for n, kind in found if isinstance(kind, type) and issubclass(kind, Method) and kind is not Method]
