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
import dis
import math
import operator
import sys
from collections import deque
from collections.abc import Callable
from functools import lru_cache, partial
from types import CodeType, MethodType
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from torchpaths.places.residual.again import FLAG
from torchpaths.places.residual.rest import Rest
from torchpaths.places.untouched import Untouched


def _asks_kind(frame: Any) -> bool:
    """Whether what a frame of Python is doing is a call ``isinstance(...)``: at its place in the text stands that
    name."""
    return _asks_there(frame.f_code, frame.f_lasti)


@lru_cache(maxsize=4096)
def _asks_there(code: CodeType, at: int) -> bool:
    """See `_asks_kind`, of an instruction; kept, as a forward asks thousands of times from the same few places."""
    places = list(code.co_positions())
    line, _, column, _ = places[at // 2]
    here = line, column
    return column is not None and any(
        i.argval == "isinstance" and i.positions and (i.positions.lineno, i.positions.col_offset) == here
        for i in dis.get_instructions(code)
        if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    )


class Constant:
    """A tensor that a forward makes from nothing, as a function of a graph."""

    __name__ = "constant"

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def __call__(self) -> Tensor:
        return self.value


class _Proxy(fx.Proxy):
    """A recorded value; rounding it is recorded too, and it passes for what it is in the example."""

    _is_param = _is_buffer = False  # what torch asks of a tensor to know whether it is one

    @property
    def __class__(self) -> Any:
        """The class of the example's value for whoever asks ``isinstance``, and for nobody else: torch itself would
        take memory for a tensor's that is none."""
        tracer: Any = self.__dict__["tracer"]
        return tracer.kind(self.node) if _asks_kind(sys._getframe(1)) else type(self)

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        raise TypeError("a recorded value has no class of its own")

    def __ceil__(self) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", math.ceil, (self,), {})

    def __floor__(self) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", math.floor, (self,), {})


class Held(fx.Proxy):
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


class _Factories(TorchFunctionMode):
    """Records what torch makes from sizes alone, such as ``torch.arange(height)``; a mode of this thread."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        if any(issubclass(type(v), fx.Proxy) for v in leaves) and not any(issubclass(t, fx.Proxy) for t in types):
            return self.recorder.create_proxy("call_function", func, args, kwargs)
        return func(*args, **kwargs)


class Recorder(fx.Tracer):
    """Records functions of a block.

    Attributes:
        twin: what the block's place is taken by while they run.
    """

    def __init__(self, block: nn.Module) -> None:
        """
        Args:
            block: not touched.
        """
        super().__init__()
        self.block = block
        self.graph = fx.Graph()
        self._held: dict[str, fx.Proxy] = {}
        self._twins: dict[int, Any] = {}
        self._names: dict[int, str] = {}
        self.twin = self._twin(block, "")
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
        with _Factories(self):
            value = run(self.twin)
        self.create_node("output", "output", (self.create_arg(value),), {})
        given = [node for node in self.graph.nodes if node.op == "placeholder"]
        for node in [proxy.node for name, proxy in self._held.items() if name.rpartition(".")[2] == "training"]:
            if not node.users:
                self.graph.erase_node(node)
            elif given:
                given[-1].append(node)
        return self.graph

    def argument(self, name: str, *default: Any) -> fx.Proxy:
        """A new argument of the graph."""
        return self.create_proxy("placeholder", name, default, {})

    def rest(self, name: str) -> Rest:
        """A new argument for all keyword arguments that are not named."""
        return Rest(self.create_node("placeholder", name, (), {}), self)

    def settled(self) -> dict[str, Any]:
        """The attributes, within the block, to which numbers or texts were assigned, known before it runs; each with
        the last of them."""
        found = {}
        for module, name in self._before.changed():
            value = self.twin.get_submodule(module).__dict__.get(name, _Proxy)
            if type(value) in _PLAIN and name != "training":
                found[f"{module}.{name}" if module else name] = value
        return found

    def written(self) -> tuple[str, ...]:
        """Names of the attributes, within the block, on which what was recorded wrote: by assignment, other than of
        what is `settled`, or in place."""
        found = dict.fromkeys(f"{module}.{name}" if module else name for module, name in self._before.changed())
        found = {name: None for name in found if name not in self.settled()}
        into = (_origin(node) for node in self.graph.nodes if writes_in_place(node))
        found.update(dict.fromkeys(str(node.target) for node in into if node is not None and node.op == "get_attr"))
        return tuple(found)

    def kind(self, node: fx.Node) -> type[Any]:
        """What a value passes for where somebody asks."""
        return fx.Proxy

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
        own["training"] = self.flag(f"{prefix}training")  # recorded, it is read again whenever what was recorded runs
        if FLAG in own:
            own[FLAG] = False  # it says when values are computed, not which
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
            self._held[name] = Held(node, self, value)
        return self._held[name]

    def flag(self, name: str) -> Any:
        """The proxy of a module's flag for training."""
        if name not in self._held:
            self._held[name] = self.proxy(self.create_node("get_attr", name, (), {}))
        return self._held[name]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_arg(self, a: Any) -> Any:
        if issubclass(type(a), fx.Proxy):
            return a.node
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


_PLAIN = (bool, int, float, str, type(None))
_VIEWS = {operator.getitem, getattr, "view", "select", "narrow", "unsqueeze", "squeeze", "transpose", "t", "detach"}
_IN_PLACE = {f.__name__ for f in (operator.iadd, operator.imul, operator.isub, operator.itruediv, operator.setitem)}
