"""Take a residual block apart without knowing its architecture: ``y = post(shortcut(x) + branch(x))``.

ConvNet-AIG (Eq. 3) multiplies the gate onto the branch *before* the sum. Wrapping the whole block and mixing outside
gives the same output but another gradient for the gate wherever a ReLU follows the sum: it would silently train another
method. So the sum has to be found. The block's own forward is traced with torch.fx, every child opaque, beside a real
example:

* a *cut point* is a value which every route from input to output passes (counted exactly, number of routes before times
  number of routes behind);
* a residual sum is an addition that is a cut point and whose two operands, of one shape, both come from the cut point
  before it; the operand with more parameters is the branch;
* a block with two sums (attention and MLP) comes out as two residuals in a row.

Each part becomes a `Piece`, ordinary Python code over the block's own children, which pickles, copies and compiles.
"""

from __future__ import annotations

import inspect
import itertools
import operator
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from torchpaths.errors import RouteError
from torchpaths.places.residual.parts import Piece, Residual, Split

_MODULE_CALL = nn.Module.__call__
_MODULE_GETATTR = nn.Module.__getattr__
_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_RELUS = {torch.relu, torch.relu_, nn.functional.relu, nn.functional.relu_, "relu", "relu_"}


class _Tracer(fx.Tracer):
    """fx tracing with every child opaque and a real value beside each node, so that shape-dependent ``if`` resolves."""

    def __init__(self, example: tuple[Any, ...]) -> None:
        super().__init__()
        self.example = example
        self.values: dict[fx.Node, Any] = {}
        self.conditions: list[tuple[fx.Node, bool]] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def create_proxy(self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **more: Any) -> fx.Proxy:
        proxy = super().create_proxy(kind, target, args, kwargs, *rest, **more)
        self.values[proxy.node] = self._evaluate(proxy.node)
        return proxy

    def _evaluate(self, node: fx.Node) -> Any:
        args = fx.node.map_arg(node.args, self._value)
        kwargs = fx.node.map_arg(node.kwargs, self._value)
        if node.op == "placeholder":
            position = sum(n.op == "placeholder" for n in self.values)
            return self.example[position] if position < len(self.example) else (node.args[0] if node.args else None)
        with _untraced(), torch.no_grad():
            if node.op == "call_module":
                return self.root.get_submodule(str(node.target))(*_fresh(args), **kwargs)
            if node.op == "get_attr":
                return operator.attrgetter(str(node.target))(self.root)
            if node.op == "call_method":
                return getattr(_fresh(args)[0], str(node.target))(*args[1:], **kwargs)
            assert callable(node.target)
            return node.target(*_fresh(args), **kwargs)

    def _value(self, node: fx.Node) -> Any:
        """A node's value; buffers and parameters that fx adds without a proxy are read here."""
        if node not in self.values:
            self.values[node] = operator.attrgetter(str(node.target))(self.root)
        return self.values[node]

    def to_bool(self, obj: fx.Proxy) -> bool:
        answer = bool(self.values[obj.node])
        self.conditions.append((obj.node, answer))
        return answer

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        value = self.values[obj.node]
        if isinstance(value, (tuple, list)):
            return iter([obj[i] for i in range(len(value))])  # type: ignore[index]
        return super().iter(obj)


def _fresh(args: Any) -> Any:
    """Arguments with tensors copied, so that in-place operations leave earlier values as they were."""
    return fx.node.map_aggregate(args, lambda v: v.clone() if isinstance(v, Tensor) else v)


@contextmanager
def _untraced() -> Iterator[None]:
    """Run modules for real while fx has nn.Module patched."""
    patched = nn.Module.__call__, nn.Module.__getattr__
    nn.Module.__call__, nn.Module.__getattr__ = _MODULE_CALL, _MODULE_GETATTR  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__, nn.Module.__getattr__ = patched  # type: ignore[method-assign]


def split(block: nn.Module, x: Tensor, **extra: Any) -> Split:
    """Find the residual sums of a block.

    Args:
        block: a module whose forward takes a tensor first; put in eval mode by the caller.
        x: an input of the block, as it occurs in the network.
        extra: further arguments its forward is called with, none of them a tensor. The others keep their defaults.

    Returns:
        Its residuals, in order of execution.

    Raises:
        RouteError: with the reason, if the forward cannot be traced or holds no residual sum.
    """
    if any(isinstance(value, Tensor) for value in extra.values()):
        raise RouteError("its forward takes more than one tensor")
    graph, tracer = _trace(block, x, extra, training=False)
    found = _Splitter(block, graph, tracer.values, tuple(extra)).split(tracer.conditions)
    if str(_trace(block, x, extra, training=True)[0]) != str(graph):
        raise RouteError("its forward does different things in training and evaluation")
    return found


