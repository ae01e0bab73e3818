"""``extract``: the network along one path, cut out: a plain module, physically smaller, that runs without torchpaths.

ConvNet-AIG's inference graphs, a class's active filters, a codeword and a depth are all paths of the whole batch, so
one function cuts all of them. What is closed is gone with its parameters; a block of which nothing is left is taken out
of its ``nn.Sequential`` or ``nn.ModuleList`` and those behind it move up, so that the result is the library's own
network with fewer blocks. Nothing is returned that was not compared with the routed network first.
"""

from __future__ import annotations

import copy
import enum
import itertools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from torchpaths.along import copying, hands_on, is_chain, rectified_junctions
from torchpaths.cost import evaluating
from torchpaths.errors import PathError, RouteError
from torchpaths.junction import Junction, Routed
from torchpaths.path import Bools, Path

TOLERANCE = 1e-4
"""Largest difference of an output, relative to its largest value, with which a cut network counts as the same; for
half precision twice the distance between neighbouring numbers."""


class _Form(enum.Enum):
    """What becomes of a block of which nothing is left."""

    REMOVED = enum.auto()
    """Taken out of its list, those behind it move up."""
    KEPT = enum.auto()
    """Hands on its input."""
    SAFE = enum.auto()
    """Copies its input wherever somebody else might hold on to it, so that in-place layers cannot overwrite it."""


def plain(net: Routed, path: Path | None = None) -> nn.Module:
    """The network along a path without junctions and deciders, by reference: it shares all parameters with ``net``.

    A new tree of modules from which only closed parts are missing: blocks keep their names, and where nothing is left
    of one stands an ``nn.Identity`` or a copy. Not compared with ``net`` as in `extract`. Training flags are those of
    ``net``.

    Args:
        net: a routed network; it is not changed.
        path: one for the whole batch that names every site; None for everything open, which is the original network.

    Raises:
        PathError: for a path that does not fit, that is per sample, or that leaves sites to decide.
        RouteError: for a block given by hand whose functions cannot be traced.
    """
    return _along(net, _choices(net, Path.full(net) if path is None else path), _Form.SAFE)


def extract(net: Routed, path: Path, *, example: Tensor | None = None) -> nn.Module:
    """The network along a path as a plain module of its own: the original library's classes, fewer weights.

    It shares nothing with ``net`` and contains nothing of torchpaths. Blocks of which nothing is left are taken out of
    their ``nn.Sequential`` or ``nn.ModuleList`` and those behind them move up; where the network would not stand that
    they stay as ``nn.Identity``. What comes out was compared with ``net(x, path)`` in evaluation mode.

    Args:
        net: a routed network in any mode, on any device; it is not changed.
        path: one for the whole batch that names every site.
        example: images to compare on, ``[batch, ...]``; None for two images of noise of ``net.example_shape``.

    Returns:
        ``x -> y``, with training flags as in ``net``.

    Raises:
        PathError: for a path that does not fit, that is per sample, or that leaves sites to decide.
        RouteError: if the network does not take the example or gives values that are not finite, or if the cut network
            does not give the same output.
    """
    opened = _choices(net, path)
    name = net.layout.network
    x = _noise(net) if example is None else example
    with evaluating(net):
        expected = _run(lambda: net(x, path)[0], f"the routed {name}", x)
    if not all(bool(y.isfinite().all()) for y in expected):
        raise RouteError(
            f"the routed {name} gives values that are not finite for the example, so nothing can be compared; "
            "its weights have diverged, or the example holds such values: give another one or load other weights."
        )
    differences = []
    for form in _Form:
        cut = _along(net, opened, form)
        try:
            with evaluating(cut):
                got = _run(lambda cut=cut: cut(x), f"the cut {name}", x)  # type: ignore[misc]
        except RouteError:
            if form is _Form.SAFE:
                raise
            continue  # something counts on the number of blocks
        differences.append(_difference(got, expected))
        if differences[-1] <= 1:
            return copy.deepcopy(cut)
    raise RouteError(
        f"the cut {name} differs from the routed one along this path {min(differences):.3g} times as much as allowed, "
        "so it is not returned. Something in it depends on more than its input: a hook, a cache, or chance in "
        "evaluation mode."
    )


