"""A block's parts that compute its children directly, past ``nn.Module.__call__``: ``Direct``.

Looking for hooks takes ``__call__`` a few microseconds for each layer, and convolutions and norms take as long again to
collect their arguments: together a fifth of a small block's time at batch 1, more than a gate costs. Whether any child
has a hook, and whether all are still the ones the parts were made for, is looked up for a whole network in one go.
"""

from __future__ import annotations

import functools
import itertools
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from torchpaths.places.residual.parts import Part, Piece
from torchpaths.places.residual.place import ResidualPlace
from torchpaths.skips.overwrite import overwriting

_CALL = re.compile(r"\bself\.(\w+)\(")
_EVERYWHERE = torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks


class Direct:
    """The steps of a residual block, for its children as they are now.

    Attributes:
        steps: the same steps past hooks.
        called: the same steps with hooks, and with nothing left out that a hook may see.
        block: the block.
        children: those that it computes: the table that holds each, its name there, itself.
        hooked: whether hooks are to be called now, see `Watch`.
    """

    def __init__(self, place: ResidualPlace) -> None:
        """
        Args:
            place: of the block.
        """
        block = place.block
        children: dict[str, nn.Module] = {}
        self.steps = tuple(step.using(functools.partial(self._direct, block, children)) for step in place.known())
        self.called = tuple(step.using(_unrectified) for step in place.steps)
        for step in place.steps:
            pieces = (step.pre, step.branch, step.shortcut, step.post)
            children.update({p.relu: block.get_submodule(p.relu) for p in pieces if isinstance(p, Piece) and p.relu})
        self.block = block
        self.children = [(*_held(block, name), child) for name, child in children.items()]
        self.hooked = False

    def watched(self) -> bool:
        """Whether one of the children has a hook."""
        return any(child._forward_hooks or child._forward_pre_hooks for *_, child in self.children)

    @staticmethod
    def _direct(block: nn.Module, children: dict[str, nn.Module], piece: Part) -> Part:
        """The same part without the hooks of the block's children, which are noted; itself if it calls none of them."""
        if not isinstance(piece, Piece):
            return piece
        called = _called(piece, block)
        bound = {f"__direct_{name}": _computing(child) for name, child in called.items()}
        if not bound:
            return piece
        children.update(called)
        source = _CALL.sub(lambda m: f"__direct_{m[1]}(" if m[1] in called else m[0], piece.source)
        source, over = overwriting(source, {f"__direct_{name}": child for name, child in called.items()}, bound)
        names = {**piece.names, **bound, **over}
        return Piece(source, names, piece.identity, piece.in_place, piece.rectifies, piece.rectifier, piece.relu)


class Watch:
    """Whether the children of all blocks are still what their `Direct` was made for; looked through before each call,
    so in few and cheap steps."""

    def __init__(self, directs: Sequence[Direct]) -> None:
        """
        Args:
            directs: of all blocks.
        """
        self._directs = directs
        found = [entry for direct in directs for entry in direct.children]
        self._tables = [table for table, _, _ in found]
        self._names = [name for _, name, _ in found]
        self._children = [child for _, _, child in found]
        self._kinds = list(map(type, self._children))
        self._own = [child.__dict__ for child in self._children]
        hooks = ((child._forward_hooks, child._forward_pre_hooks) for child in self._children)
        self._hooks = [*itertools.chain.from_iterable(hooks), *_EVERYWHERE]
        self._hooked = False
        self._blocks = [direct.block for direct in directs]
        self._made_of = list(map(_made_of, self._blocks))

    def holds(self) -> bool:
        """Whether all are still there, of the same class, with its forward; and the blocks what they were."""
        if list(map(_made_of, self._blocks)) != self._made_of:
            return False
        now = map(dict.get, self._tables, self._names)
        same = not any(map(operator.is_not, now, self._children)) and list(map(type, self._children)) == self._kinds
        return same and not any(map(dict.__contains__, self._own, itertools.repeat("forward")))

    def look_for_hooks(self) -> None:
        """Tell every `Direct` whether there are hooks for it to call."""
        if any(self._hooks) or self._hooked:
            everywhere = any(_EVERYWHERE)
            for direct in self._directs:
                direct.hooked = everywhere or direct.watched()
            self._hooked = any(direct.hooked for direct in self._directs)


def _made_of(block: nn.Module) -> tuple[type[nn.Module], object]:
    return type(block), block.__dict__.get("forward")


def _unrectified(piece: Part) -> Part:
    return piece.unrectified() if isinstance(piece, Piece) else piece


def _held(block: nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """The table in which a block has one of its descendants, and its name there."""
    parent, _, child = name.rpartition(".")
    return block.get_submodule(parent)._modules, child


def _called(piece: Piece, block: nn.Module) -> dict[str, nn.Module]:
    """Children that the code calls and that are called as any module is."""
    children = {name: block._modules.get(name) for name in set(_CALL.findall(piece.source))}
    return {
        name: child
        for name, child in children.items()
        if child is not None
        and type(child).__call__ is nn.Module.__call__
        and not isinstance(child, torch.jit.ScriptModule)
        and "forward" not in child.__dict__
    }


def _computing(module: nn.Module) -> Callable[..., Any]:
    """What the module computes in evaluation; all it is made of is read anew at each call, since it may change."""
    parameters, buffers = module._parameters, module._buffers
    if type(module) is nn.Conv2d and module.padding_mode == "zeros" and "weight" in parameters:
        conv = torch.conv2d

        def convolve(x: Tensor) -> Tensor:
            m = module
            if m.padding_mode != "zeros" or "weight" not in parameters:
                return m.forward(x)
            return conv(x, parameters["weight"], parameters["bias"], m.stride, m.padding, m.dilation, m.groups)  # type: ignore[arg-type]

        return convolve
    if type(module) is nn.BatchNorm2d and module.track_running_stats:

        def norm(x: Tensor) -> Tensor:
            if module.training:
                return module.forward(x)
            mean, var = buffers["running_mean"], buffers["running_var"]
            cudnn = torch.backends.cudnn.enabled
            return torch.batch_norm(
                x, parameters["weight"], parameters["bias"], mean, var, False, 0.0, module.eps, cudnn
            )

        return norm
    return module.forward
