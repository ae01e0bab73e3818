"""A residual block along a path as a plain module, and what is known of the values between blocks.

Where some of a block's units are closed, what is left of it is traced with torch.fx, every child opaque, into a
``GraphModule`` over the block's own children: those of closed branches are gone, the others keep their names. It runs,
copies and pickles without torchpaths.
"""

from __future__ import annotations

import inspect
import itertools
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn

from torchpaths.errors import RouteError
from torchpaths.junction import Junction
from torchpaths.models.pass_on import pass_on
from torchpaths.places.residual.parts import Part
from torchpaths.places.residual.rest import REST
from torchpaths.places.residual.tracing import Constant, Recorder

Run: TypeAlias = Callable[[nn.Module, Mapping[str, Any]], Any]
"""``(block, arguments of its forward by name) -> value``, on fx proxies."""


def rectified_junctions(model: nn.Module) -> set[Junction]:
    """The junctions whose input is known, from the structure alone, to be the output of a ReLU.

    A ReLU of such a value changes nothing: where a ResNet's block with an identity shortcut is closed, the ReLU behind
    its sum can be left out as well. Known is the input of a junction that follows, in one ``nn.Sequential``, an
    ``nn.ReLU`` or a junction whose place rectifies. (A closed block whose ReLU was left out counts among them: its
    output is its input, which was rectified before.)
    """
    chains = (list(m._modules.values()) for m in model.modules() if is_chain(m))
    pairs = (pair for children in chains for pair in itertools.pairwise(children))
    return {b for a, b in pairs if isinstance(b, Junction) and _rectifies(a)}


