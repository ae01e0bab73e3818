"""Record what a block's own forward does, every child opaque, without touching the block or anybody else.

``torch.fx.Tracer.trace`` replaces ``nn.Module.__call__`` and ``__getattr__`` for the whole process while it runs:
another thread's model would be recorded too, or fail. And what the forward writes on its own module while it is traced
stays there. So the forward runs on a *twin*: a shallow copy of the block and of all modules in it, with attribute
dictionaries and containers of their own. A twin's call is answered by the recorder (``_compiled_call_impl``, which
every ``nn.Module`` asks first) and its tables of parameters and buffers hand out proxies, so nothing has to be patched.
What the forward wrote is found on the twin, and is thrown away with it.
"""

from __future__ import annotations

import copy
import math
import operator
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, fx, nn

from torchpaths.places.untouched import Untouched


class Constant:
    """A tensor that a forward makes from nothing, as a function of a graph."""

    __name__ = "constant"

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def __call__(self) -> Tensor:
        return self.value


class _Proxy(fx.Proxy):
    """A recorded value; rounding it is recorded too."""

    def __ceil__(self) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", math.ceil, (self,), {})

    def __floor__(self) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", math.floor, (self,), {})


class _Held(fx.Proxy):
    """A recorded parameter or buffer, whose sizes are known."""

    def __init__(self, node: fx.Node, tracer: Recorder, value: Tensor) -> None:
        super().__init__(node, tracer)
        self.held = value

    @property
    def shape(self) -> torch.Size:
        return self.held.shape

    @property
    def ndim(self) -> int:
        return self.held.ndim

    def size(self, axis: int | None = None) -> Any:
        return self.held.size() if axis is None else self.held.size(axis)

    def dim(self) -> int:
        return self.held.dim()

    def numel(self) -> int:
        return self.held.numel()


class _Table(dict[str, Any]):
    """A module's parameters or buffers: looked up by name, which is how a forward gets them, they are recorded."""

    def __init__(self, content: dict[str, Any], prefix: str, recorder: Recorder) -> None:
        super().__init__(content)
        self.prefix = prefix
        self.recorder = recorder

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        return self.recorder.held(self.prefix + name, value) if isinstance(value, Tensor) else value


