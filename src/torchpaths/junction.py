"""Where a network can be closed: ``Place``; and what stands there in the network: ``Junction``.

A place is one module of a network and how to run it with some of its units closed: an ordinary object, which knows the
module it is about (its *block*), the sites it obeys and the slot in which the call in progress is found. A junction is
the module that takes the block's place. It is nothing but a door: calls go to the place, all else (attributes,
children, parameters, hooks, training mode, state dictionaries, enumeration) to the block, so whoever looks at the
network, by name or by type, finds the network that was there before. There are no context managers or globals, so
compile, DDP, deepcopy, pickle and export see ordinary modules. Outside any call a place just runs open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.errors import CallError
from torchpaths.place import Place as Place

_CALL = nn.Module.__call__
_TABLES = ("_modules", "_parameters", "_buffers", "_non_persistent_buffers_set")
_STATE_HOOKS = tuple(name for name in vars(nn.Module()) if "state_dict" in name)
_HOOKS = tuple(name for name in vars(nn.Module()) if "_hooks" in name and name not in _STATE_HOOKS)


def _of_block(name: str) -> Any:
    """A method that is the block's own."""

    def method(self: Junction, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._place.block, name)(*args, **kwargs)

    return method


_NOT_HERE = (
    "{}, which only stands in a block's place; parametrise or change the block itself, which is among "
    "net.named_modules() under the same name: dict(net.named_modules())[name]."
)