def is_chain(module: nn.Module) -> bool:
    """Whether a module hands the output of each child to the next and does nothing else."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _rectifies(module: nn.Module | None) -> bool:
    return module._place.rectifies if isinstance(module, Junction) else type(module) is nn.ReLU


def close(shortcut: Part, post: Part, block: nn.Module, x: Any, inputs: Sequence[Any], rectified: bool) -> Any:
    """What a closed residual sum gives, ``post(shortcut(x))``, without writing into ``x``.

    Args:
        shortcut: the sum's shortcut.
        post: what follows the sum.
        block: the block.
        x: the value before the sum; a tensor, or a proxy while tracing.
        inputs: the block's own inputs.
        rectified: ``x`` is known to be the output of a ReLU.
    """
    y = shortcut(block, x, *inputs)
    if post.rectifier:
        return y if rectified and y is x else torch.relu(y)
    return post(block, y.clone() if post.in_place else y, *inputs)


def trace(block: nn.Module, run: Run, conditions: Iterable[tuple[Run, str]] = ()) -> fx.GraphModule:
    """``run`` as a module with the signature of a block's forward, over those of the block's children that it uses.

    Args:
        block: its children, parameters and buffers are shared with the result.
        run: what to compute, ``(block, arguments of its forward by name) -> tensor``, on fx proxies.
        conditions: what must hold of the arguments for ``run`` to be right, with the message of the AssertionError
            that the module raises otherwise.

    Raises:
        RouteError: if ``run`` cannot be traced.
    """
    try:
        graph = _Along(block).along(run, conditions)
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise RouteError(
            f"what a path leaves of a block of class {type(block).__name__} cannot be traced "
            f"({type(error).__name__}: {reason}); the functions it was given by may not depend on values."
        ) from error
    if _only_first(graph):  # then there is nothing for which a condition would have to hold
        for node in [n for n in graph.nodes if n.op not in ("placeholder", "output")][::-1]:
            graph.erase_node(node)
    return _with_constants(fx.GraphModule(block, graph, type(block).__name__))


def _with_constants(made: fx.GraphModule) -> fx.GraphModule:
    """The module with its constants as buffers of its own, so that it needs nothing of this library."""
    constants = [n for n in made.graph.nodes if isinstance(n.target, Constant)]
    for number, node in enumerate(constants):
        name = f"_constant{number}"
        made.register_buffer(name, node.target.value, persistent=False)
        with made.graph.inserting_before(node):
            node.replace_all_uses_with(made.graph.get_attr(name))
        made.graph.erase_node(node)
    if constants:
        made.recompile()
    return made


def leaves_nothing(module: nn.Module) -> bool:
    """Whether a module does nothing, so that its list can do without: it hands on its input, alone or before values
    that are None."""
    return _only_first(module.graph) if isinstance(module, fx.GraphModule) else hands_on(module)


def hands_on(module: nn.Module) -> bool:
    """Whether a module does nothing but return its (first) input."""
    if isinstance(module, fx.GraphModule):
        return _first(module.graph) is _returned(module.graph)
    return type(module) is nn.Identity


def copying(module: nn.Module) -> fx.GraphModule:
    """A module that returns a copy of its input, with the arguments of one that hands it on."""
    return trace(module, lambda _, arguments: next(iter(arguments.values())).clone())


def _first(graph: fx.Graph) -> fx.Node:
    first: fx.Node = next(node for node in graph.nodes if node.op == "placeholder")
    return first


def _only_first(graph: fx.Graph) -> bool:
    """Whether what is returned is the first argument, alone or before values that are None."""
    returned = _returned(graph)
    values = list(returned) if isinstance(returned, (tuple, list)) else [returned]
    return bool(values) and values[0] is _first(graph) and all(value is None for value in values[1:])


def _returned(graph: fx.Graph) -> Any:
    return next(n for n in graph.nodes if n.op == "output").args[0]


class _Along(Recorder):
    """Every child opaque but an ``nn.Identity``, which is nothing; the arguments are those of the block's forward."""

    def _called(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if type(self.block.get_submodule(name)) is nn.Identity:
            return args[0]
        if REST not in kwargs:
            return super()._called(name, *args, **kwargs)
        child = self.proxy(self.create_node("get_attr", name, (), {}))
        rest = kwargs.pop(REST)
        called = self.create_proxy("call_function", pass_on, (child, args, kwargs, rest), {})
        called.node.meta["is_wrapped"] = True  # or reading it back would look into what nobody knows beforehand
        return called

    def along(self, run: Run, conditions: Iterable[tuple[Run, str]]) -> fx.Graph:
        """The graph of ``run``."""
        parameters = inspect.signature(self.block.forward).parameters.values()
        named = [p for p in parameters if p.kind is not p.VAR_POSITIONAL]
        kinds = _kinds(self.block)

        def forward(twin: nn.Module) -> Any:
            arguments = {p.name: self._argument(p, kinds.get(p.name)) for p in named}
            for condition, message in conditions:
                torch._assert(condition(twin, arguments), message)
            return run(twin, arguments)

        return self.record(forward)

    def _argument(self, parameter: inspect.Parameter, kind: Any) -> fx.Proxy:
        if parameter.kind is parameter.VAR_KEYWORD:
            return self.rest(f"**{parameter.name}")
        argument = self.argument(
            parameter.name, *(() if parameter.default is parameter.empty else (parameter.default,))
        )
        argument.node.type = kind  # torch.jit.script takes what has none for a tensor
        return argument


def _kinds(block: nn.Module) -> dict[str, Any]:
    """The kinds of the arguments of a block's forward, where it says them and torch.jit.script has a word for them."""
    try:
        hints = typing.get_type_hints(block.__dict__.get("forward") or type(block).forward)
    except (NameError, TypeError, AttributeError):  # names that only a type checker knows
        return {}
    return {name: _scriptable(hint) for name, hint in hints.items() if hint is not Tensor}


def _scriptable(hint: Any) -> Any:
    """A type hint in the words of torch.jit.script; None for what it has none for."""
    if hint in (Tensor, bool, int, float, str):
        return hint
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    given = tuple(_scriptable(kind) for kind in inner if kind is not types.NoneType)
    if not given or None in given:
        return None
    words: dict[Any, Any] = {tuple: typing.Tuple, list: typing.List}  # noqa: UP006, those that fx writes out
    if origin in (typing.Union, types.UnionType):
        return typing.Optional[given[0]] if len(inner) == 2 > len(given) else None  # noqa: UP045
    return words[origin][given] if origin in words else None
