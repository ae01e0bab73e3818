"""Stages of a network and what of each can be left out: the structure that AdaptiveDepth needs, found by running once.

A stage is a run of blocks side by side of which all but the first keep the shape of their input (AdaptiveDepth, Eq. 1):
where resolution or width change, a new stage begins. Its first half always runs, the rest is one unit (section 3.1).
Networks of one width and resolution, such as ViT, are divided into equal groups instead (section 4). Norms that depend
on whether the rest runs are those in the residual branches of the half that always runs, and those on the way from the
stage before (the authors' code: PatchMerging of Swin takes the flag of the stage it leads to); norms of shortcuts, of
the stem and of the head are shared.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torchvision.ops import FrozenBatchNorm2d

from torchpaths.costs import count_macs, evaluating
from torchpaths.errors import RouteError
from torchpaths.inputs import call
from torchpaths.layout import Cost
from torchpaths.places.covers import sum_item, tied
from torchpaths.places.names import match
from torchpaths.places.residual.find import ByHand, Found, find_residuals
from torchpaths.places.residual.parts import Piece
from torchpaths.trace import Inputs

_NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, FrozenBatchNorm2d)
_DROPS = ("StochasticDepth", "DropPath")


@dataclass(frozen=True)
class Stage:
    """A stage of a network. Modules are given by their dotted names.

    Attributes:
        name: of the module that holds the stage, or of that module and its first and last block, ``blocks.0-2``.
        mandatory: blocks that always run.
        skippable: blocks behind them that can be left out together.
        norms: norms that depend on whether they are.
        drops: stochastic depth in the mandatory blocks.
        axis: which axis of the stage's output holds channels.
        cost: what the skippable blocks cost, one image.
        items: what they hold, see `torchpaths.places.covers.Cover`.
        apart: whether the images of a batch can skip them one by one, see `torchpaths.trace.Site`.
        beside: how many values each of ``skippable`` returns beside its output; None for one that returns that alone.
    """

    name: str
    mandatory: tuple[str, ...]
    skippable: tuple[str, ...]
    norms: tuple[str, ...]
    drops: tuple[str, ...]
    axis: int
    cost: Cost
    items: frozenset[str]
    apart: bool
    beside: tuple[int | None, ...] = ()


def find_stages(
    model: nn.Module,
    example: Inputs,
    residuals: ByHand | None = None,
    *,
    skippable: Sequence[str] | None = None,
    groups: int = 4,
    norms: bool = True,
    ends: bool = False,
) -> tuple[Stage, ...]:
    """The stages of a model that have something to leave out, in order of execution.

    Args:
        model: the untouched model.
        example: a batch for it, ``[batch, ...]``, or a list of images.
        residuals: blocks taken apart by hand, see `torchpaths.route`.
        skippable: names or regular expressions of the blocks to leave out together, one for each unit; None for the
            second half of each stage.
        groups: into how many equal groups a network of one width and resolution is divided, as far as its depth allows.
        norms: look for norms; False finds none.
        ends: norms before the first of these stages and behind the last depend on them too (MobileNetV2 of the
            authors' code).

    Raises:
        RouteError: if there is no stage of two blocks or more; if a name matches nothing or not blocks side by side
            that keep the shape behind one that always runs; for a norm that cannot have a second version.
    """
    places = {place.module: place for place in find_residuals(model, example, residuals).places}
    walk = _Walk(model, example, places)
    runs = [run for run in walk.runs() if len(run) > 1]
    if not runs:
        raise RouteError(
            f"{type(model).__name__} has no stage of two residual blocks or more of which the second could be left "
            f"out ({len(places)} residual blocks found); adaptive depth needs blocks side by side that keep the shape "
            "of their input."
        )
    if skippable is not None:
        halves = _chosen(runs, skippable)
    else:
        if len(runs) == 1 and walk.keeps_shape(runs[0][0]):
            runs = _divide(runs[0], groups)
        halves = [(run[: _first_half(len(run))], run[_first_half(len(run)) :]) for run in runs]
    shared = Counter(_parent(kept[0]) for kept, _ in halves)
    dependent = walk.norms(halves, ends) if norms else [()] * len(halves)
    return tuple(
        Stage(
            name=_name(kept[0], left[-1], shared[_parent(kept[0])] == 1),
            mandatory=tuple(kept),
            skippable=tuple(left),
            norms=found,
            drops=tuple(walk.inside(kept, lambda m: type(m).__name__ in _DROPS)),
            axis=places[left[-1]].parts.residuals[-1].axis or 1,
            cost=walk.cost(left),
            items=walk.items(left),
            apart=all(places[name].apart for name in (*kept, *left) if name in places),
            beside=tuple(walk.beside.get(name) for name in left),
        )
        for (kept, left), found in zip(halves, dependent, strict=True)
    )


def _first_half(blocks: int) -> int:
    """How many blocks of a stage always run: the larger half, but never all (the authors' code)."""
    return min(blocks - 1, math.ceil(blocks / 2))


def _divide(run: list[str], groups: int) -> list[list[str]]:
    """A run in so many parts of nearly equal length, of two at least."""
    count = min(groups, len(run) // 2)
    edges = [round(i * len(run) / count) for i in range(count + 1)]
    return [run[a:b] for a, b in itertools.pairwise(edges)]


def _chosen(runs: list[list[str]], patterns: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """What always runs and what can be left out, from the names of the latter."""
    blocks = [name for run in runs for name in run]
    found = []
    for pattern in patterns:
        names = match(pattern, blocks, "block of a stage")
        run = next(run for run in runs if names[0] in run)
        start = run.index(names[0])
        if run[start : start + len(names)] != names:
            raise RouteError(
                f"skippable={pattern!r} matches {', '.join(names)}, which are not side by side in a stage."
            )
        found.append((blocks.index(names[0]), run, start, names))
    halves = []
    ends: dict[str, int] = {}
    for _, run, start, names in sorted(found, key=lambda entry: entry[0]):
        begin = ends.get(run[0], 0)
        if begin >= start:
            raise RouteError(
                f"{names[0]!r} cannot be left out: no block of its stage ({run[0]} to {run[-1]}) that always runs "
                "stands before it."
            )
        halves.append((run[begin:start], names))
        ends[run[0]] = start + len(names)
    return halves


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _name(first: str, last: str, alone: bool) -> str:
    parent = _parent(first)
    return parent if alone and parent else f"{first}-{last.rpartition('.')[2]}"


class _Walk:
    """One run of a model, in which its blocks and norms are watched."""

    def __init__(self, model: nn.Module, example: Inputs, places: dict[str, Found]) -> None:
        self.places = places
        self.tied = tied(model)
        self.modules = dict(model.named_modules())
        self.holders: dict[int, list[str]] = {}
        for name, module in self.modules.items():
            for parameter in module.parameters(recurse=False):
                self.holders.setdefault(id(parameter), []).append(name)
        self.order: list[str] = []
        self.calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
        self.shapes: dict[str, tuple[Any, Any]] = {}
        self.beside: dict[str, int | None] = {}
        parents = {_parent(name) for name in places}
        watched = [n for n, m in self.modules.items() if n and (_parent(n) in parents or isinstance(m, _NORMS))]
        handles = []
        for name in watched:
            module = self.modules[name]
            # Before other hooks: what they change they will change again, when a block's cost is counted.
            begin = module.register_forward_pre_hook(self._begin(name), with_kwargs=True, prepend=True)
            handles.append(begin)
            handles.append(module.register_forward_hook(self._end(name)))
        try:
            with torch.no_grad(), evaluating(model):
                call(model, example[:1])
        finally:
            for handle in handles:
                handle.remove()
        kinds = {(_parent(name), type(self.modules[name])) for name in places}
        self.blocks = [n for n in self.order if (_parent(n), type(self.modules[n])) in kinds]

    def _begin(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.order.append(name)
            if name in self.places:
                kept = tuple(a.clone() if isinstance(a, Tensor) else a for a in args)
                self.calls[name] = kept, dict(kwargs)

        return hook

    def _end(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            first = args[0] if args else None
            if isinstance(output, (tuple, list)) and output:
                self.beside[name] = len(output) - 1
                output = output[0]
            self.shapes[name] = getattr(first, "shape", None), getattr(output, "shape", None)

        return hook

    def keeps_shape(self, name: str) -> bool:
        """Whether a block's output is of the shape of its input."""
        before, after = self.shapes[name]
        return before is not None and before == after

    def runs(self) -> list[list[str]]:
        """Blocks side by side, each run as long as all but its first are residual and keep the shape of their input."""
        found: list[list[str]] = []
        for name in self.blocks:
            follows = (
                found
                and name in self.places
                and self.keeps_shape(name)
                and _parent(found[-1][-1]) == _parent(name)
                and self.shapes[found[-1][-1]][1] == self.shapes[name][0]
            )
            if follows:
                found[-1].append(name)
            else:
                found.append([name])
        return found

    def inside(self, blocks: Iterable[str], wanted: Callable[[nn.Module], bool]) -> list[str]:
        """The modules of some kind within blocks."""
        return [f"{b}.{n}" for b in blocks for n, m in self.modules[b].named_modules() if n and wanted(m)]

    def cost(self, blocks: Iterable[str]) -> Cost:
        """What blocks cost, one image."""
        total = Cost(0, 0)
        for name in blocks:
            module, (args, kwargs) = self.modules[name], self.calls[name]
            with evaluating(module):
                macs = count_macs(lambda: module(*args, **kwargs))  # noqa: B023, called at once
            total += Cost(macs, sum(p.numel() for p in module.parameters() if id(p) not in self.tied))
        return total

    def items(self, blocks: Iterable[str]) -> frozenset[str]:
        """What blocks hold: their parameters, and the sums of those that were taken apart."""
        found: set[str] = set()
        for name in blocks:
            found |= {f"{name}.{n}" for n, _ in self.modules[name].named_parameters(remove_duplicate=False)}
            found |= {sum_item(name, i) for i in range(len(self.places[name].sites) if name in self.places else 0)}
        return frozenset(found)

    def norms(self, halves: list[tuple[list[str], list[str]]], ends: bool) -> list[tuple[str, ...]]:
        """For each stage the norms that depend on it."""
        found = [[n for block in kept for n in self._in_branches(block)] for kept, _ in halves]
        for i, ((_, before), (kept, _)) in enumerate(itertools.pairwise(halves), 1):
            on_the_way = self._outside_blocks(self.order.index(before[-1]), self.order.index(kept[0]), everything=False)
            found[i] = [*on_the_way, *found[i]]
        if ends:
            last = halves[-1][1][-1]
            ahead = self._outside_blocks(0, self.order.index(halves[0][0][0]), everything=True)
            behind = self._outside_blocks(self.order.index(last), len(self.order), everything=True)
            found[0] = [*ahead, *found[0]]
            found[-1] = [*found[-1], *(name for name in behind if not name.startswith(f"{last}."))]
        for name in itertools.chain.from_iterable(found):
            self._check(name)
        return [tuple(names) for names in found]

    def _outside_blocks(self, start: int, stop: int, everything: bool) -> list[str]:
        """Norms that ran between two places, those in blocks only if ``everything``."""
        norms = [n for n in self.order[start:stop] if isinstance(self.modules[n], _NORMS)]
        return [n for n in norms if everything or not any(n.startswith(f"{block}.") for block in self.blocks)]

    def _in_branches(self, block: str) -> list[str]:
        """Norms of a block that its shortcuts and what follows its sums do not use."""
        names = self.inside([block], lambda m: isinstance(m, _NORMS))
        place = self.places.get(block)
        if place is None:
            return names
        parts = [part for r in place.parts.residuals for part in (r.pre, r.branch) if part is not None]
        if not all(isinstance(part, Piece) for part in parts):
            return names  # given by hand: which of its children a function uses cannot be seen
        used = {child for part in parts if isinstance(part, Piece) for child in re.findall(r"self\.(\w+)", part.source)}
        return [n for n in names if n[len(block) + 1 :].split(".")[0] in used]

    def _check(self, name: str) -> None:
        """Raise unless a norm can have a second version."""
        times = self.order.count(name)
        if times != 1:
            why = "is not called as a module" if times == 0 else f"runs {times} times in one forward"
            raise RouteError(
                f"the norm {name!r} cannot have a second version for skipped depth: it {why}. Leave norms shared, "
                "AdaptiveDepth(norms=False), or choose other blocks with skippable=."
            )
        own = self.modules[name].parameters()
        tied = [holder for p in own for holder in self.holders[id(p)] if not f"{holder}.".startswith(f"{name}.")]
        if tied:
            raise RouteError(
                f"the norm {name!r} cannot have a second version for skipped depth: it shares its weights with "
                f"{tied[0]!r}. Leave norms shared, AdaptiveDepth(norms=False)."
            )