def _trace(block: nn.Module, x: Tensor, extra: dict[str, Any], training: bool) -> tuple[fx.Graph, _Tracer]:
    """The block's graph, as its own flag for training leads to it, and the tracer with the example's values."""
    others = list(inspect.signature(block.forward).parameters.values())[1:]
    fixed = {p.name: p.default for p in others if p.name not in extra and p.default is not p.empty}
    tracer = _Tracer((x, *(extra.get(p.name, p.default) for p in others)))
    was = block.training
    block.training = training
    try:
        return tracer.trace(block, concrete_args=fixed), tracer
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise RouteError(f"its forward cannot be traced ({type(error).__name__}: {reason})") from error
    finally:
        block.training = was


def _flows(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, (tuple, list)) and any(_flows(v) for v in value))


@dataclass
class _Splitter:
    """The search of one traced block."""

    block: nn.Module
    graph: fx.Graph
    values: dict[fx.Node, Any]
    extra: tuple[str, ...]
    flow: list[fx.Node] = field(default_factory=list)

    def split(self, conditions: list[tuple[fx.Node, bool]]) -> Split:
        root = next(n for n in self.graph.nodes if n.op == "placeholder")
        output = next(n for n in self.graph.nodes if n.op == "output")
        if not isinstance(output.args[0], fx.Node):
            raise RouteError("its forward returns more than one tensor")
        end = output.args[0]
        cuts = self._cut_points(root, end)
        sums = [(start, node) for start, node in itertools.pairwise(cuts) if self._is_sum(node, start)]
        if not sums:
            raise RouteError("it holds no sum of two operands that both come from its input")
        residuals, params = [], []
        ends = [start for start, _ in sums[1:]] + [end]
        for i, ((start, node), stop) in enumerate(zip(sums, ends, strict=True)):
            operands = [a for a in node.args if isinstance(a, fx.Node)]
            branch, shortcut = sorted(operands, key=lambda n: -self._size(start, n))
            if self._size(start, branch) == 0:
                raise RouteError(f"neither operand of the sum {node.name!r} holds parameters")
            shared = (self._between(start, branch) & self._between(start, shortcut)) - {start}
            if any(n.op == "call_module" for n in shared):
                raise RouteError(f"branch and shortcut of the sum {node.name!r} share {sorted(n.name for n in shared)}")
            pre = self._piece(root, start, root) if i == 0 and start is not root else None
            found = self._parameters(start, branch)
            residuals.append(
                Residual(
                    branch=self._piece(start, branch, root),
                    shortcut=self._piece(start, shortcut, root),
                    post=self._piece(node, stop, root),
                    pre=pre,
                    name=self._largest_child(start, branch),
                    axis=self._channel_axis(start, branch),
                )
            )
            params.append(tuple(found))
        met = [(self._piece(root, node, root), answer) for node, answer in conditions]
        pieces, answers = tuple(p for p, _ in met), tuple(a for _, a in met)
        return Split(tuple(residuals), self.extra, pieces, answers, tuple(params))

    def _cut_points(self, root: fx.Node, end: fx.Node) -> list[fx.Node]:
        """Values that every route from ``root`` to ``end`` passes, in order: routes before x routes behind = all."""
        before: dict[fx.Node, int] = {root: 1}
        self.flow = [root]
        for node in self.graph.nodes:
            if node is not root and node.op != "output" and _flows(self.values.get(node)):
                count = sum(before.get(a, 0) for a in _arguments(node))
                if count:
                    before[node] = count
                    self.flow.append(node)
        if end not in before:
            raise RouteError("its output does not depend on its input")
        behind: dict[fx.Node, int] = {end: 1}
        for node in reversed(self.flow):
            if node is not end:
                behind[node] = sum(behind.get(u, 0) * _arguments(u).count(node) for u in node.users)
        tensors = (n for n in self.flow if isinstance(self.values[n], Tensor))
        return [n for n in tensors if before[n] * behind[n] == before[end]]

    def _is_sum(self, node: fx.Node, start: fx.Node) -> bool:
        if node.target not in _ADDITIONS or node.kwargs or len(node.args) != 2:
            return False
        a, b = node.args
        if not (isinstance(a, fx.Node) and isinstance(b, fx.Node)) or a not in self.flow or b not in self.flow:
            return False
        shapes = {getattr(self.values[n], "shape", None) for n in (a, b, node)}
        return len(shapes) == 1 and a is not b

    def _between(self, start: fx.Node, end: fx.Node) -> set[fx.Node]:
        """Flowing values from ``start`` to ``end``, both included."""
        found: set[fx.Node] = set()
        stack = [end]
        while stack:
            node = stack.pop()
            if node not in found and node in self.flow:
                found.add(node)
                if node is not start:
                    stack.extend(_arguments(node))
        return found

    def _parameters(self, start: fx.Node, end: fx.Node) -> list[nn.Parameter]:
        nodes = self._between(start, end) - {start}
        return list({id(p): p for node in self.flow if node in nodes for p in self._held(node)}.values())

    def _held(self, node: fx.Node) -> Iterator[nn.Parameter]:
        """The parameters an operation takes, also those behind values that do not come from the input."""
        if node.op == "call_module":
            yield from self.block.get_submodule(str(node.target)).parameters()
        elif node.op == "get_attr":
            value = operator.attrgetter(str(node.target))(self.block)
            if isinstance(value, nn.Parameter):
                yield value
        for argument in _arguments(node):
            if argument not in self.flow:
                yield from self._held(argument)

    def _size(self, start: fx.Node, end: fx.Node) -> int:
        return sum(p.numel() for p in self._parameters(start, end))

    def _largest_child(self, start: fx.Node, end: fx.Node) -> str:
        sizes: dict[str, int] = {}
        for node in self._between(start, end):
            if node.op == "call_module":
                child = str(node.target).split(".")[0]
                held = self.block.get_submodule(str(node.target)).parameters()
                sizes[child] = sizes.get(child, 0) + sum(p.numel() for p in held)
        return max(sizes, key=lambda n: sizes[n]) if sizes else ""

    def _channel_axis(self, start: fx.Node, end: fx.Node) -> int:
        """Which axis of the branch's input holds channels, from the first layer that reads it."""
        shape = self.values[start].shape
        region = self._between(start, end)
        for node in self.flow:
            if node.op == "call_module" and node in region and node is not start:
                for layer in self.block.get_submodule(str(node.target)).modules():
                    last = isinstance(layer, nn.Linear) or (
                        isinstance(layer, nn.LayerNorm) and not type(layer).__name__.endswith("2d")
                    )
                    first = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.GroupNorm)) or hasattr(
                        layer, "running_mean"
                    )
                    if last or first or isinstance(layer, nn.LayerNorm):
                        return len(shape) - 1 if last else 1
        return 1 if len(shape) == 4 else len(shape) - 1

    def _piece(self, start: fx.Node, end: fx.Node, root: fx.Node) -> Piece:
        """Code that computes ``end`` from ``start``; sizes are read again from the block's own input."""
        graph = fx.Graph()
        x = graph.placeholder("x")
        names = list(inspect.signature(self.block.forward).parameters)
        placeholders = dict(zip(names, (n for n in self.graph.nodes if n.op == "placeholder"), strict=False))
        inputs = [root, *(placeholders[name] for name in self.extra)]
        made = {node: graph.placeholder(f"input_{i}") for i, node in enumerate(inputs)}
        made[start] = x
        allowed = self._between(start, end)
        in_place = False

        def copy(node: fx.Node) -> fx.Node:
            nonlocal in_place
            if node not in made:
                if node in self.flow and node not in allowed:
                    raise RouteError(f"the part that ends in {end.name!r} also needs {node.name!r} from outside it")
                reads_size = node not in self.flow
                made[node] = graph.node_copy(node, lambda n: copy(twin(n) if reads_size else n))
                in_place = in_place or self._writes(node)
            return made[node]

        def twin(node: fx.Node) -> fx.Node:
            """For a value read only for its size: one of the same size that this part has."""
            if node in self.flow and node not in allowed and node is not root:
                for other in (root, start):
                    if self.values[other].shape == getattr(self.values[node], "shape", None):
                        return other
            return node

        graph.output(copy(end))
        code = graph.python_code(root_module="self")
        scope = {k: v for k, v in code.globals.items() if k != "__builtins__"}
        while end is not start and self._is(end, nn.Identity):
            [end] = _arguments(end)
        relu = end is not start and self._is_relu(end)
        return Piece(code.src, scope, end is start, in_place, relu, relu and _arguments(end) == [start])

    def _is_relu(self, node: fx.Node) -> bool:
        return self._is(node, nn.ReLU) or (node.op in ("call_function", "call_method") and node.target in _RELUS)

    def _is(self, node: fx.Node, kind: type[nn.Module]) -> bool:
        return node.op == "call_module" and type(self.block.get_submodule(str(node.target))) is kind

    def _writes(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return any(getattr(m, "inplace", False) for m in self.block.get_submodule(str(node.target)).modules())
        if node.op == "call_method":
            return str(node.target).endswith("_")
        name = getattr(node.target, "__name__", "")
        return bool(node.kwargs.get("inplace")) or name.endswith("_") or name in ("iadd", "imul", "isub")


def _arguments(node: fx.Node) -> list[fx.Node]:
    """The nodes an operation reads, with repetitions."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), lambda n: found.append(n))
    return found
