"""A model as it was: what running it may have left on its modules is taken away again.

To find places a model is run and its blocks are traced. Blocks may write on themselves while they run (a counter, an
attention map, the last frame of a video), and then hold what belongs to nobody, or a tracer's stand-in for a value.
"""

from __future__ import annotations

import operator
import sys
from collections import deque
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

_CONTAINERS = (dict, list, set, deque)
_ATOMS = frozenset({bool, int, float, str, type(None)})
"""What most attributes are, in which there is nothing to remember."""
_TABLES = ("_modules", "_parameters", "_buffers")
_FOREIGN = frozenset({*sys.stdlib_module_names, "torch", "torchpaths", "numpy"})
"""Packages whose objects are not looked into: they are tools, not notes that a block keeps."""

Where = tuple[str, str]
"""A module's dotted name and one of its attributes."""


class _Dictionary(NamedTuple):
    """Attributes of a module or of a plain object, or the content of a ``dict``."""

    where: Where
    held: dict[Any, Any]
    content: dict[Any, Any]

    def changed(self) -> Iterator[Where]:
        """Whatever is another object than it was, or gone, or new; all of it where only the order is another."""
        if self._unchanged():
            return
        module, name = self.where
        keys = dict.fromkeys([*self.content, *self.held])
        names = [key for key in keys if self._at(key, self.held) is not self._at(key)]
        if not names and list(self.held) != list(self.content):
            names = list(self.content)
        for key in names:
            yield (module, str(key)) if not name or name in _TABLES else self.where

    def _unchanged(self) -> bool:
        """Whether it is as it was, order and all: nearly always, and asked of every attribute of a model many times."""
        held, content = self.held, self.content
        if not held and not content:
            return True
        if len(held) != len(content) or not all(map(operator.is_, held, content)):
            return False
        return all(map(operator.is_, map(partial(dict.get, held), content), content.values()))

    def _at(self, key: Any, held: dict[Any, Any] | None = None) -> Any:
        return dict.get(self.content if held is None else held, key, _Dictionary)  # no value is this class

    def restore(self) -> None:
        if not self._unchanged():
            self.held.clear()
            self.held.update(self.content)


class _Collection(NamedTuple):
    """A list, set or deque."""

    where: Where
    held: Any
    content: tuple[Any, ...]

    def changed(self) -> Iterator[Where]:
        if [id(v) for v in self.held] != [id(v) for v in self.content]:
            yield self.where

    def restore(self) -> None:
        if next(self.changed(), None) is not None:
            self.held.clear()
            (self.held.update if isinstance(self.held, set) else self.held.extend)(self.content)


class _Values(NamedTuple):
    """A tensor that is no parameter."""

    where: Where
    held: Tensor
    content: Tensor
    asks: bool

    def changed(self) -> Iterator[Where]:
        if not _same(self.held, self.content) or self.held.requires_grad != self.asks:
            yield self.where

    def restore(self) -> None:
        if self.held.shape != self.content.shape or self.held.dtype != self.content.dtype:
            self.held.data = self.content.clone()
        elif not _same(self.held, self.content):
            with torch.inference_mode(self.held.is_inference()):
                self.held.data.copy_(self.content)
        if self.held.is_leaf and self.held.requires_grad != self.asks:
            self.held.requires_grad_(self.asks)


class _Parameter(NamedTuple):
    """What a forward may change of a parameter other than its values."""

    where: Where
    held: nn.Parameter
    grad: Tensor | None
    asks: bool

    def changed(self) -> Iterator[Where]:
        if self.held.grad is not self.grad or self.held.requires_grad != self.asks:
            yield self.where

    def restore(self) -> None:
        if next(self.changed(), None) is not None:
            self.held.requires_grad_(self.asks)
            self.held.grad = self.grad


class Untouched:
    """Remembers every attribute of a model's modules; `restore` puts all of them back, bit for bit."""

    def __init__(self, model: nn.Module) -> None:
        """
        Args:
            model: containers and objects that its modules hold are remembered with what is in them, tensors with their
                values; of parameters, which a forward does not write, all but the values.
        """
        self._classes = [(module, type(module)) for module in model.modules()]
        self._kept: dict[int, _Dictionary | _Collection | _Values | _Parameter] = {}
        self._alive: list[Any] = []  # what an id in `_kept` belongs to
        for name, module in model.named_modules():
            self._kept[id(module)] = _Dictionary((name, ""), module.__dict__, dict(module.__dict__))
            for attribute, value in module.__dict__.items():
                if type(value) not in _ATOMS:
                    self._remember((name, attribute), value)

    def _remember(self, where: Where, value: Any) -> None:
        waiting = [(where, value, True)]
        while waiting:
            where, value, look = waiting.pop()
            if id(value) in self._kept or isinstance(value, nn.Module):
                continue
            if isinstance(value, nn.Parameter):
                self._kept[id(value)] = _Parameter(where, value, value.grad, value.requires_grad)
            elif isinstance(value, Tensor):
                self._kept[id(value)] = _Values(where, value, value.detach().clone(), value.requires_grad)
            elif isinstance(value, dict):
                self._kept[id(value)] = _Dictionary(where, value, dict(value.items()))
                inner = where[1] in _TABLES
                waiting += [((where[0], str(k)) if inner else where, v, look) for k, v in value.items()]
            elif isinstance(value, (list, set, deque)):
                self._kept[id(value)] = _Collection(where, value, tuple(value))
                waiting += [(where, v, look) for v in value]
            elif isinstance(value, (tuple, frozenset)):
                waiting += [(where, v, look) for v in value]
            elif look and _notes(value):  # not what that holds in turn, which may be half of a program
                self._kept[id(value)] = _Dictionary(where, vars(value), dict(vars(value)))
                self._alive.append(value)
                waiting += [(where, v, False) for v in vars(value).values()]

    def changed(self) -> tuple[Where, ...]:
        """What is not as it was: names of modules and of their attributes."""
        return tuple(dict.fromkeys(where for kept in self._kept.values() for where in kept.changed()))

    def restore(self) -> None:
        """Put everything back."""
        for module, kind in self._classes:
            if type(module) is not kind:  # as a lazy module's after its first run
                module.__class__ = kind
        for kept in self._kept.values():
            kept.restore()


def _notes(value: Any) -> bool:
    """Whether something is a plain object in which a block may keep what it notes."""
    kind = type(value)
    own = kind.__module__.partition(".")[0] not in _FOREIGN or kind is SimpleNamespace
    return own and hasattr(value, "__dict__") and isinstance(vars(value), dict) and not isinstance(value, type)


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are the same bits."""
    if a.shape != b.shape or a.dtype != b.dtype or a.device != b.device:
        return False
    if a.is_meta or a.layout is not torch.strided or a.is_quantized:
        return a.is_meta or bool((a.to_dense() if a.layout is not torch.strided else a.dequantize()).equal(
            b.to_dense() if b.layout is not torch.strided else b.dequantize()))  # fmt: skip
    return torch.equal(_bits(a), _bits(b))


def _bits(x: Tensor) -> Tensor:
    return x.detach().contiguous().reshape(-1).view(torch.uint8)
