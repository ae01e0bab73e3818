"""Values, calls and what a path left of a block as Python source that runs without torchpaths."""

from __future__ import annotations

import builtins
import functools
import importlib
import math
import re
from dataclasses import dataclass
from types import ModuleType, NoneType
from typing import Any

from torch import fx, nn

from torchpaths.errors import RouteError

OWN = "torchpaths.models."
"""Modules of torchpaths that stand alone: their file is copied beside the source, which imports it from there."""


@dataclass(frozen=True)
class Code:
    """Source text and the import statements it needs."""

    text: str
    imports: frozenset[str] = frozenset()


def value(of: Any) -> Code:
    """A value as an expression: numbers, texts, containers, importable classes and functions, and their partials;
    expressions stay what they are.

    Raises:
        RouteError: for anything else.
    """
    if isinstance(of, Code):
        return of
    if of is None or isinstance(of, (bool, int, str)) or (isinstance(of, float) and math.isfinite(of)):
        return Code(repr(of))
    if isinstance(of, dict):
        return call(Code("dict"), (list(of.items()),), {})
    if isinstance(of, (tuple, list)):
        made = [value(v) for v in of]
        inner = ", ".join(v.text for v in made) + "," * (isinstance(of, tuple) and len(of) == 1)
        text = f"[{inner}]" if isinstance(of, list) else f"({inner})"
        return Code(text, frozenset().union(*(v.imports for v in made)))
    if isinstance(of, functools.partial):
        return call(Code("functools.partial", frozenset({"import functools"})), (of.func, *of.args), of.keywords)
    module, name = getattr(of, "__module__", None), getattr(of, "__qualname__", None)
    if not module or not name or not _is_at(of, module, name):
        raise RouteError(f"{of!r} cannot be written as source text")
    short = module.removeprefix(OWN)
    statement = f"import {module}" if short == module else f"import {module} as {short}"
    return Code(f"{short}.{name}", frozenset({statement}))


def call(function: Code, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Code:
    """A call as an expression. Raises `RouteError` for arguments that cannot be written."""
    given = [("", value(v)) for v in args] + [(f"{k}=", value(v)) for k, v in kwargs.items()]
    text = ", ".join(f"{name}{v.text}" for name, v in given)
    return Code(f"{function.text}({text})", function.imports.union(*(v.imports for _, v in given)))


def _is_at(of: Any, module: str, name: str) -> bool:
    """Whether ``module.name`` is this very object."""
    try:
        return functools.reduce(getattr, name.split("."), importlib.import_module(module)) is of
    except (ImportError, AttributeError):
        return False


def left(module: fx.GraphModule, name: str) -> Code:
    """What a path left of a block as a class that takes what it needs from the block.

    Args:
        module: what is left of the block, with its children named as in the block.
        name: of the class.

    Raises:
        RouteError: if it uses a function or value that nothing can be imported for.
    """
    generated = module.graph.python_code("self")
    # Without the deletion of values after their last use, which nobody wants to read.
    source = re.sub(r";  (\w+ = )+None *(#.*)?$", "", generated.src.strip(), flags=re.MULTILINE)
    words = set(re.findall(r"\w+", source))
    named = {n: of for n, of in generated.globals.items() if n in words and getattr(builtins, n, generated) is not of}
    imports = {_import(n, of) for n, of in named.items() if n != "__builtins__"}
    lines = [
        f"class {name}(torch.nn.Module):",
        "    def __init__(self, block):",
        "        super().__init__()",
        *(f"        {line}" for line in _taken(module, "self", "block")),
        "",
        *(f"    {line}".rstrip() for line in source.splitlines()),
    ]
    return Code("\n".join(lines), frozenset(imports | {"import torch"}))


def _import(name: str, of: Any) -> str:
    """The statement that makes a global name of generated code mean what it means there."""
    if isinstance(of, ModuleType):
        return f"import {of.__name__}" if name == of.__name__ else f"import {of.__name__} as {name}"
    if isinstance(of, float):
        return f"from math import {name}"  # inf and nan
    if of is NoneType:  # which calls itself a builtin and is not among them
        return "from types import NoneType" + (f" as {name}" if name != "NoneType" else "")
    made = value(of)
    module, _, attribute = made.text.rpartition(".")
    return f"from {module} import {attribute}" + (f" as {name}" if name != attribute else "")


def _taken(module: nn.Module, here: str, block: str) -> list[str]:
    """Statements that give a module the parameters, buffers and children of a block that it uses."""
    lines = [f"{here}.register_parameter({n!r}, {block}.{n})" for n in module._parameters]
    for n in module._buffers:
        persistent = n not in module._non_persistent_buffers_set
        lines.append(f"{here}.register_buffer({n!r}, {block}.{n}, persistent={persistent})")
    for n, child in module.named_children():
        if type(child) is nn.Module:  # holds the one or other descendant of the block's own child
            lines.append(f"{here}.add_module({n!r}, torch.nn.Module())")
            lines += _taken(child, f"{here}.get_submodule({n!r})", f"{block}.get_submodule({n!r})")
        elif n.isidentifier():
            lines.append(f"{here}.{n} = {block}.{n}")
        else:
            lines.append(f"{here}.add_module({n!r}, {block}.get_submodule({n!r}))")
    return lines
