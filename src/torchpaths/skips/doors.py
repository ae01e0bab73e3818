"""Where images may leave a network early: ``open_exits`` finds the modules, stands `Leaving` around them, and tries out
that this is safe.

What follows a coded block must be a chain: nothing outside it may still hold the whole batch. Whether that is so cannot
be read off a model, so it is run with images that are made to leave at every coded block, and the answers of those that
stay are compared with what they are without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.coding.decode import coded_sites, distances
from torchpaths.costs import count_macs, decider_cost
from torchpaths.deciders.exit import Exit
from torchpaths.differences import difference
from torchpaths.errors import CallError, reason
from torchpaths.junction import Junction, junctions
from torchpaths.path import Path
from torchpaths.places.channels.energy import ENERGIES
from torchpaths.skips.exits import NO_CHAIN, REMEDY, Exits, HasExits, Leaving


def open_exits(net: HasExits, exit: Exit) -> None:
    """Let images leave a network behind each of its coded blocks.

    A block is the smallest module that holds all layers of a coded site. Where the sum with the shortcut is computed by
    a module around it, images leave behind that one. A block that holds others is no place to leave.

    Raises:
        CallError: for a network without coded blocks, or one in which images can't leave.
    """
    if not isinstance(exit, Exit):
        raise CallError(f"exit={exit!r}: say when images are done, exit=Exit(agree=2, threshold=0.5).")
    name = net.layout.network
    if not coded_sites(net):
        raise CallError(
            f"{name} has no coded blocks, so nothing tells a class early; route it with CodedPaths(classes=...), alone "
            "or with other methods."
        )
    holders = _holders(net)
    why = _tried(net, exit, holders) if holders else "its coded blocks hold one another"
    if why is not None and holders:
        holders = {site: _outward(net, exit, site, holders) for site in holders}
        why = why if _tried(net, exit, holders) is not None else None
    if why is not None:
        raise CallError(f"images cannot leave {name} early: {why}. {REMEDY}")
    _stand(net, holders)
    net.exits = Exits(exit, _behind(net, exit, list(holders)))


def _holders(net: HasExits) -> dict[str, str]:
    """Coded site -> the smallest module that holds all its layers, where that holds no other.

    Raises:
        CallError: for another site that decides for several modules, before and behind an exit.
    """
    coded = coded_sites(net)
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
    holders = {name: _common(at[name]) for name in coded}
    return {site: holder for site, holder in holders.items() if _alone(site, holder, holders)}


def _alone(site: str, holder: str, holders: Mapping[str, str]) -> bool:
    """Whether a module is not the whole model and holds no other site's."""
    others = (h for other, h in holders.items() if other != site)
    return holder != "" and not any(h == holder or h.startswith(f"{holder}.") for h in others)


def _outward(net: HasExits, exit: Exit, site: str, holders: Mapping[str, str]) -> str:
    """The innermost module around a site behind which images can leave; the one it has where there is none."""
    holder = holders[site]
    while _alone(site, holder, holders):
        if _tried(net, exit, {site: holder}) is None:
            return holder
        holder = holder.rpartition(".")[0]
    return holders[site]


def _common(names: list[str]) -> str:
    """The innermost module that holds all of some modules."""
    same = []
    for parts in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if len(set(parts)) > 1:
            break
        same.append(parts[0])
    return ".".join(same)


def _stand(net: HasExits, holders: Mapping[str, str]) -> Callable[[], None]:
    """Put junctions around modules; what is returned takes them away."""
    stands: list[tuple[dict[str, Any], str, nn.Module]] = []
    for site, name in holders.items():
        parent, _, child = name.rpartition(".")
        table: dict[str, Any] = net.model.get_submodule(parent)._modules
        leaving = Leaving(table[child], net.sites[site])
        leaving.slot = net.slot
        stands.append((table, child, table[child]))
        table[child] = Junction(leaving)

    def away() -> None:
        for table, child, block in reversed(stands):
            table[child] = block

    return away


def _tried(net: HasExits, exit: Exit, holders: Mapping[str, str]) -> str | None:
    """Why images that leave change the answer of the others, or their own; None if they don't. One image is made to
    leave at each site, two stay."""
    coded, count, names = coded_sites(net), len(holders), list(net.sites)
    x, full = _noise(net, count + 2), Path.full(net)
    expected, trace = net(x, full)
    classes = {code.words.shape[0] for code in coded.values()}
    if not isinstance(expected, Tensor) or expected.dim() != 2 or {expected.shape[1]} != classes:
        return f"its output is not [batch, {max(classes)}], a score for each class that has a codeword"
    early = [
        functional.log_softmax(-distances(trace[site].response[ENERGIES], coded[site].words)[i], 0)
        for i, site in enumerate(holders)
    ]
    forced = torch.tensor([*map(names.index, holders), -1, -1], device=x.device)
    away = _stand(net, holders)
    net.exits = Exits(exit, {}, forced)
    try:
        got, seen = net(x, full)
        if not torch.equal(net.stopped(seen), forced):
            return NO_CHAIN
    except Exception as error:
        return f"{NO_CHAIN} ({reason(error, 120)})"
    finally:
        net.exits = None
        away()
    kind = expected.dtype  # in which rounding differs from batch to batch
    if difference([got[:count].to(kind), got[count:].to(kind)], [torch.stack(early).to(kind), expected[count:]]) > 1:
        return "images are answered otherwise once others have left, so images of a batch touch each other"
    return None


def _behind(net: HasExits, exit: Exit, sites: Sequence[str]) -> dict[str, int]:
    """See `Exits.behind`: what a path costs that opens everything up to a block, less what runs up to there."""
    layout, full, x = net.layout.undecided(), Path.full(net), _noise(net, 1)
    names = list(net.sites)
    found: dict[str, int] = {}
    for site in sites:
        number = names.index(site)
        opened = np.array([names.index(unit.site) <= number for unit in layout.units])
        net.exits = Exits(exit, {}, torch.tensor([number], device=x.device))
        ran = count_macs(partial(net, x, full))
        later = [net.sites[after].decider for after in names[number + 1 :] if after not in layout.inside]
        found[site] = layout.cost(opened).macs - ran + sum(decider_cost(d).macs for d in later if d is not None)
    return found


def _noise(net: HasExits, images: int) -> Tensor:
    """Noise, the same every time, where and in the precision the network's parameters are."""
    if not net.example_shape:
        raise CallError(
            f"{net.layout.network} does not know what its images look like, so it cannot be tried out whether they can "
            f"leave. {REMEDY}"
        )
    parameter = next((p for p in net.model.parameters() if p.is_floating_point()), torch.zeros(()))
    x = torch.randn(images, *net.example_shape, generator=torch.Generator().manual_seed(0))
    return x.to(parameter.device, parameter.dtype)
