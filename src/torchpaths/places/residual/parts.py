"""The parts of a residual block, ``y = post(shortcut(x) + branch(x))``, as code: ``Residual``, ``Split`` and
``Piece``."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

from torch import Tensor, nn


class Part(Protocol):
    """A part of a block: (block, value at the part's start, the block's own inputs) -> value at the part's end.

    Attributes:
        identity: whether it returns its value untouched.
        in_place: whether it may write into it.
        rectifies: whether the value at its end is known to be the output of a ReLU.
        rectifier: whether it is a ReLU of its value and nothing else: of a value that a ReLU gave, it changes nothing.
    """

    identity: bool
    in_place: bool
    rectifies: bool
    rectifier: bool

    def __call__(self, block: nn.Module, x: Tensor, *inputs: Any) -> Tensor: ...


class Piece:
    """Generated code for one part of a block. Equal code means equal computation.

    Attributes:
        source: the code, ``def forward(self, x, *inputs): ...`` with the block as ``self``.
        identity: whether it returns ``x`` untouched.
        in_place: whether it may write into its argument.
        rectifies: whether its value is the output of a ReLU.
        rectifier: whether it is a ReLU of ``x`` and nothing else.
        relu: the layer of the block that this ReLU is, by its dotted name; empty for a function.
    """

    def __init__(
        self,
        source: str,
        names: dict[str, Any],
        identity: bool,
        in_place: bool,
        rectifies: bool = False,
        rectifier: bool = False,
        relu: str = "",
    ) -> None:
        self.source = source
        self.names = names
        self.identity = identity
        self.in_place = in_place
        self.rectifies = rectifies
        self.rectifier = rectifier
        self.relu = relu
        self._compile()

    def _compile(self) -> None:
        scope = dict(self.names)
        exec(compile(self.source, "<residual part>", "exec"), scope)
        self._function: Callable[..., Any] = scope["forward"]

    def __call__(self, block: nn.Module, x: Tensor, *inputs: Any) -> Tensor:
        value: Tensor = self._function(block, x, *inputs)
        return value

    def unrectified(self) -> Piece:
        """The same code, of whose ReLU nothing is known: the layer may be another one day, or have hooks."""
        return Piece(self.source, self.names, self.identity, self.in_place) if self.relu else self

    def known(self, block: nn.Module) -> Piece:
        """What is known of it as the block is now."""
        layer = block.get_submodule(self.relu) if self.relu else None
        plain = type(layer) is nn.ReLU and "forward" not in layer.__dict__
        hooked = layer is not None and bool(layer._forward_hooks or layer._forward_pre_hooks)
        return self if layer is None or (plain and not hooked) else self.unrectified()

    def __deepcopy__(self, memo: dict[int, Any]) -> Piece:
        return self  # immutable

    def __getstate__(self) -> dict[str, Any]:
        # A module cannot be pickled, its name can; generated code cannot either, its source can.
        used = {k: v for k, v in self.names.items() if k in self._function.__code__.co_names}
        modules = {k: v.__name__ for k, v in used.items() if isinstance(v, ModuleType)}
        names = {k: v for k, v in used.items() if k not in modules}
        kept = {k: v for k, v in self.__dict__.items() if k not in ("names", "_function")}
        return {**kept, "names": names, "modules": modules}

    def __setstate__(self, state: dict[str, Any]) -> None:
        modules = {k: importlib.import_module(name) for k, name in state.pop("modules").items()}
        self.__dict__.update({"relu": "", **state})
        self.names = {**state["names"], **modules}
        self._compile()


@dataclass(frozen=True)
class Residual:
    """One residual sum, ``y = post(shortcut(s) + branch(s))`` with ``s = pre(x)``.

    To give a block by hand, pass functions of ``(block, x)``, and of the block's further arguments if its forward has
    any: ``Residual(branch=lambda block, x: block.body(x), shortcut=lambda block, x: x, post=lambda block, y: y)``.
        Module-level
    functions let the network be pickled. ``block`` is the original block, so its methods and attributes are there.

    Attributes:
        branch: what a closed unit leaves out.
        shortcut: always runs.
        post: follows the sum.
        pre: precedes both (None: nothing does).
        name: what tells this sum from others of the same block ("attn"); the branch's largest child.
        axis: the channel axis of ``s``, for pooling; None where it is to be found out.
    """

    branch: Callable[..., Any]
    shortcut: Callable[..., Any]
    post: Callable[..., Any]
    pre: Callable[..., Any] | None = None
    name: str = ""
    axis: int | None = None


@dataclass(frozen=True)
class Split:
    """A block taken apart: its residual sums in order, and what its own forward took for granted.

    Attributes:
        residuals: in order of execution.
        extra: names of further arguments the block is called with, passed on to every part.
        conditions: ``if`` conditions met in the block's forward, as parts that evaluate them again from the input.
        answers: what each of them was for the example.
        params: parameters of each branch, by object.
    """

    residuals: tuple[Residual, ...]
    extra: tuple[str, ...] = ()
    conditions: tuple[Piece, ...] = ()
    answers: tuple[bool, ...] = ()
    params: tuple[tuple[nn.Parameter, ...], ...] = ()


class Given:
    """A part that a user wrote by hand, in the form of a traced one."""

    identity = False
    in_place = True
    rectifies = False
    rectifier = False

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, block: nn.Module, x: Tensor, *inputs: Any) -> Tensor:
        value: Tensor = self.function(block, x, *inputs[1:])
        return value


def part(function: Callable[..., Any]) -> Part:
    """A traced part as it is, a function of (block, x, ...) wrapped as one."""
    return function if isinstance(function, (Piece, Given)) else Given(function)
