"""What a forward does with the keyword arguments it does not name: ``**kwargs``.

Layers of transformers take any and hand them to a child, ``self.attention(x, mask, **kwargs)``. Then nobody needs to
know them: whatever a call brings goes the same way. A forward that looks into them itself, or hands them to a function,
might take another way for another name, so there only those names are known with which it was routed.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
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
    name = rest_name(block)
    if not name:
        return False
    forward = inspect.unwrap(block.__dict__.get("forward") or type(block).forward)
    try:
        [function] = ast.parse(textwrap.dedent(inspect.getsource(forward))).body
    except (OSError, TypeError, SyntaxError, ValueError):
        return False  # no source to look at
    if not isinstance(function, ast.FunctionDef) or function.args.kwarg is None or not function.args.args:
        return False
    own, name = function.args.args[0].arg, function.args.kwarg.arg
    handed = {
        id(keyword.value)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and _is_child(call.func, own, block)
        for keyword in call.keywords
        if keyword.arg is None
    }
    return all(id(n) in handed for n in ast.walk(function) if isinstance(n, ast.Name) and n.id == name)


def _is_child(function: ast.expr, own: str, block: nn.Module) -> bool:
    """Whether what is called is ``self.child``."""
    return (
        isinstance(function, ast.Attribute)
        and isinstance(function.value, ast.Name)
        and function.value.id == own
        and isinstance(block._modules.get(function.attr), nn.Module)
    )


class Rest(fx.Proxy):
    """A recorded ``**kwargs``: handed on with ``**`` it is one keyword argument, `REST`."""

    def keys(self) -> Any:
        return [REST]

    def __getitem__(self, key: Any) -> Any:
        return self if key == REST else super().__getitem__(key)  # type: ignore[index]
