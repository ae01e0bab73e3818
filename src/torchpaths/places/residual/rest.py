"""What a forward does with the keyword arguments it does not name: ``**kwargs``.

Layers of transformers take any and hand them to a child, ``self.attention(x, mask, **kwargs)``. Then nobody needs to
know them: whatever a call brings goes the same way. A forward that looks into them itself, or hands them to a function,
might take another way for another name, so there only those names are known with which it was routed.
"""

from __future__ import annotations

import ast
import inspect
import operator
import textwrap
from functools import lru_cache
from types import CodeType
from typing import Any

from torch import fx, nn

REST = "__rest__"
"""The keyword under which all further keyword arguments pass through a recorded forward."""


def rest_name(block: nn.Module) -> str:
    """What a block's forward calls the keyword arguments that it does not name; empty if it takes none."""
    kinds = {p.kind: p.name for p in inspect.signature(block.forward).parameters.values()}
    return kinds.get(inspect.Parameter.VAR_KEYWORD, "")


def hands_on_rest(block: nn.Module) -> bool:
    """Whether all that a block's forward does with them is to hand them to children of the block."""
    return rest_name(block) in handed(block)


def handed(block: nn.Module) -> set[str]:
    """The arguments of a block's forward of which it does nothing but hand them to children of the block, whatever
    they are: a mask that may be None, or ``**kwargs``. None where there is no source to look at."""
    forward = inspect.unwrap(block.__dict__.get("forward") or type(block).forward)
    code = getattr(forward, "__code__", None)
    children = frozenset(name for name, child in block._modules.items() if child is not None)
    return set(_handed(code, children)) if isinstance(code, CodeType) else set()


@lru_cache(maxsize=256)
def _handed(code: CodeType, children: frozenset[str]) -> frozenset[str]:
    """See `handed`, of a forward and the names of a block's children; kept, as each of a model's blocks of one kind is
    asked several times."""
    try:
        [function] = ast.parse(textwrap.dedent(inspect.getsource(code))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return frozenset()
    if not isinstance(function, ast.FunctionDef) or not function.args.args:
        return frozenset()
    own, *others = (argument.arg for argument in (*function.args.args, *function.args.kwonlyargs))
    calls = [n for n in ast.walk(function) if isinstance(n, ast.Call) and _is_child(n.func, own, children)]
    values = {id(value) for call in calls for value in (*call.args, *(k.value for k in call.keywords if k.arg))}
    rest = {id(keyword.value) for call in calls for keyword in call.keywords if keyword.arg is None}
    names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
    found = {name for name in others[1:] if all(id(n) in values for n in names if n.id == name)}
    if function.args.kwarg is not None:
        name = function.args.kwarg.arg
        found |= {name} if all(id(n) in rest for n in names if n.id == name) else set()
    return frozenset(found)


def _is_child(function: ast.expr, own: str, children: frozenset[str]) -> bool:
    """Whether what is called is ``self.child``."""
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == own
        and function.attr in children
    )


class Rest(fx.Proxy):
    """A recorded ``**kwargs``: handed on with ``**`` it is one keyword argument, `REST`."""

    def keys(self) -> Any:
        return [REST]

    def __getitem__(self, key: Any) -> Any:
        return self if key == REST else self.tracer.create_proxy("call_function", operator.getitem, (self, key), {})
