"""Residual sums as a network computes them: what each adds, to what, and where its input stands in the graph.

A residual sum is ``y = post(shortcut(h) + F(h))``. F(h), what the block adds, is its *residual*, before any ReLU that
follows the sum; where a gate decides, it is z F(h). h, from which both ways set out, is its *input*: what came into a
ResNet's block (behind the ReLU of the block before), in the second half of a transformer's block what the first half's
sum gave (before the norm). Blocks are watched in a copy over the same weights, in which those that are not taken apart
yet (AdaptiveDepth skips whole ones) are; the network itself stays as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from torchpaths.copies import copied
from torchpaths.errors import CallError, PathError, RouteError
from torchpaths.extraction import plain
from torchpaths.inputs import device_of
from torchpaths.junction import Junction, junctions
from torchpaths.path import Path
from torchpaths.places.residual.find import ByHand, find_residuals, sum_names
from torchpaths.places.residual.place import ResidualPlace, Step
from torchpaths.places.stages.switch import Skippable
from torchpaths.routed import Routed
from torchpaths.routing import route
from torchpaths.skips.network import Skipping
from torchpaths.trace import Site, Trace


@dataclass(frozen=True)
class Sum:
    """One residual sum in one call.

    Attributes:
        block: its name, see `Observed`.
        input: h, as a place in the graph; None without gradients.
        shape: of h, ``[batch, ...]``.
        residual: F(h), ``[batch, ...]``, without gradient.
        shortcut: what it is added to, of the same shape, without gradient.
        ran: bool ``[batch]``, the images that ran it.
    """

    block: str
    input: GradientEdge | None
    shape: torch.Size
    residual: Tensor
    shortcut: Tensor
    ran: Tensor


class Observed:
    """A copy of a network, over the same weights, that tells of its residual sums. Made once, it serves every question.

    Attributes:
        blocks: names of its residual sums in order of execution, the block's own, with what tells them apart where a
            block has several ("blocks.0.attn") -> whether it is one that AdaptiveDepth can leave out.
        device: where it is.
    """

    def __init__(self, net: nn.Module, x: Tensor, residuals: ByHand | None = None) -> None:
        """
        Args:
            net: a routed network, or a plain one; it is not changed.
            x: images for it, ``[batch, ...]``.
            residuals: blocks taken apart by hand, as for `torchpaths.route`.

        Raises:
            RouteError: for a network that does not take the images or in which nothing is a residual block.
            CallError: for a skipping network, which has no gradients.
        """
        check_gradients(net)
        twin = copied(net, chain(net.parameters(), net.buffers()))
        if isinstance(twin, Routed):
            self._net = twin
            self._take_apart(x[:2], residuals)
        else:
            self._net = route(twin, example=x[:2], residuals=residuals)
        self._net.eval()
        self.device = device_of(self._net)
        self._sums: list[tuple[Sum, Step, int]] = []
        self._around: dict[str, list[tuple[Site, int]]] = {}
        for name, junction in list(junctions(self._net.model)):
            place = junction._place
            if isinstance(place, ResidualPlace):
                names = sum_names(name, place.split)
                junction.__dict__["_place"] = _Watched(place, names, self._sums)
                self._around.update(dict.fromkeys(names, self._skipped_with(name)))
        with torch.no_grad():
            _, order = self(x[:1], Path.full(self._net))
        self.blocks = {found.block: bool(self._around[found.block]) for found in order}

    def __call__(self, x: Tensor, path: Path | None = None) -> tuple[Any, list[Sum]]:
        """What the network gives, in evaluation, and the residual sums that ran, in order.

        Args:
            x: images, ``[batch, ...]``.
            path: one for the whole batch; None for the network's own decisions.

        Raises:
            PathError: for a path that does not fit or differs between images.
        """
        if path is not None and path.batch is not None:
            raise PathError(
                f"a path for {path.batch} images, each its own, fits one batch of a loader at best; give one for all "
                "of them, path[0], or None for what the network decides."
            )
        self._sums.clear()
        try:
            y, trace = self._net(x, path)
            return y, [self._for_images(*entry, trace) for entry in self._sums]
        finally:
            self._sums.clear()

    def _take_apart(self, x: Tensor, residuals: ByHand | None) -> None:
        """Put places into the copy where blocks are whole as yet. They stand in no call, and so are always open."""
        places = {name: j._place for name, j in junctions(self._net.model)}
        known = [name for name, place in places.items() if isinstance(place, ResidualPlace)]
        if known and not any(isinstance(place, Skippable) for place in places.values()):
            return  # route took all apart
        model = plain(self._net)
        search = find_residuals(model, x, residuals)
        for found in search.places:
            name = found.module
            if any(name == k or name.startswith(f"{k}.") or k.startswith(f"{name}.") for k in known):
                continue
            parent, _, child = name.rpartition(".")
            holder = self._net.model.get_submodule(parent)
            block, around = holder._modules[child], None
            while isinstance(block, Junction):
                around, block = block, block._place.block
            assert block is not None
            sites = tuple((Site(s, (), (name,)), 0) for s in found.sites)  # without units: no path knows them
            taken = Junction(ResidualPlace(block, found.parts, sites))
            if around is None:
                holder._modules[child] = taken
            else:
                around._place.block = taken
            known.append(name)
        if not known:
            why = "".join(f"\n  {name}: {reason}" for name, reason in list(search.refused.items())[:5])
            raise RouteError(
                f"{type(model).__name__} has no residual block, so no block of it adds anything to its input. Give "
                "blocks by hand, residuals={'name': Residual(branch, shortcut, post)}."
                + (f" These were tried:{why}" if why else "")
            )

    def _skipped_with(self, module: str) -> list[tuple[Site, int]]:
        """The units that leave a whole block out."""
        return [
            (place.sites[0], place.unit)
            for name, place in ((n, j._place) for n, j in junctions(self._net.model))
            if isinstance(place, Skippable) and (module == name or module.startswith(f"{name}."))
        ]

    def _for_images(self, found: Sum, step: Step, unit: int, trace: Trace) -> Sum:
        """The sum, with the images that ran it."""
        sites = [*self._around[found.block], *([(step.site, unit)] if step.site.units else [])]
        ran = found.ran
        for site, number in sites:
            made = trace.get(site.name)
            ran = ran & (made.open[:, number] if made is not None else False)
        return Sum(found.block, found.input, found.shape, found.residual, found.shortcut, ran)


def check_gradients(net: nn.Module) -> None:
    """Raises `CallError` for a skipping network, which has no gradients."""
    if isinstance(net, Skipping):
        raise CallError("a skipping network has no gradients; give the routed network that it was made of.")


class _Watched(ResidualPlace):
    """A residual block that writes its open sums down."""

    def __init__(self, place: ResidualPlace, names: tuple[str, ...], sums: list[tuple[Sum, Step, int]]) -> None:
        """
        Args:
            place: taken over: block, parts, sites and the call it is in.
            names: of its sums.
            sums: where to.
        """
        self.__dict__.update(place.__dict__)
        self._named = dict(zip(map(id, self.steps), names, strict=True))
        self._sums = sums

    def _total(self, step: Step, notes: dict[int, Any], x: Tensor, z: Tensor | None, *inputs: Any) -> Tensor:
        if torch.is_grad_enabled() and not x.requires_grad:
            x = x.detach().requires_grad_()  # everything before is frozen and knows no gradient either
        branch = step.run_branch(self.block, x, inputs, notes)
        if z is not None:  # decisions are constants: what another one would have given is another question
            branch = branch * z.detach().to(branch.dtype).view(-1, *(1,) * (branch.dim() - 1))
        shortcut = step.shortcut(self.block, x, *inputs)
        edge = get_gradient_edge(x) if torch.is_grad_enabled() else None
        everyone = torch.ones(len(x), dtype=torch.bool, device=x.device)
        found = Sum(self._named[id(step)], edge, x.shape, branch.detach(), shortcut.detach(), everyone)
        self._sums.append((found, step, step.unit))
        return step.post(self.block, shortcut + branch, *inputs)
