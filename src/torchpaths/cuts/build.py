"""How a cut network is made without torchpaths: by the library itself with other arguments where it can.

A library's network is mostly told how many blocks its stages have: ``layers=[3, 4, 6, 3]``. Which argument that is is
found by watching the original being made: the one that equals the number of blocks of its containers. With the numbers
that are left it may give the very network that was cut out; whoever uses it compares.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Iterator
from typing import Any
from unittest import mock

from torch import nn

from torchpaths.cuts.code import Code, call, value
from torchpaths.errors import RouteError
from torchpaths.extraction import Cut
from torchpaths.models import Source

_FACTORIES = {"timm": ("timm", "create_model"), "torchvision": ("torchvision.models", "get_model")}


def original(source: Source, kind: type[nn.Module]) -> Code:
    """The original network as an expression. Raises `RouteError` if its arguments cannot be written."""
    return _factory(source, {}) if source.library in _FACTORIES else _constructor(kind, _arguments(source, kind))


def smaller(source: Source, kind: type[nn.Module], cut: Cut, counts: tuple[int, ...]) -> Iterator[Code]:
    """Expressions that may give the cut network.

    Args:
        source: how the original is made.
        kind: its class.
        cut: the cut network; nothing is given unless only whole blocks are missing in it.
        counts: how many children each of ``cut.kept`` had in the original.
    """
    if cut.left:
        return
    now = tuple(len(names) for names in cut.kept.values())
    arguments = _arguments(source, kind)
    for name, given in arguments.items():
        if isinstance(given, (list, tuple)) and tuple(given) == counts:
            changed: Any = type(given)(now)
        elif type(given) is int and (given,) == counts:
            [changed] = now
        else:
            continue
        if source.library == "timm":
            yield _factory(source, {name: changed})
        with contextlib.suppress(RouteError):  # another argument cannot be written
            yield _constructor(kind, {**arguments, name: changed})


def _factory(source: Source, more: dict[str, Any]) -> Code:
    module, name = _FACTORIES[source.library]
    function = Code(f"{module}.{name}", frozenset({f"import {module}"}))
    return call(function, (source.name,), {**source.kwargs, **more})


def _constructor(kind: type[nn.Module], arguments: dict[str, Any]) -> Code:
    defaults = {p.name: p.default for p in inspect.signature(kind.__init__).parameters.values()}
    given = {n: v for n, v in arguments.items() if n not in defaults or v is not defaults[n]}
    return call(value(kind), (), given)


def _arguments(source: Source, kind: type[nn.Module]) -> dict[str, Any]:
    """The arguments of the constructor with which the library makes the original, defaults included."""
    calls: list[inspect.BoundArguments] = []
    init = kind.__init__
    signature = inspect.signature(init)

    @functools.wraps(init)
    def watched(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        calls.append(signature.bind(self, *args, **kwargs))
        init(self, *args, **kwargs)

    with mock.patch.object(kind, "__init__", watched):
        source.make()
    if not calls:
        raise RouteError(f"{source} makes no {kind.__name__}, which the routed network is")
    first, *_ = calls  # the network itself comes before what it is made of
    first.apply_defaults()
    found: dict[str, Any] = {}
    for i, (name, given) in enumerate(first.arguments.items()):
        if signature.parameters[name].kind is inspect.Parameter.VAR_KEYWORD:
            found.update(given)
        elif i > 0:  # 0 is self
            found[name] = given
    return found
