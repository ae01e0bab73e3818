"""The form in which a routed network is exported: one graph that still decides, and skips what is closed.

Exporters trace a network once, so an ordinary ``if`` would freeze one image's decisions and a mask would compute what
is closed. `torch.cond` becomes a real branch of the graph (``If`` in ONNX), and only the form built here contains it;
the routed network itself stays free of it. For batches the images that open a unit are gathered, run and added back.
What a path closes or opens beforehand is cut instead, so that nothing of it is left in the file.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.errors import PathError, RouteError, reason
from torchpaths.extraction import plain
from torchpaths.junction import Junction, Place
from torchpaths.outputs import answer
from torchpaths.path import Bools, Path
from torchpaths.perceptron import Perceptron
from torchpaths.places.residual.along import copying, hands_on, rectified_junctions
from torchpaths.places.residual.place import ResidualPlace, Step
from torchpaths.routed import Routed
from torchpaths.trace import Call, Decider, Decision, Site, Slot

Batch: TypeAlias = Literal["one", "any"]
"""What the file takes: single images, or batches of any size."""


def exportable(net: Routed, path: Path | None, batch: Batch) -> nn.Module:
    """A module that exporters can trace: ``x -> (y, open)``, with ``open`` bool ``[batch, unit]`` in layout order.

    Shares parameters with ``net``, in evaluation mode. If the path leaves nothing to decide it is the plain network
    along it, ``x -> y``.

    Args:
        net: a routed network on the CPU.
        path: units that are fixed; the others decide for themselves, or are open where nobody decides.
        batch: what it will be called with.

    Raises:
        PathError: for a path that does not fit, or a per-sample one.
        RouteError: for a site whose decision cannot become part of a graph.
    """
    fixed = fixed_sites(net, path)
    if len(fixed) == len(net.sites):
        return _Answer(plain(net, Path(fixed))).eval()
    for name, site in net.sites.items():
        if name not in fixed and site.decider is not None and site.decider.draws:
            raise RouteError(
                f"site {name!r} decides by chance ({site.decider!r}), which no exported graph can repeat. Let its gate "
                "take the likelier action (inference='argmax'), or fix it: export(..., path=path)."
            )
    return _Form(net, fixed, batch).eval()


def fixed_sites(net: Routed, path: Path | None) -> dict[str, Bools]:
    """The sites at which nothing is left to decide, with what they open: those of the path, and those that open the
    same for every image.

    Raises:
        PathError: for a path that does not fit, or a per-sample one.
    """
    if path is not None and path.batch is not None:
        raise PathError(
            f"a path for {path.batch} samples, each its own, cannot be fixed in one file; take one sample's: path[0]."
        )
    always = {n: (True,) * len(s.units) if s.decider is None else s.decider.constant for n, s in net.sites.items()}
    fixed = {name: opened for name, opened in always.items() if opened is not None}
    if path is not None:
        path.check(net.layout)
        fixed.update({name: path[name] for name in path})
    return fixed


class _Answer(nn.Module):
    """A plain network, of whose output the answer is returned."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return answer(self.model(x))


