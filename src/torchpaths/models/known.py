"""Sources that a folder names: of a stranger's folder nothing is fetched, read or run to make its network.

A model of timm or torchvision takes what its constructor takes, and besides that what its factory does with it: load a
checkpoint from a path, fetch weights, replace its configuration. Only the former may stand in a folder.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any

from torch import nn

from torchpaths.errors import RunError, clip, near
from torchpaths.models.create import Source

_WEIGHTS = ("pretrained", "weights", "weights_backbone")
"""What asks a factory for trained weights; a folder has its own."""

_ALWAYS = ("num_classes", "in_chans", "classes", "channels")
"""Arguments that every model of a library takes, as `torchpaths.models.source` gives them."""

MOST = 2**20
"""The largest number that a folder may give a network: no layer is as wide."""


def untrained(source: Source) -> Source:
    """The same source without trained weights."""
    return dataclasses.replace(source, kwargs={k: v for k, v in source.kwargs.items() if k not in _WEIGHTS})


def known(source: Source) -> Source:
    """A source as a folder names it, untrained, if it asks for nothing but a network.

    Args:
        source: from a file.

    Raises:
        RunError: for an argument that is none of the model's own constructor, or no number, text or list of them.
    """
    source = untrained(source)
    for name, value in source.kwargs.items():
        if not all(map(_plain, _leaves(value))):
            raise _refused(source, name, f"is {clip(repr(value), 60)}; only numbers to {MOST:,}, texts and lists")
    more = [name for name in source.kwargs if name not in _ALWAYS]
    if more:
        given = {name: value for name, value in source.kwargs.items() if name in _ALWAYS}
        takes = list(_parameters(type(dataclasses.replace(source, kwargs=given).make())))
        for name in more:
            if name not in takes:
                raise _refused(source, name, f"is no argument of the model itself ({near(name, takes)}); only those")
    return source


def _refused(source: Source, name: str, why: str) -> RunError:
    return RunError(
        f"{clip(str(source), 60)}: {clip(repr(name), 60)} {why} are taken from a folder. If you trust it, its load.py "
        "makes the network by itself."
    )


def _leaves(value: Any, depth: int = 0) -> Iterator[Any]:
    if isinstance(value, (list, tuple)) and depth < 4 and len(value) <= 1000:
        for each in value:
            yield from _leaves(each, depth + 1)
    else:
        yield value


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, (bool, str)) or (isinstance(value, (int, float)) and abs(value) <= MOST)


def _parameters(kind: type[nn.Module]) -> Iterator[str]:
    """Names that the constructors of a class and its bases take."""
    for base in kind.__mro__:
        if base is nn.Module:
            return
        if "__init__" in vars(base):
            found = inspect.signature(vars(base)["__init__"]).parameters.values()
            named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
            yield from (p.name for p in list(found)[1:] if p.kind in named)
