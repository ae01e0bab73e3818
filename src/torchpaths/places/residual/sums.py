"""The residual sums of a recorded block, and its parts as code."""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from torchpaths.errors import RouteError
from torchpaths.places.residual.axes import channel_axis
from torchpaths.places.residual.length import Way, longer
from torchpaths.places.residual.parts import Piece, Residual, Returned, Split
from torchpaths.places.residual.rest import REST, rest_name
from torchpaths.places.residual.tracing import writes_in_place

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add", "add_"}
_RELUS = {torch.relu, torch.relu_, nn.functional.relu, nn.functional.relu_, "relu", "relu_"}


def _flows(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, (tuple, list)) and any(_flows(v) for v in value))


@dataclass
class Splitter:
    """The search of one traced block."""

    block: nn.Module
    graph: fx.Graph
    values: dict[fx.Node, Any]
    extra: tuple[str, ...]
    rest: bool = False
    flow: list[fx.Node] = field(default_factory=list)

    def split(self, conditions: list[tuple[fx.Node, bool]]) -> Split:
        root = next(n for n in self.graph.nodes if n.op == "placeholder")
        output = next(n for n in self.graph.nodes if n.op == "output")
        end, others = self._ends(output.args[0])
        cuts = self._cut_points(root, end)
        sums = [(start, node) for start, node in itertools.pairwise(cuts) if self._is_sum(node, start)]
        if not sums:
            raise RouteError("it holds no sum of two operands that both come from its input")
        residuals, params, branches = [], [], []
        ends = [start for start, _ in sums[1:]] + [end]
        for i, ((start, node), stop) in enumerate(zip(sums, ends, strict=True)):
            branch, shortcut = self._operands(start, node, root)
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
                    axis=self._channel_axis(start, branch, root),
                )
            )
            params.append(tuple(found))
            branches.append((start, branch, node))
        met = [(self._piece(root, node, root), answer) for node, answer in conditions]
        pieces, answers = tuple(p for p, _ in met), tuple(a for _, a in met)
        returned = None
        if others is not None:
            returned = self._returned(type(output.args[0]), others, branches, root)
        return Split(tuple(residuals), self.extra, pieces, answers, tuple(params), rest=self.rest, returned=returned)

    def _ends(self, returned: Any) -> tuple[fx.Node, tuple[Any, ...] | None]:
        """The block's output, and what it returns beside it; None if that is not asked for."""
        if isinstance(returned, fx.Node) and isinstance(self.values.get(returned), Tensor):
            return returned, None
        several = isinstance(returned, (tuple, list)) and len(returned) > 0
        if not several or not isinstance(self.values.get(returned[0]), Tensor):
            raise RouteError("its forward does not return a tensor, or one first")
        if any(isinstance(v, (tuple, list, dict)) and v for v in returned[1:]):
            raise RouteError("its forward returns several values that hold others")
        return returned[0], tuple(returned[1:])

    def _returned(
        self, kind: type[Any], others: tuple[Any, ...], branches: list[tuple[fx.Node, fx.Node, fx.Node]], root: fx.Node
    ) -> Returned:
        """How what the block returns beside its output is made."""
        values: list[Any] = []
        noted: list[list[int]] = [[] for _ in branches]
        for place, value in enumerate(others):
            made = value
            if isinstance(value, fx.Node):
                made = None
                needs = self._needs(value) - {root}
                holds = [i for i, ends in enumerate(branches) if self._on_the_way(needs, *ends)]
                if not needs:
                    made = self._piece(root, value, root)
                elif not holds:
                    raise RouteError(
                        f"its forward returns {value.name!r} too, which is not made in one of its branches"
                    )
                else:
                    noted[holds[0]].append(place)
            values.append(made)
        noting = tuple(
            (self._piece(start, (branch, *(others[i] for i in places)), root), tuple(places)) if places else None
            for (start, branch, _), places in zip(branches, noted, strict=True)
        )
        return Returned(tuple if issubclass(kind, tuple) else list, tuple(values), noting)

    def _on_the_way(self, needs: set[fx.Node], start: fx.Node, branch: fx.Node, total: fx.Node) -> bool:
        """Whether values are made of what a branch computes, and of nothing else."""
        made = set().union(*(self._between(start, node) for node in needs))
        ends = {node for node in made if not any(a in self.flow for a in _arguments(node))}
        inside = bool(made & self._between(start, branch) - {start})
        return ends <= {start} and start in made and total not in made and inside

    def _needs(self, node: fx.Node) -> set[fx.Node]:
        """The flowing values of which something is made."""
        found: set[fx.Node] = set()
        waiting, seen = [node], set()
        while waiting:
            here = waiting.pop()
            if here in self.flow:
                found.add(here)
            elif here not in seen:
                seen.add(here)
                waiting += _arguments(here)
        return found

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

    def _operands(self, start: fx.Node, node: fx.Node, root: fx.Node) -> tuple[fx.Node, fx.Node]:
        """Branch and shortcut of a sum."""
        a, b = (n for n in node.args if isinstance(n, fx.Node))
        one, other = (Way(self._parameters(start, n), self._runner(start, n, root)) for n in (a, b))
        if not one.parameters and not other.parameters:
            raise RouteError(f"neither operand of the sum {node.name!r} holds parameters")
        return (a, b) if longer(one, other, self.values[start]) is one else (b, a)

    def _runner(self, start: fx.Node, end: fx.Node, root: fx.Node) -> Callable[[Tensor], Tensor]:
        """``end`` as a function of ``start``, for values of other sizes too."""
        x = self.values[root]
        alike = self.values[start].shape == x.shape

        def run(value: Tensor) -> Tensor:
            others = [self.values[n] for n in self._inputs(root)[1:]]
            given = value if alike else x[: len(value)]
            return self._piece(start, end, root)(self.block, value, given, *others)

        return run

    def _largest_child(self, start: fx.Node, end: fx.Node) -> str:
        sizes: dict[str, int] = {}
        for node in self._between(start, end):
            if node.op == "call_module":
                child = str(node.target).split(".")[0]
                held = self.block.get_submodule(str(node.target)).parameters()
                sizes[child] = sizes.get(child, 0) + sum(p.numel() for p in held)
        return max(sizes, key=lambda n: sizes[n]) if sizes else ""

    def _channel_axis(self, start: fx.Node, end: fx.Node, root: fx.Node) -> int:
        """Which axis of the branch's input holds channels."""
        region = self._between(start, end)
        alone = (n for n in self.flow if n in region and n.op == "call_module" and n.args == (start,) and not n.kwargs)
        readers = [self.block.get_submodule(str(n.target)) for n in alone]
        calls = (n for n in self.flow if n in region and n is not start and n.op == "call_module")
        children = [self.block.get_submodule(str(n.target)) for n in calls]
        axis = channel_axis(self.values[start], readers, self._runner(start, end, root), children)
        if axis is None:
            raise RouteError(
                "nothing tells which axis of its input, of shape "
                f"{tuple(self.values[start].shape)}, holds channels; say so by hand, Residual(..., axis=)"
            )
        return axis

    def _piece(self, start: fx.Node, end: fx.Node | tuple[fx.Node, ...], root: fx.Node) -> Piece:
        """Code that computes ``end``, or several values, from ``start``; sizes are read again from the block's own
        input."""
        ends = end if isinstance(end, tuple) else (end,)
        graph = fx.Graph()
        x = graph.placeholder("x")
        made = {node: graph.placeholder(f"input_{i}") for i, node in enumerate(self._inputs(root))}
        made[start] = x
        needed = [n for e in ends for n in self._needs(e)] if isinstance(end, tuple) else ends
        allowed = set().union(*(self._between(start, n) for n in needed))
        in_place = False

        def copy(node: fx.Node) -> fx.Node:
            nonlocal in_place
            if node not in made:
                if node in self.flow and node not in allowed:
                    raise RouteError(f"the part that ends in {ends[0].name!r} also needs {node.name!r} from outside it")
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

        graph.output(tuple(map(copy, end)) if isinstance(end, tuple) else copy(end))
        code = graph.python_code(root_module="self")
        source = re.sub(rf"\b{REST} = (\w+)", r"**\1", code.src)
        scope = {k: v for k, v in code.globals.items() if k != "__builtins__"}
        if isinstance(end, tuple):
            return Piece(source, scope, False, in_place)
        while end is not start and self._is(end, nn.Identity):
            [end] = _arguments(end)
        relu = end is not start and self._is_relu(end)
        layer = str(end.target) if relu and end.op == "call_module" else ""
        return Piece(source, scope, end is start, in_place, relu, relu and _arguments(end) == [start], layer)

    def _inputs(self, root: fx.Node) -> list[fx.Node]:
        """What every part is given beside its own value."""
        placeholders = {str(n.target): n for n in self.graph.nodes if n.op == "placeholder"}
        rest = [rest_name(self.block)] if self.rest else []
        return [root, *(placeholders[name] for name in (*self.extra, *rest))]

    def _is_relu(self, node: fx.Node) -> bool:
        return self._is(node, nn.ReLU) or (node.op in ("call_function", "call_method") and node.target in _RELUS)

    def _is(self, node: fx.Node, kind: type[nn.Module]) -> bool:
        return node.op == "call_module" and type(self.block.get_submodule(str(node.target))) is kind

    def _writes(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return any(getattr(m, "inplace", False) for m in self.block.get_submodule(str(node.target)).modules())
        return writes_in_place(node)


def _arguments(node: fx.Node) -> list[fx.Node]:
    """The nodes an operation reads, with repetitions."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), lambda n: found.append(n))
    return found