class Recorder(fx.Tracer):
    """Records functions of a block.

    Attributes:
        twin: what the block's place is taken by while they run.
    """

    def __init__(self, block: nn.Module, training: bool | None = None) -> None:
        """
        Args:
            block: not touched.
            training: the twin's own flag; None for the block's.
        """
        super().__init__()
        self.block = block
        self.graph = fx.Graph()
        self._held: dict[str, fx.Proxy] = {}
        self._twins: dict[int, Any] = {}
        self._names: dict[int, str] = {}
        self.twin = self._twin(block, "")
        self.twin.__dict__["training"] = block.training if training is None else training
        self.root = self.twin
        self.tensor_attrs = {
            value: f"{self._names[id(twin)]}{name}"
            for twin in list(self._twins.values())
            if isinstance(twin, nn.Module)
            for name, value in twin.__dict__.items()
            if isinstance(value, Tensor)
        }
        self._before = Untouched(self.twin)

    def record(self, run: Callable[[nn.Module], Any]) -> fx.Graph:
        """The graph of a function of the block that takes proxies (see `argument`) from wherever it likes."""
        self.create_node("output", "output", (self.create_arg(run(self.twin)),), {})
        return self.graph

    def argument(self, name: str, *default: Any) -> fx.Proxy:
        """A new argument of the graph."""
        return self.create_proxy("placeholder", name, default, {})

    def written(self) -> tuple[str, ...]:
        """Names of the attributes, within the block, on which what was recorded wrote: by assignment or in place."""
        found = dict.fromkeys(f"{module}.{name}" if module else name for module, name in self._before.changed())
        into = (_origin(node) for node in self.graph.nodes if writes_in_place(node))
        found.update(dict.fromkeys(str(node.target) for node in into if node is not None and node.op == "get_attr"))
        return tuple(found)

    def _twin(self, module: nn.Module, prefix: str) -> nn.Module:
        if id(module) in self._twins:
            known: nn.Module = self._twins[id(module)]
            return known
        twin: nn.Module = object.__new__(type(module))
        self._twins[id(module)] = twin
        self._names[id(twin)] = prefix
        own = twin.__dict__
        children = module.__dict__["_modules"]
        own["_modules"] = {n: None if m is None else self._twin(m, f"{prefix}{n}.") for n, m in children.items()}
        for name in ("_parameters", "_buffers"):
            own[name] = _Table(module.__dict__[name], prefix, self)
        own.update({name: self._own(value) for name, value in module.__dict__.items() if name not in own})
        if module is not self.block:
            own["_compiled_call_impl"] = partial(self._called, prefix[:-1])
        return twin

    def _own(self, value: Any) -> Any:
        """The twin's own version of an attribute: containers are copied, what is of the block is of the twin."""
        if id(value) in self._twins:
            return self._twins[id(value)]
        if isinstance(value, MethodType) and id(value.__self__) in self._twins:
            return MethodType(value.__func__, self._twins[id(value.__self__)])
        if isinstance(value, (dict, list, set, deque)):
            made: Any = copy.copy(value)
            self._twins[id(value)] = made
            if isinstance(value, dict):
                made.update({k: self._own(v) for k, v in value.items()})
            elif not isinstance(value, set):
                for i, inner in enumerate(value):
                    made[i] = self._own(inner)
            return made
        return value

    def _called(self, name: str, *args: Any, **kwargs: Any) -> fx.Proxy:
        return self.create_proxy("call_module", name, args, kwargs)

    def held(self, name: str, value: Tensor) -> fx.Proxy:
        """The proxy of a parameter or buffer."""
        if name not in self._held:
            node = self.create_node("get_attr", name, (), {})
            self._held[name] = _Held(node, self, value)
        return self._held[name]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_arg(self, a: Any) -> Any:
        known = isinstance(a, nn.Parameter) or not isinstance(a, Tensor) or a in self.tensor_attrs
        if known or any(a is buffer for buffer in self.root.buffers()):
            return super().create_arg(a)
        return self.create_node("call_function", Constant(a), (), {})


def writes_in_place(node: fx.Node) -> bool:
    """Whether an operation, other than that of a module, may write into what it is given."""
    if node.op == "call_method":
        name = str(node.target)
        return name.endswith("_") and not name.endswith("__")
    if node.op != "call_function":
        return False
    name = getattr(node.target, "__name__", "")
    return bool(node.kwargs.get("inplace")) or name.endswith("_") or name in _IN_PLACE


def _origin(node: fx.Node) -> fx.Node | None:
    """What an operation in place writes into, seen through views."""
    while True:
        first = node.args[0] if node.args else None
        if not isinstance(first, fx.Node):
            return None
        if first.target not in _VIEWS:
            return first
        node = first


_VIEWS = {operator.getitem, getattr, "view", "select", "narrow", "unsqueeze", "squeeze", "transpose", "t", "detach"}
_IN_PLACE = {f.__name__ for f in (operator.iadd, operator.imul, operator.isub, operator.itruediv, operator.setitem)}


class Evaluated(Recorder):
    """Records beside a real example, so that an ``if`` that depends on shapes resolves.

    Attributes:
        conditions: the values that were asked whether they are true, and the answers.
    """

    def __init__(self, block: nn.Module, training: bool | None = None) -> None:
        super().__init__(block, training)
        self.conditions: list[tuple[fx.Node, bool]] = []
        self._values: dict[fx.Node, Any] = {}

    def given(self, name: str, value: Any) -> fx.Proxy:
        """A new argument of the graph, and what it is in the example."""
        proxy = self.argument(name)
        self._values[proxy.node] = value
        return proxy

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
        kwargs = fx.node.map_arg(node.kwargs, self._values.__getitem__)
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
        self.conditions.append((obj.node, answer))
        return answer

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        value = self.value(obj.node)
        if isinstance(value, (tuple, list)):
            return iter([obj[i] for i in range(len(value))])  # type: ignore[index]
        return super().iter(obj)


def _fresh(args: Any) -> Any:
    """Arguments with tensors copied, so that in-place operations leave earlier values as they were."""
    return fx.node.map_aggregate(args, lambda v: v.clone() if isinstance(v, Tensor) else v)