class Junction(nn.Module):
    """The door to a place, in the place of its block.

    The only attributes of its own are ``_place`` and those of every ``nn.Module``.
    """

    _place: Place

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.__dict__["_place"] = place
        self._share()

    @property
    def __class__(self) -> Any:
        """A junction too, but for blocks of a library's own class, such as a transformer's layer: whoever goes from
        child to child and asks for that class finds it. Layers of torch, which tools replace, are not passed for."""
        place = self.__dict__.get("_place")
        if place is None or place.more:
            return Junction
        kind = place.block.__class__
        return Junction if kind.__module__.partition(".")[0] == "torch" else kind

    @__class__.setter
    def __class__(self, kind: type[nn.Module]) -> None:
        raise CallError(_NOT_HERE.format(f"{kind.__name__} cannot be the class of a junction"))

    def __reduce__(self) -> tuple[Any, ...]:
        return _empty, (), self.__dict__

    def _share(self) -> None:
        """Share the block's very dictionaries."""
        place, own = self._place, self.__dict__
        for name in (*_TABLES, *(() if place.calls else _HOOKS), *_STATE_HOOKS):
            own[name] = place.block.__dict__[name]
        if place.more:
            own["_modules"] = {**place.block._modules, **place.more}
        own["_version"] = place.block._version  # of the layout of its entries in state dictionaries

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """See `Place.run`."""
        if not args and self._place.first in kwargs:
            args = (kwargs.pop(self._place.first),)
        return self._place.run(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """As any module; in a graph that torch.fx traces, which knows modules by enumeration, it is not seen."""
        if nn.Module.__call__ is not _CALL:
            return self.forward(*args, **kwargs)
        return _CALL(self, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            place = self.__dict__.get("_place")
            # It is being copied or read; and a block that copies itself in a way of its own copies no junction.
            if place is None or name in ("__copy__", "__deepcopy__"):
                raise
            return getattr(place.block, name)

    def __setattr__(self, name: str, value: Any) -> None:
        place = self.__dict__.get("_place")
        if place is None:
            super().__setattr__(name, value)
        elif isinstance(value, nn.Module) and place.put(name, value):
            self._share()
        elif name == "__class__":
            object.__setattr__(self, name, value)
        else:
            setattr(place.block, name, value)

    def __len__(self) -> int:
        return len(self._place.block)  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        return bool(self._place.block)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._place.block)  # type: ignore[call-overload, no-any-return]

    def __getitem__(self, key: Any) -> Any:
        return self._place.block[key]  # type: ignore[index]

    def __delattr__(self, name: str) -> None:
        if name in self._place.block._parameters:
            raise CallError(_NOT_HERE.format(f"parameter {name!r} cannot be taken from a junction"))
        delattr(self._place.block, name)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *dir(self._place.block)})

    def add_module(self, name: str, module: nn.Module | None) -> None:
        """As the block's own; see `Place.put`."""
        if module is not None and self._place.put(name, module):
            self._share()
        else:
            self._place.block.add_module(name, module)

    register_module = add_module

    @property
    def training(self) -> bool:
        """The block's own flag, which methods of the block read."""
        place = self.__dict__.get("_place")
        return True if place is None else place.block.training

    @training.setter
    def training(self, mode: bool) -> None:
        if "_place" in self.__dict__:
            self._place.block.training = mode

    @property
    def _is_full_backward_hook(self) -> bool | None:
        place = self.__dict__.get("_place")
        return None if place is None or place.calls else place.block._is_full_backward_hook

    @_is_full_backward_hook.setter
    def _is_full_backward_hook(self, full: bool | None) -> None:
        if "_place" in self.__dict__:
            self._place.block._is_full_backward_hook = full

    # Hooks are the block's: they fire when it runs, here or where its place calls it.
    register_forward_pre_hook = _of_block("register_forward_pre_hook")
    register_forward_hook = _of_block("register_forward_hook")
    register_backward_hook = _of_block("register_backward_hook")
    register_full_backward_hook = _of_block("register_full_backward_hook")
    register_full_backward_pre_hook = _of_block("register_full_backward_pre_hook")

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """See `Place.parts`."""
        if torch.jit._trace._trace_module_map is not None:  # it takes these names for attributes
            yield from super().named_children()
            return
        found: set[nn.Module] = set()
        for name, module in self._place.parts.items():
            if module is not None and module not in found:
                found.add(module)
                yield name, module

    def named_modules(
        self, memo: set[nn.Module] | None = None, prefix: str = "", remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Module]]:
        """The block under this junction's name and what is in it, then what the place has beside it."""
        memo = set() if memo is None else memo
        yield from self._place.block.named_modules(memo, prefix, remove_duplicate)
        for name, module in self._place.more.items():
            yield from module.named_modules(memo, f"{prefix}{'.' if prefix else ''}{name}", remove_duplicate)

    def apply(self, fn: Callable[[nn.Module], None]) -> Junction:
        """On the block and what the place has beside it."""
        for module in (self._place.block, *self._place.more.values()):
            module.apply(fn)
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Junction:
        for module in (self._place.block, *self._place.more.values()):
            module._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    def train(self, mode: bool = True) -> Junction:
        """As the block's own, which may keep parts of itself in evaluation."""
        self._place.kept = None
        for module in (self._place.block, *self._place.more.values()):
            module.train(mode)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """The block's own, whose class may have its own way, and what the place has beside it."""
        found = self._place.block.state_dict(*args, **kwargs)
        for name, module in self._place.more.items():
            prefix = f"{kwargs.get('prefix', '')}{name}."
            module.state_dict(destination=found, prefix=prefix, keep_vars=kwargs.get("keep_vars", False))
        return found

    def _load_from_state_dict(self, *args: Any) -> None:
        self._share()  # torch goes on with the children: those that are there now
        state_dict, prefix, metadata, strict, missing, unexpected, errors = args
        unknown: list[str] = []
        self._place.block._load_from_state_dict(state_dict, prefix, metadata, strict, missing, unknown, errors)
        own = tuple(f"{prefix}{name}." for name in self._place.more)
        unexpected += [key for key in unknown if not key.startswith(own or ("\0",))]

    def __repr__(self) -> str:
        return f"{type(self._place).__name__}({self._place.block!r})"


def _empty() -> Junction:
    """A junction that is being copied or read."""
    return object.__new__(Junction)


def junctions(model: nn.Module) -> Iterator[tuple[str, Junction]]:
    """All junctions of a model with the names of the modules they stand for, outer ones first, each once.

    ``model.modules()`` does not show them.
    """
    return _junctions(model, "", set())


def _junctions(model: nn.Module, prefix: str, seen: set[int]) -> Iterator[tuple[str, Junction]]:
    for name, child in model._modules.items():
        if child is None or id(child) in seen:
            continue  # known by another name
        seen.add(id(child))
        inner = child
        while isinstance(inner, Junction):
            yield prefix + name, inner
            inner = inner._place.block
        yield from _junctions(child, f"{prefix}{name}.", seen)
