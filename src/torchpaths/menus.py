"""``compiled(net, paths)``: a menu of paths, each compiled once; changing from one to another compiles nothing.

An adaptive-depth network runs at whatever depth the moment allows, call by call. A path handed to one compiled network
as bools is a new program each time; handed over as tensors it is one program that computes both sides. So each path of
a menu gets a program of its own, the plain network along it, over the one set of weights.

torch.compile keeps its programs by code object and gives up on one after 8 of them; the networks of a menu are of one
class and so have one code object. Here each is called by a function whose code is its own.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.errors import PathError
from torchpaths.extraction import plain
from torchpaths.path import Path
from torchpaths.routed import Routed


class Menu:
    """A network along any of some paths, each a program of its own: ``(x, path) -> y``, in evaluation, no gradients.

    Made by `compiled`. Weights and buffers are those of the network it was made of; changed in place they need no
    compilation. Layers that lose some of their channels along a path hold copies, see `torchpaths.plain`.

    Attributes:
        paths: what it can run, in the order they were given.
    """

    def __init__(self, net: Routed, paths: Iterable[Path], **how: Any) -> None:
        self.layout = net.layout
        self._programs: dict[Path, Callable[[Tensor], Any]] = {}
        for path in paths:
            module = plain(net, path).eval()  # before the path is hashed, since it says better what a path lacks
            if path not in self._programs:
                name = f"path_{len(self._programs)}"
                self._programs[path] = torch.compile(_own(module, name), fullgraph=True, **how)
        self.paths = tuple(self._programs)
        if not self.paths:
            raise PathError("a menu of no paths; give at least one, e.g. [Path.full(net)].")

    @torch.no_grad()
    def __call__(self, x: Tensor, path: Path) -> Any:
        """
        Args:
            x: a batch. One of a new kind (shape, dtype) compiles once more.
            path: one of the menu.

        Returns:
            The network's output along the path.

        Raises:
            PathError: for a path of another network, a per-sample path, or one that is not on the menu.
        """
        program = None if path.batch is not None else self._programs.get(path)
        if program is None:
            raise self._missing(path)
        return program(x)

    def warm_up(self, x: Tensor) -> None:
        """Run every path once, so that a batch like this compiles nothing later."""
        for path in self.paths:
            self(x, path)

    def _missing(self, path: Path) -> PathError:
        if path.batch is not None:
            return PathError(
                f"a path for {path.batch} samples, each its own, is on no menu; take one sample's for all: path[0]."
            )
        path.check(self.layout)
        differing = {known: [site for site in known if path.get(site) != known[site]] for known in self.paths}
        nearest = min(differing, key=lambda known: len(differing[known]))
        sites = ", ".join(map(repr, differing[nearest][:3]))
        more = len(differing[nearest]) - 3
        return PathError(
            f"this path is not among the {len(self.paths)} of the menu; number {self.paths.index(nearest)} is nearest "
            f"and differs at {sites}{f' and {more} more' if more > 0 else ''}. Choose one of menu.paths, or compile it "
            "too: compiled(net, [*menu.paths, path])."
        )


def compiled(net: Routed, paths: Iterable[Path], **how: Any) -> Menu:
    """Compile a network along each of some paths.

    Args:
        net: a routed network; it stays as it is and shares its weights.
        paths: for the whole batch, each naming every site, e.g. those of a front. Equal ones count once.
        how: further arguments of `torch.compile`, such as ``mode`` or ``dynamic``.

    Returns:
        ``menu(x, path) -> y``. Each path compiles when it first meets a kind of batch (``menu.warm_up(x)`` does that
        for all), never again after that.

    Raises:
        PathError: for no paths, or one that does not fit, is per sample, or leaves sites to decide.
    """
    return Menu(net, paths, **how)


def _own(module: nn.Module, name: str) -> Callable[[Tensor], Any]:
    """A call of a module with a code object that no other has, see above."""

    def along(x: Tensor) -> Any:
        return module(x)

    code = along.__code__.replace(co_name=name)
    return types.FunctionType(code, along.__globals__, name, None, along.__closure__)
