"""Recipes and methods as JSON and back: frozen dataclasses that name their class."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import Any

from torchpaths.errors import RunError
from torchpaths.methods.base import Method


def encode(value: Any) -> Any:
    """A value as JSON data; a dataclass names its class.

    Raises:
        RunError: for anything else than numbers, text, paths, sequences and dataclasses.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        fields = {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
        return {"class": f"{kind.__module__}:{kind.__qualname__}", **fields}
    if isinstance(value, (list, tuple)):
        return [encode(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise RunError(
        f"a recipe cannot keep {value!r} ({type(value).__name__}): fields hold numbers, text, tuples and dataclasses."
    )


def decode(value: Any) -> Any:
    """The inverse of `encode`; sequences come back as tuples.

    Raises:
        RunError: for a class that cannot be imported, is neither a method nor a value of torchpaths, or takes other
            fields.
    """
    if isinstance(value, list):
        return tuple(decode(v) for v in value)
    if not isinstance(value, dict):
        return value
    name = str(value.get("class"))
    module, _, qualname = name.partition(":")
    try:
        kind: Any = importlib.import_module(module) if module else None
        for part in qualname.split("."):
            kind = getattr(kind, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise RunError(
            f"the recipe names class {name!r}, which cannot be imported ({error}); install or import what defines it."
        ) from error
    # A run folder may come from a stranger: it can name values of this library and methods, not any callable.
    if not (
        isinstance(kind, type)
        and dataclasses.is_dataclass(kind)
        and (issubclass(kind, Method) or module.startswith("torchpaths."))
    ):
        raise RunError(f"the recipe names {name!r}, which is neither a method nor a value of torchpaths.")
    try:
        return kind(**{k: decode(v) for k, v in value.items() if k != "class"})
    except TypeError as error:
        raise RunError(f"the recipe's {name} was written by another version: {error}.") from error
