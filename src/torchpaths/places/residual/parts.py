"""The parts of a residual block, ``y = post(shortcut(x) + branch(x))``, as code: ``Residual``, ``Split`` and
``Piece``."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

from torch import Tensor, nn

from torchpaths.errors import RouteError
from torchpaths.places.residual.rest import Rest


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

    To give a block by hand, pass functions of ``(block, x)``, and of the block's further arguments if it is called with
    any that are not their defaults: ``Residual(branch=lambda block, x: block.body(x), shortcut=lambda block, x: x,
    post=lambda block, y: y)``. A function that takes ``**kwargs`` gets what the block's own forward gets as such.
    Module-level functions let the network be pickled. ``block`` is the original block, so its methods and attributes
    are there.

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


class Keywords(dict[str, Any]):
    """What a block was called with by names that its forward does not have, ``**kwargs``: the last input of a part."""


@dataclass(frozen=True)
class Returned:
    """What a block returns beside its output, which is the first of several values.

    Attributes:
        kind: tuple or list.
        values: for each of the others a part that makes it of the block's own input, or a value.
        noting: for each residual sum what computes its branch and some of these on the way (attention maps): None, or a
            part that gives all of them and the places they have.
    """

    kind: type[Any]
    values: tuple[Any, ...]
    noting: tuple[tuple[Piece, tuple[int, ...]] | None, ...]

    def made(self, block: nn.Module, y: Any, notes: Mapping[int, Any], inputs: Sequence[Any]) -> Any:
        """What the block returns.

        Args:
            block: the block.
            y: its output.
            notes: what was computed in branches, by place; None stands for what was not.
            inputs: see `Part`.
        """
        own = (v(block, inputs[0], *inputs) if isinstance(v, Piece) else v for v in self.values)
        return self.kind([y, *(notes.get(i, v) for i, v in enumerate(own))])


@dataclass(frozen=True)
class Split:
    """A block taken apart: its residual sums in order, and what its own forward took for granted.

    Attributes:
        residuals: in order of execution.
        extra: names of further arguments the block is called with, passed on to every part.
        conditions: ``if`` conditions met in the block's forward, as parts that evaluate them again from the input.
        answers: what each of them was for the example.
        params: parameters of each branch, by object.
        rest: whether all other keyword arguments are passed on too, see `Keywords`.
        tensors: those of ``extra`` that are tensors; None where functions given by hand look for themselves.
        kinds: the kinds of those of ``extra`` of which the block's forward asked it.
        fixed: further arguments that have to be as they were.
        handed: those of ``extra`` that the block's forward only hands on, so that they may be of any kind.
        settled: attributes of the block, by dotted name, which its forward assigned, with their values.
        returned: what it returns beside its output; None for nothing.
    """

    residuals: tuple[Residual, ...]
    extra: tuple[str, ...] = ()
    conditions: tuple[Piece, ...] = ()
    answers: tuple[bool, ...] = ()
    params: tuple[tuple[nn.Parameter, ...], ...] = ()
    rest: bool = False
    tensors: frozenset[str] | None = None
    kinds: Mapping[str, type[Any]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    settled: Mapping[str, Any] = field(default_factory=dict)
    handed: frozenset[str] = frozenset()
    returned: Returned | None = None

    def settle(self, block: nn.Module) -> None:
        """Assign what the block's forward assigns."""
        for name, value in self.settled.items():
            module, _, attribute = name.rpartition(".")
            holder = block.get_submodule(module) if module else block
            if getattr(holder, attribute, self) != value:
                setattr(holder, attribute, value)


def alike(a: Any, b: Any) -> bool:
    """Whether two arguments say the same; two tensors never do."""
    return not isinstance(a, Tensor) and not isinstance(b, Tensor) and bool(a == b)


class Given:
    """A part that a user wrote by hand, in the form of a traced one."""

    identity = False
    in_place = True
    rectifies = False
    rectifier = False

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

        kinds = [p.kind for p in inspect.signature(function).parameters.values()]
        self._any = inspect.Parameter.VAR_KEYWORD in kinds

    def __call__(self, block: nn.Module, x: Tensor, *inputs: Any) -> Tensor:
        further, last = inputs[1:], inputs[-1] if inputs else None
        if not isinstance(last, (Keywords, Rest)):
            value: Tensor = self.function(block, x, *further)
        elif not self._any:
            value = self.function(block, x, *further[:-1])
        else:
            value = self.function(block, x, *further[:-1], **last)
        return value


def part(function: Callable[..., Any]) -> Part:
    """A traced part as it is, a function of (block, x, ...) wrapped as one."""
    return function if isinstance(function, (Piece, Given)) else Given(function)


def split_by_hand(
    residuals: tuple[Residual, ...], extra: Mapping[str, Any], rest: Mapping[str, Any] | None, output: Any
) -> Split:
    """A block taken apart by hand.

    Args:
        residuals: its sums.
        extra: what it was called with beside its input.
        rest: what it hands on without naming it; None if it does not.
        output: what it returned. Beside a first tensor it may return what stays as it is.

    Raises:
        RouteError: for another tensor that it returns.
    """
    returned = None
    if isinstance(output, (tuple, list)):
        if any(isinstance(v, Tensor) for v in output[1:]):
            raise RouteError("it returns more than one tensor, which parts given by hand do not")
        returned = Returned(type(output), tuple(output[1:]), (None,) * len(residuals))
    params: tuple[tuple[nn.Parameter, ...], ...] = tuple(() for _ in residuals)
    return Split(residuals, tuple(extra), params=params, rest=rest is not None, returned=returned)