def _choices(net: Routed, path: Path) -> dict[str, Bools]:
    """A path for the whole batch that names every site, as a dictionary."""
    if path.batch is not None:
        raise PathError(
            f"a path for {path.batch} samples, each its own, is no single network; take one sample's: path[0]."
        )
    path.check(net.layout)
    missing = [site for site in net.sites if site not in path]
    if missing:
        raise PathError(
            f"the path leaves {len(missing)} sites to decide for themselves ({', '.join(missing[:3])}), which a cut "
            "network cannot; choose them too, e.g. path & Path.full(net) to keep them open."
        )
    return {site: path[site] for site in net.sites}


def _along(net: Routed, opened: Mapping[str, Bools], form: _Form) -> nn.Module:
    """A new tree of modules over the parameters and buffers of ``net``, its junctions cut."""
    tensors = itertools.chain(net.model.parameters(), net.model.buffers())
    shared: Iterable[Any] = itertools.chain(tensors, net.sites.values())
    model = copy.deepcopy(net.model, {id(part): part for part in shared})
    _cut_inside(model, opened, rectified_junctions(model), form, owned=False)
    return model


def _cut_inside(
    parent: nn.Module, opened: Mapping[str, Bools], rectified: set[Junction], form: _Form, owned: bool
) -> None:
    """Replace the junctions among a module's descendants, outer ones first.

    Args:
        owned: nobody but this module can still use its input.
    """
    chain = is_chain(parent)
    empty = []
    for name, child in list(parent.named_children()):
        module = child
        if isinstance(child, Junction):
            module = child.cut(opened, child in rectified)
            if hands_on(module):
                empty.append(name)
                if form is _Form.SAFE and not (chain and owned):
                    module = copying(module)
            setattr(parent, name, module)
        _cut_inside(module, opened, rectified, form, chain and owned)
        # What computes with parameters gives a new value, which only the next in the chain gets to see.
        owned = owned or next(module.parameters(), None) is not None
    if form is _Form.REMOVED and isinstance(parent, (nn.Sequential, nn.ModuleList)):
        _take_out(parent, empty)


def _take_out(blocks: nn.Sequential | nn.ModuleList, names: list[str]) -> None:
    """Remove children; where all are numbered (``0``, ``layer_0``), the others are numbered anew without gaps."""
    left = {name: child for name, child in blocks.named_children() if name not in names}
    numbered = [re.fullmatch(r"(.*?)(\d+)", name) for name in blocks._modules]
    split = [(m.group(1), int(m.group(2))) for m in numbered if m is not None]
    if split and split == [(split[0][0], split[0][1] + i) for i in range(len(numbered))]:
        prefix, first = split[0]
        left = {f"{prefix}{first + i}": child for i, child in enumerate(left.values())}
    blocks._modules.clear()
    blocks._modules.update(left)


def _noise(net: Routed) -> Tensor:
    """Two images of noise, the same every time, where and in the precision the network's parameters are."""
    if not net.example_shape:
        raise RouteError("this network does not know what its images look like; give extract(net, path, example=x).")
    parameter = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
    x = torch.randn(2, *net.example_shape, generator=torch.Generator().manual_seed(0))
    return x.to(parameter.device, parameter.dtype)


def _run(model: Callable[[], Any], what: str, x: Tensor) -> list[Tensor]:
    """The tensors that a network returns."""
    try:
        with torch.no_grad():
            return [y for y in tree_leaves(model()) if isinstance(y, Tensor)]
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise RouteError(
            f"{what} does not take the example of shape {tuple(x.shape)} ({type(error).__name__}: {reason}); "
            "give extract(net, path, example=x) images that net(x) accepts."
        ) from error


def _difference(got: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, in units of what is allowed; infinite where shapes differ or a value is not finite."""
    if [y.shape for y in got] != [y.shape for y in expected]:
        return math.inf
    worst = 0.0
    for a, b in zip(got, expected, strict=True):
        if b.is_floating_point() and b.numel():
            allowed = max(TOLERANCE, 2 * torch.finfo(b.dtype).eps) * b.double().abs().max().clamp(min=1e-30)
            off = float((a.double() - b.double()).abs().max() / allowed)
            worst = max(worst, math.inf if math.isnan(off) else off)
        elif not torch.equal(a, b):
            return math.inf
    return worst
