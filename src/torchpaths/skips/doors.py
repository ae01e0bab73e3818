"""Where images may leave a network early: ``open_exits`` finds the modules, stands `Leaving` around them, and tries out
that this is safe.

What follows a coded block must be a chain: nothing outside it may still hold the whole batch. Whether that is so cannot
be read off a model, so it is run with images that are made to leave at every coded block, and the answers of those that
stay are compared with what they are without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.coding.decode import coded_sites, distances
from torchpaths.costs import count_macs, decider_cost
from torchpaths.deciders.code import Code
from torchpaths.deciders.exit import Exit
from torchpaths.errors import CallError, reason
from torchpaths.extraction import difference
from torchpaths.junction import Junction, junctions
from torchpaths.path import Path
from torchpaths.places.channels.energy import ENERGIES
from torchpaths.skips.exits import NO_CHAIN, REMEDY, Exits, HasExits, Leaving


def open_exits(net: HasExits, exit: Exit) -> None:
    """Let images leave a network behind each of its coded blocks.

    A block is the smallest module that holds all layers of a coded site. Where the sum with the shortcut is computed by
    the module around it, images leave behind that one.

    Raises:
        CallError: for a network without coded blocks, or one in which images can't leave.
    """
    if not isinstance(exit, Exit):
        raise CallError(f"exit={exit!r}: say when images are done, exit=Exit(agree=2, threshold=0.5).")
    coded = coded_sites(net)
    name = net.layout.network
    if not coded:
        raise CallError(
            f"{name} has no coded blocks, so nothing tells a class early; route it with CodedPaths(classes=...), alone "
            "or with other methods."
        )
    if not net.example_shape:
        raise CallError(f"{name} takes no batch of images of one size, so none of them can leave; leave out exit.")
    holders = _holders(net, coded)
    why = ""
    while all(holders.values()) and len(set(holders.values())) == len(holders):
        with _standing(net, holders) as keep:
            found = _tried(net, exit)
            if found is None:
                keep()
                net.exits = Exits(exit, _behind(net, exit))
                return
        why = why or found  # of the blocks themselves, not of what is around them
        holders = {site: holder.rpartition(".")[0] for site, holder in holders.items()}
    raise CallError(
        f"images cannot leave {name} early: {why or 'two coded blocks are one module, or one is all of it'}. {REMEDY}"
    )


def _holders(net: HasExits, coded: Mapping[str, Code]) -> dict[str, str]:
    """Coded site -> the smallest module that holds all its layers.

    Raises:
        CallError: for another site that decides for several modules, before and behind an exit.
    """
    at: dict[str, list[str]] = {name: [] for name in net.sites}
    for name, junction in junctions(net.model):
        for site in junction._place.sites:
            at[site.name].append(name)
    for name, modules in at.items():
        if name not in coded and len(set(modules)) > 1:
            raise CallError(
                f"site {name!r} decides for {len(set(modules))} modules at once, {modules[0]!r} and others, which an "
                "image may leave half-way; route the network without that method, or call skipping(net) without exit."
            )
    return {name: _common(at[name]) for name in coded}


def _common(names: list[str]) -> str:
    """The innermost module that holds all of some modules."""
    same = []
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        same.append(parts[0])
    return ".".join(same)


@contextmanager
def _standing(net: HasExits, holders: Mapping[str, str]) -> Iterator[Callable[[], None]]:
    """Junctions around modules, for as long as this lasts, or for good once ``keep()`` was called."""
    stands: list[tuple[dict[str, Any], str, nn.Module]] = []
    for site, name in holders.items():
        parent, _, child = name.rpartition(".")
        table: dict[str, Any] = net.model.get_submodule(parent)._modules
        block = table[child]
        stands.append((table, child, block))
        leaving = Leaving(block, net.sites[site])
        leaving.slot = net.slot
        table[child] = Junction(leaving)
    try:
        yield stands.clear
    finally:
        net.exits = None if stands else net.exits
        for table, child, block in reversed(stands):
            table[child] = block


def _tried(net: HasExits, exit: Exit) -> str | None:
    """Why images that leave change the answer of the others, or their own; None if they don't. One image is made to
    leave at each coded block, two stay."""
    coded = coded_sites(net)
    numbers = {name: number for number, name in enumerate(net.sites)}
    x = _noise(net, len(coded) + 2)
    full = Path.full(net)
    expected, trace = net(x, full)
    classes = {code.words.shape[0] for code in coded.values()}
    if not isinstance(expected, Tensor) or expected.dim() != 2 or {expected.shape[1]} != classes:
        return f"its output is not [batch, {max(classes)}], a score for each class that has a codeword"
    early = [
        functional.log_softmax(-distances(trace[name].response[ENERGIES], code.words)[i], 0)
        for i, (name, code) in enumerate(coded.items())
    ]
    wanted = torch.cat([torch.stack(early).to(expected.dtype), expected[len(coded) :]])
    forced = torch.tensor([*(numbers[name] for name in coded), -1, -1], device=x.device)
    net.exits = Exits(exit, {}, forced)
    try:
        got, seen = net(x, full)
        if not torch.equal(net.stopped(seen), forced):
            return "a block ran outside of the module that holds it"
    except Exception as error:
        return f"{NO_CHAIN} ({reason(error, 120)})"
    finally:
        net.exits = None
    parts = ([y[: len(coded)], y[len(coded) :]] for y in (got, wanted))
    if difference(*parts) > 1:
        return "images are answered otherwise once others have left, so images of a batch touch each other"
    return None


def _behind(net: HasExits, exit: Exit) -> dict[str, int]:
    """See `Exits.behind`: what a path costs that opens everything up to a block, less what runs up to there."""
    layout, full, x = net.layout.undecided(), Path.full(net), _noise(net, 1)
    names = list(net.sites)
    found: dict[str, int] = {}
    for name in coded_sites(net):
        number = names.index(name)
        opened = np.array([names.index(unit.site) <= number for unit in layout.units])
        net.exits = Exits(exit, {}, torch.tensor([number], device=x.device))
        ran = count_macs(lambda: net(x, full))
        later = (net.sites[after] for after in names[number + 1 :] if after not in layout.inside)
        deciding = sum(decider_cost(site.decider).macs for site in later if site.decider is not None)
        found[name] = layout.cost(opened).macs - ran + deciding
    return found


def _noise(net: HasExits, images: int) -> Tensor:
    """Noise, the same every time, where and in the precision the network's parameters are."""
    parameter = next((p for p in net.model.parameters() if p.is_floating_point()), torch.zeros(()))
    x = torch.randn(images, *net.example_shape, generator=torch.Generator().manual_seed(0))
    return x.to(parameter.device, parameter.dtype)