class _Form(nn.Module):
    """The network with junctions that become branches of a graph."""

    slot: Slot

    def __init__(self, net: Routed, fixed: Mapping[str, Bools], batch: Batch) -> None:
        super().__init__()
        sites = {
            name: Site(name, site.units, site.modules, None if name in fixed else _decider(site), site.apart)
            for name, site in net.sites.items()
        }
        tensors = chain(net.model.parameters(), net.model.buffers())
        same = {**{id(t): t for t in tensors}, **{id(net.sites[name]): site for name, site in sites.items()}}
        # A copy that keeps the slot of its places together; they stay in branches when junctions are gone.
        copied, self.slot = copy.deepcopy((net.model, net.slot), same)
        self.model: nn.Module = copied
        self.deciders = nn.ModuleList(site.decider for site in sites.values() if site.decider is not None)
        self.fixed = dict(fixed)
        self.layout = net.layout
        self._replace(self.model, rectified_junctions(self.model), batch, {})

    def _replace(
        self, parent: nn.Module, rectified: set[Junction], batch: Batch, made: dict[nn.Module, nn.Module]
    ) -> None:
        """Put what can be exported in the place of each junction, outer ones first, under all its names."""
        for name, child in [(name, child) for name, child in parent._modules.items() if child is not None]:
            if child not in made:
                module = child
                while isinstance(module, Junction):
                    module = self._exportable(module._place, child in rectified, batch)
                made[child] = copying(module) if module is not child and hands_on(module) else module
                self._replace(made[child], rectified, batch, made)
            if made[child] is not child:
                setattr(parent, name, made[child])

    def _exportable(self, place: Place, rectified: bool, batch: Batch) -> nn.Module:
        if all(site.name in self.fixed for site in place.sites):
            return place.cut(self.fixed, rectified)
        if isinstance(place, ResidualPlace):
            return _BRANCHING[batch](place)
        raise RouteError(
            f"site {place.sites[0].name!r}: a {type(place).__name__} cannot decide inside an exported graph; fix its "
            "units: export(..., path=path)."
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        call = Call(Path(self.fixed), x.shape[0], x.device, grad=False)
        holder = self.slot.holder
        before = holder.call
        try:
            holder.call = call
            y = answer(self.model(x))
        finally:
            holder.call = before
        for name, opened in self.fixed.items():
            call.trace[name] = call.whole(opened)
        trace = call.finish(self.layout.inside)
        closed = {name: call.whole((False,) * len(units)) for name, units in self.layout.sites.items()}
        return y, torch.cat([trace.get(name, closed[name]).open for name in closed], 1)


class _Choice(Decider):
    """A decider whose score in evaluation decides, its weights folded into two layers."""

    def __init__(self, perceptron: Perceptron, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold
        for field in dataclasses.fields(perceptron):
            self.register_buffer(field.name, getattr(perceptron, field.name).detach().clone())

    first: Tensor
    first_bias: Tensor
    second: Tensor
    second_bias: Tensor

    def forward(self, features: Tensor) -> Decision:
        hidden = functional.linear(features.float(), self.first, self.first_bias).relu()
        score = functional.linear(hidden, self.second, self.second_bias)
        opened = score > self.threshold
        return Decision(opened, opened.float(), score)


def _decider(site: Site) -> Decider | None:
    decider = site.decider
    return (
        _Choice(decider.perceptron(), decider.threshold) if decider is not None and decider.by_perceptron else decider
    )


class _Branching(nn.Module, ABC):
    """A residual block whose branches are branches of the graph.

    Attributes:
        inner: the block, a child, since exporters look weights up by name.
        place: the place it stands for.
    """

    place: ResidualPlace

    def __init__(self, place: ResidualPlace) -> None:
        super().__init__()
        self.inner = place.block
        self.__dict__["place"] = place

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        inputs = self.place.prepare(x, args, kwargs)
        for step in self.place.steps:
            if step.pre is not None:
                x = step.pre(self.inner, x, *inputs)
            x = self._run(step, x, inputs)
        returned: Tensor = self.place.returned(x, {}, inputs)
        return returned

    def _run(self, step: Step, x: Tensor, inputs: tuple[Any, ...]) -> Tensor:
        axes = tuple(axis for axis in range(1, x.dim()) if axis != step.axis)
        x, decision = self.place.decide(step.site, x, lambda x: (x, x.mean(axes) if axes else x))
        if decision is None or not isinstance(step.site.decider, _Choice):
            return self.place.sum(step, x, inputs, {})
        # Computed outside, where it stands in the file once: both sides need it.
        shortcut = () if step.shortcut.identity else (step.shortcut(self.inner, x, *inputs),)
        return self._choose(step, decision.open[:, step.unit], (x, *shortcut), inputs)

    @abstractmethod
    def _choose(self, step: Step, opened: Tensor, values: tuple[Tensor, ...], inputs: tuple[Any, ...]) -> Tensor:
        """The block's value.

        Args:
            step: the sum.
            opened: bool ``[batch]``.
            values: the value before the sum, and the shortcut's where that is another.
            inputs: see `Part`.
        """

    def _closed(self, step: Step, shortcut: Tensor, inputs: tuple[Any, ...]) -> Tensor:
        """What is left of a closed sum."""
        return _side(step.post(self.inner, shortcut.clone() if step.post.in_place else shortcut, *inputs))


class _One(_Branching):
    """For a single image."""

    def _choose(self, step: Step, opened: Tensor, values: tuple[Tensor, ...], inputs: tuple[Any, ...]) -> Tensor:
        def run(*values: Tensor) -> Tensor:
            return _side(step.post(self.inner, values[-1] + step.branch(self.inner, values[0], *inputs), *inputs))

        def skip(*values: Tensor) -> Tensor:
            return self._closed(step, values[-1], inputs)

        return _cond(step, opened[0], run, skip, values)


class _Any(_Branching):
    """For a batch: the images that open the unit are gathered, run and added back; nothing runs if none does."""

    def _choose(self, step: Step, opened: Tensor, values: tuple[Tensor, ...], inputs: tuple[Any, ...]) -> Tensor:
        def run(opened: Tensor, *values: Tensor) -> Tensor:
            rows = opened.nonzero().flatten()
            torch._check(rows.shape[0] >= 1)  # only reached with an open image, which the exporter cannot know
            some = (inputs[0][: rows.shape[0]], *inputs[1:])  # a branch reads only sizes of the block's own input
            branch = step.branch(self.inner, values[0].index_select(0, rows), *some)
            return _side(step.post(self.inner, values[-1].index_add(0, rows, branch), *inputs))

        def skip(opened: Tensor, *values: Tensor) -> Tensor:
            return self._closed(step, values[-1], inputs)

        return _cond(step, opened.any(), run, skip, (opened, *values))


def _side(y: Tensor) -> Tensor:
    """A value that one side of a branch may return: no argument of it, and in the same order of memory as the other's.

    Exporters drop the copy again.
    """
    return y.clone(memory_format=torch.contiguous_format)


_BRANCHING: dict[Batch, type[_Branching]] = {"one": _One, "any": _Any}


def _cond(
    step: Step, opened: Tensor, run: Callable[..., Tensor], skip: Callable[..., Tensor], values: tuple[Tensor, ...]
) -> Tensor:
    try:
        value: Tensor = torch.cond(opened, run, skip, values)
    except Exception as error:
        raise RouteError(
            f"site {step.site.name!r} cannot become a branch of an exported graph ({reason(error)}). Fix it and what "
            "else is like it: export(..., path=path)."
        ) from error
    return value
