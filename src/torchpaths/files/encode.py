"""Recipes and methods as JSON and back: frozen dataclasses that name their class, in a form that outlives a version.

A class of this library is written under its public name, ``{"class": "GatedBlocks"}``, so that modules may move; what
older versions wrote names modules as they once were, and a fixed table still knows those. A method of somebody else's
is written as ``package.module:Class`` and read only where that module has been imported already: a file may come from a
stranger, so nothing is ever imported because a file names it, and nothing but methods and the library's own values is
made.
"""

from __future__ import annotations

import dataclasses
import importlib
import pathlib
import sys
from typing import Any

from torchpaths.errors import RunError, near, reason
from torchpaths.methods import METHODS
from torchpaths.methods.base import Method
from torchpaths.schema import checked

_VALUES = {
    "Augment": "torchpaths.data.augment",
    "Budget": "torchpaths.budget",
    "Distil": "torchpaths.train.distil",
    "Recipe": "torchpaths.train.recipe",
    "Together": "torchpaths.methods.together",
}
"""What recipes and methods hold besides methods, and where it is."""

_ONCE = {
    "torchpaths.data.augment:Augment": "Augment",
    "torchpaths.budget:Budget": "Budget",
    "torchpaths.layout:Budget": "Budget",
    "torchpaths.methods.adaptive_depth:AdaptiveDepth": "AdaptiveDepth",
    "torchpaths.methods.gated_blocks:GatedBlocks": "GatedBlocks",
    "torchpaths.methods.random_drop:RandomDrop": "RandomDrop",
    "torchpaths.methods.together:Together": "Together",
    "torchpaths.path:Budget": "Budget",
    "torchpaths.train.recipe:Recipe": "Recipe",
    "torchpaths.units:Budget": "Budget",
}
"""What older versions wrote -> public name."""


def encode(value: Any) -> Any:
    """A value as JSON data; a dataclass names its class.

    Raises:
        RunError: for anything else than numbers, text, paths, sequences and dataclasses that `decode` can find again.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"class": _name(type(value)), **fields}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
    if isinstance(value, pathlib.Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise RunError(
        f"a recipe cannot keep {value!r} ({type(value).__name__}): fields hold numbers, text, tuples and dataclasses; "
        "write @dataclass(frozen=True) above a method."
    )


def decode(value: Any, key: str) -> Any:
    """The inverse of `encode`; sequences come back as tuples.

    Args:
        value: JSON data.
        key: what it stands under in its file, for errors: "method", "method.budget".

    Raises:
        RunError: for an unknown class or field, or values that the class refuses, naming the key.
    """
    if isinstance(value, list):
        return tuple(decode(v, f"{key}[{i}]") for i, v in enumerate(value))
    if not isinstance(value, dict):
        return value
    kind = _class(value.get("class"), key)
    fields = {f.name for f in dataclasses.fields(kind) if f.init}
    for name in value:
        if name != "class" and name not in fields:
            raise RunError(
                f"{key}.{name}: {kind.__name__} has no field {name!r}; it was written by another version, or edited. "
                f"{near(name, fields)}"
            )
    made = {name: decode(v, f"{key}.{name}") for name, v in value.items() if name != "class"}
    try:
        return kind(**checked(kind, made))
    except Exception as error:  # whatever a class says to values that are not of its kind
        raise RunError(f"{key}: no {kind.__name__} can be made of this ({reason(error)}).") from error


def filled(value: Any, key: str) -> Any:
    """What `encode` gave in an older version, with the fields that its dataclasses have since had, at their defaults.

    Classes that are not found, and what is no dataclass, stay as they are.
    """
    if isinstance(value, list):
        return [filled(v, f"{key}[{i}]") for i, v in enumerate(value)]
    if not isinstance(value, dict):
        return value
    kept = {name: filled(v, f"{key}.{name}") for name, v in value.items()}
    try:
        fields = dataclasses.fields(_class(value.get("class"), key))
    except RunError:
        return kept
    absent = (f for f in fields if f.init and f.name not in kept)
    for field in absent:
        if field.default is not dataclasses.MISSING:
            kept[field.name] = encode(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            kept[field.name] = encode(field.default_factory())
    return kept


def public(name: str) -> str:
    """The name that this version gives to a class which a file names, whichever version wrote it."""
    return _ONCE.get(name, name)


def _name(kind: type) -> str:
    """What a file calls a class."""
    if _own(kind.__module__):
        if _found(kind.__name__) is not kind:
            raise RunError(f"a recipe cannot keep a {kind.__module__}.{kind.__name__}: it has no public name.")
        return kind.__name__
    module = _main() if kind.__module__ == "__main__" else kind.__module__
    if not issubclass(kind, Method):
        raise RunError(
            f"a recipe cannot keep a {module}.{kind.__qualname__}: of other packages' classes only methods are read "
            "again. Make its values fields of the method itself."
        )
    if "<locals>" in kind.__qualname__:
        raise RunError(
            f"a recipe cannot keep a {kind.__qualname__}, which exists only inside a function: nothing could find it "
            f"again. Define it at the top of {module}."
        )
    return f"{module}:{kind.__qualname__}"


def _class(name: Any, key: str) -> type[Any]:
    """The dataclass of a name in a file; looked up, never imported."""
    if not isinstance(name, str):
        raise RunError(f"{key}: {name!r} names no class; it was edited, or written by another program.")
    name = public(name)
    module, _, qualname = name.partition(":")
    found = _foreign(module, qualname, key) if qualname and not _own(module) else _found(name)
    if found is None:
        raise RunError(
            f"{key} names {name!r}, which is no method or value of torchpaths; it was edited, or written by another "
            f"version. {near(name, [*METHODS, *_VALUES])}"
        )
    return found


def _own(module: str) -> bool:
    return module == "torchpaths" or module.startswith("torchpaths.")


def _found(name: str) -> type[Any] | None:
    """A method or value of the library by its public name."""
    if name in _VALUES:
        value: type[Any] = getattr(importlib.import_module(_VALUES[name]), name)
        return value
    return METHODS.get(name)


def _foreign(module: str, qualname: str, key: str) -> type[Any]:
    """A method of another package, where that is imported."""
    holder: Any = sys.modules.get("__main__" if module == _main() else module)
    if holder is None:
        raise RunError(
            f"{key} names {module}:{qualname}, and {module} is not imported. Nothing is imported because a file names "
            f"it: import what defines it first, or give --method {module}:{qualname} on the command line."
        )
    for part in qualname.split("."):
        # Not getattr: what is asked for by name may be imported by that alone.
        holder = vars(holder).get(part) if hasattr(holder, "__dict__") else None
    if not (isinstance(holder, type) and issubclass(holder, Method) and dataclasses.is_dataclass(holder)):
        raise RunError(f"{key} names {module}:{qualname}, which is no method: no dataclass derived from Method.")
    return holder


def _main() -> str:
    """What the script that runs is called where it is imported instead."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name)
    return "__main__" if file is None else pathlib.Path(file).stem
