"""Record a forward beside a real example, so that an ``if`` that depends on sizes or kinds resolves.

What an ``if`` asked is kept, to be asked again of every input. One that depends on values is refused: another input
of the same size would take another way, and the parts would be those of the first.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from torchpaths.errors import RouteError
from torchpaths.places.residual.rest import REST, Rest
from torchpaths.places.residual.tracing import Recorder


class Evaluated(Recorder):
    """Records beside a real example.

    Attributes:
        conditions: the values that were asked whether they are true, and the answers.
        asked: the arguments of which somebody asked what kind they are.
    """

    def __init__(self, block: nn.Module, training: bool) -> None:
        """
        Args:
            block: not touched.
            training: what the flags for training of the block and its children say.
        """
        self.training = training
        self.conditions: list[tuple[fx.Node, bool]] = []
        self.asked: set[str] = set()
        self._values: dict[fx.Node, Any] = {}
        super().__init__(block)

    def given(self, name: str, value: Any) -> fx.Proxy:
        """A new argument of the graph, and what it is in the example."""
        proxy = self.argument(name)
        self._values[proxy.node] = value
        return proxy

    def given_rest(self, name: str, value: dict[str, Any]) -> Rest:
        """A new argument for all keyword arguments that are not named, and what they are in the example."""
        proxy = self.rest(name)
        self._values[proxy.node] = value
        return proxy

    def flag(self, name: str) -> Any:
        proxy = super().flag(name)
        self._values[proxy.node] = self.training
        return proxy

    def kind(self, node: fx.Node) -> type[Any]:
        if node.op == "placeholder":
            self.asked.add(str(node.target))
        return type(self.value(node))

    def value(self, node: fx.Node) -> Any:
        """A node's value for the example, computed when it is asked for first."""
        waiting = [node]
        while waiting:
            top = waiting[-1]
            missing = [a for a in top.all_input_nodes if a not in self._values]
            if top in self._values or not missing:
                waiting.pop()
                if top not in self._values:
                    self._values[top] = self._evaluate(top)
            else:
                waiting.extend(missing)
        return self._values[node]

    def _evaluate(self, node: fx.Node) -> Any:
        args = fx.node.map_arg(node.args, self._values.__getitem__)
        named: dict[str, Any] = dict(fx.node.map_arg(node.kwargs, self._values.__getitem__))
        rest = named.pop(REST, {})
        kwargs = {**named, **rest}
        with torch.no_grad():
            if node.op == "call_module":
                return self.block.get_submodule(str(node.target))(*_fresh(args), **kwargs)
            if node.op == "get_attr":
                return operator.attrgetter(str(node.target))(self.block)
            if node.op == "call_method":
                return getattr(_fresh(args)[0], str(node.target))(*args[1:], **kwargs)
            assert callable(node.target)
            return node.target(*_fresh(args), **kwargs)

    def to_bool(self, obj: fx.Proxy) -> bool:
        answer = bool(self.value(obj.node))
        read = self._reads(obj.node)
        if read is not None:
            raise RouteError(
                f"its forward asks a condition about values ({read}), not only about sizes or kinds: another input of "
                "this size may take another way. Write it as torch.where, or move the part that asks into a child "
                "module of the block; where branches do not ask, the block may be given by hand"
            )
        self.conditions.append((obj.node, answer))
        return answer

    def _reads(self, node: fx.Node) -> str | None:
        """What of a tensor that comes from the input, other than its size and kind, a value was made of."""
        waiting, seen = [node], set()
        while waiting:
            here = waiting.pop()
            if here in seen:
                continue
            seen.add(here)
            if isinstance(self.value(here), Tensor):
                if self._comes_from_input(here):
                    return str(here.name)
            elif not self._describes(here):
                waiting += here.all_input_nodes
        return None

    def _comes_from_input(self, node: fx.Node) -> bool:
        """Whether values of a tensor may depend on those of a tensor that is given."""
        waiting, seen = [node], set()
        while waiting:
            here = waiting.pop()
            if here not in seen and not self._describes(here):
                seen.add(here)
                if here.op == "placeholder" and isinstance(self.value(here), Tensor):
                    return True
                waiting += here.all_input_nodes
        return False

    def _describes(self, node: fx.Node) -> bool:
        """Whether a value is of a tensor's size or kind: what is the same for all tensors like it."""
        first = node.args[0] if node.args else None
        if not isinstance(first, fx.Node) or not isinstance(self.value(first), Tensor):
            return False
        if isinstance(self.value(node), Tensor):
            return False
        return node.target is getattr or node.target in _DESCRIBE

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        value = self.value(obj.node)
        if isinstance(value, (tuple, list)):
            return iter([obj[i] for i in range(len(value))])  # type: ignore[index]
        return super().iter(obj)


_METHODS = ("size", "dim", "ndimension", "numel", "nelement", "stride", "is_contiguous", "is_floating_point")
_DESCRIBE: set[Any] = {*_METHODS, "is_complex", "get_device", "type", "element_size", "__len__", len}
_DESCRIBE |= {torch.numel, torch.is_floating_point, torch.is_complex, torch.is_tensor, isinstance}


def _fresh(args: Any) -> Any:
    """Arguments with tensors copied, so that in-place operations leave earlier values as they were."""
    return fx.node.map_aggregate(args, lambda v: v.clone() if isinstance(v, Tensor) else v)
