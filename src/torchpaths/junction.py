"""What happened in a forward pass: ``Decision`` and ``Trace``; and the modules it happens in: ``Junction`` and
``Routed``.

``Routed`` wraps a model whose blocks were replaced by junctions: ``(x, path=None) -> (y, trace)``. For the length of
one call it hands every junction the `Call` (the forced path and the trace being written) and takes it away again, also
after an exception. There are no hooks, context managers or globals, so compile, DDP, deepcopy, pickle and export see
ordinary modules. A junction outside any call just runs open, so the inner model stays an ordinary model.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from torchpaths.errors import CallError
from torchpaths.panel import Perceptron
from torchpaths.path import Bools, Layout, Path, Unit

Inputs: TypeAlias = "Tensor | Sequence[Tensor]"
"""A batch: a tensor whose first axis is the samples, or a list of images of their own sizes, as detectors take."""

Pooling: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""``x -> (x, its pooled features [batch, channels])``: a place's own, since only it knows its layout."""


def extent(x: Inputs) -> tuple[int, torch.device]:
    """How many samples a batch holds, and where it is."""
    if isinstance(x, Tensor):
        return x.shape[0], x.device  # not len(x): while a network is exported this size is a variable
    return len(x), x[0].device if len(x) else torch.device("cpu")


@dataclass(frozen=True)
class Decision:
    """One site's decision for one batch.

    Attributes:
        open: bool ``[batch, unit]``, which units ran.
        z: float32 ``[batch, unit]``, the multiplier that carries the gradient (e.g. a straight-through sample).
        score: float32 ``[batch, unit]``, why: the log-odds of being open; None where nothing was estimated.
        whole: the same as ``open`` in plain bools where it holds for the whole batch, so that closed work can be left
            out; None where samples may differ.
        response: what the place measured, by name (energies, features).
    """

    open: Tensor
    z: Tensor
    score: Tensor | None = None
    whole: Bools | None = None
    response: Mapping[str, Tensor] = field(default_factory=dict)


Trace: TypeAlias = dict[str, Decision]
"""What happened in one forward: site -> decision. A site that did not run is absent."""


class Decider(nn.Module, ABC):
    """Who decides: pooled features ``[batch, channels]`` -> `Decision`. Knows no layout and no network.

    Attributes:
        by_score: whether in evaluation a unit opens where its score is above the threshold, and nothing else decides.
        threshold: that score.
        draws: whether chance decides in evaluation.
        constant: what it decides for everything, without being asked, where it looks at nothing; else None.
    """

    by_score: bool = False
    threshold: float = 0.0
    draws: bool = False
    constant: Bools | None = None

    @abstractmethod
    def forward(self, features: Tensor) -> Decision: ...

    def perceptron(self) -> Perceptron:
        """The score in evaluation as a perceptron, for deciders that decide by score.

        Raises:
            CallError: for others.
        """
        raise CallError(f"{self!r} does not decide by a score, so nothing can compute one in its place.")


@dataclass
class Site:
    """A named place in paths and traces.

    Attributes:
        name: the name in paths.
        units: its units.
        modules: dotted names of the modules its units cover, one per unit.
        decider: who decides when no path does; None means open. Owned (registered) by `Routed`, only referred to here,
            so that the model's own state_dict keys stay as they were.
    """

    name: str
    units: tuple[Unit, ...]
    modules: tuple[str, ...]
    decider: Decider | None = None


class Call:
    """One forward pass: the path chosen from outside and the trace being written.

    Attributes:
        gathers: whether junctions run what only some samples open for those alone, instead of masking.
    """

    gathers = False

    def __init__(self, path: Path | None, batch: int, device: torch.device, grad: bool) -> None:
        self.path = path
        self.batch = batch
        self.device = device
        self.grad = grad
        self.trace: Trace = {}
        self._wholes: dict[Bools, Decision] = {}

    def decide(self, site: Site, x: Tensor, pool: Pooling) -> tuple[Tensor, Decision]:
        """The site's decision in this call, taken once, by whoever asks first; and ``x``, to be used from here on.

        Args:
            site: the place.
            x: the features there.
            pool: ``x -> (x, pooled features [batch, channels])``; called only if the site's decider is needed.
        """
        made = self.trace.get(site.name)
        if made is not None:
            return x, made
        if self.path is not None and site.name in self.path:
            choice = self.path[site.name]
            decision = self._sampled(choice) if isinstance(choice, Tensor) else self.whole(choice)
        elif site.decider is None:
            decision = self.whole((True,) * len(site.units))
        elif site.decider.constant is not None:
            decision = self.whole(site.decider.constant)
        else:
            x, features = pool(x)
            decision = site.decider(features)
        self.trace[site.name] = decision
        return x, decision

    def note(self, site: Site, name: str, value: Tensor) -> None:
        """Add what a place measured to the response of a decision already taken."""
        made = self.trace[site.name]
        self.trace[site.name] = dataclasses.replace(made, response={**made.response, name: value})

    def whole(self, choice: Bools) -> Decision:
        """One decision for the whole batch; sites that decide alike share it."""
        if choice not in self._wholes:
            opened = torch.tensor(choice, device=self.device).expand(self.batch, len(choice))
            self._wholes[choice] = Decision(opened, opened.float(), whole=choice)
        return self._wholes[choice]

    def _sampled(self, choice: Tensor) -> Decision:
        opened = choice.to(self.device)
        return Decision(opened, opened.float())


class Junction(nn.Module, ABC):
    """A module that obeys units of one or more sites. Runs open when it is in no call.

    Attributes:
        sites: the sites it obeys, referred to and not registered (`Routed` owns their deciders).
        call: the call in progress, or None.
        rectifies: whether its output is known to be the output of a ReLU, along every path.
    """

    rectifies: bool = False

    def __init__(self, sites: tuple[Site, ...]) -> None:
        super().__init__()
        self.sites = sites
        self.call: Call | None = None

    def decide(self, site: Site, x: Tensor, pool: Pooling) -> tuple[Tensor, Decision | None]:
        """The decision for one of this junction's sites, None (open) outside any call; and ``x`` to go on with.

        Raises:
            CallError: when activation checkpointing runs this junction again after its call has ended, or runs it
                without gradients: both would silently give wrong gradients.
        """
        call = self.call
        if call is None:
            if not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1:
                raise CallError(
                    f"site {site.name!r} ran again inside a backward pass, after its call had ended: activation "
                    "checkpointing around parts of a routed model cannot see the path. Checkpoint the whole routed "
                    "network's call instead, torch.utils.checkpoint.checkpoint(net, x, path, use_reentrant=False)."
                )
            return x, None
        if call.grad and self.training and not torch.is_grad_enabled():
            raise CallError(
                f"site {site.name!r} ran without gradients inside a call with them: reentrant checkpointing drops the "
                "trace's gradient. Use torch.utils.checkpoint.checkpoint(..., use_reentrant=False) around the whole "
                "call."
            )
        return call.decide(site, x, pool)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        """The plain module that computes what this junction computes along a path.

        Args:
            opened: each of this junction's sites -> its units. Further sites are passed over.
            rectified: its input is known to be the output of a ReLU (`torchpaths.along.rectified_junctions`), so that
                a ReLU of it may be left out.

        Returns:
            A module of torch or of the original library that shares its parameters and runs without torchpaths.
            Where nothing is left to do it hands on its own input: whoever puts it into a network sees to it that
            nobody writes into that.
        """


class Routed(nn.Module):
    """A model whose parts can be open or closed: ``(x, path=None) -> (y, trace)``. Made by `torchpaths.route`.

    Attributes:
        model: the original model with junctions in place of some blocks; parameters and state_dict keys as they were.
        deciders: site name (with ``/`` for ``.``) -> decider.
        sites: site name -> `Site`, in order of execution.
        layout: units and costs, the network as paths see it.
        example_shape: of one image of the example it was routed with, ``(C, H, W)``; empty where it was made by hand or
            takes lists of images.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: tuple[Site, ...],
        junctions: tuple[Junction, ...],
        layout: Layout,
        example_shape: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.model = model
        self.deciders = nn.ModuleDict()
        # Past ModuleDict's own check of names: a block may well be called "keys".
        self.deciders._modules.update({s.name.replace(".", "/"): s.decider for s in sites if s.decider is not None})
        self.sites = {s.name: s for s in sites}
        self.junctions = junctions
        self.layout = layout
        self.example_shape = example_shape

    def forward(self, x: Inputs, path: Path | None = None, **more: Any) -> tuple[Any, Trace]:
        """
        Args:
            x: a batch, first axis the samples; or a list of images, for models that take one.
            path: units chosen from outside; sites it does not name decide for themselves.
            **more: what else the model's own forward takes, such as a detector's ``targets``.

        Returns:
            The model's output and what happened.

        Raises:
            PathError: if the path does not fit this network or this batch.
        """
        batch, device = extent(x)
        if path is not None:
            path.check(self.layout, batch)
        call = Call(path, batch, device, torch.is_grad_enabled())
        for junction in self.junctions:
            junction.call = call
        try:
            y = self.model(x, **more)
        finally:
            for junction in self.junctions:
                junction.call = None
        return y, call.trace

    def __repr__(self) -> str:
        layout = self.layout
        rows = [("site", "units", "MACs", "of plain", "params", "decider")]
        for site in self.sites.values():
            macs = sum(u.cost.macs for u in site.units)
            params = sum(u.cost.params for u in site.units)
            share = f"{macs / layout.plain.macs:.1%}"
            rows.append((site.name, str(len(site.units)), f"{macs:,}", share, f"{params:,}", _name(site.decider)))
        fixed, plain = layout.fixed, layout.plain
        rows.append(("always runs", "", f"{fixed.macs:,}", f"{fixed.macs / plain.macs:.1%}", f"{fixed.params:,}", ""))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                c.ljust(w) if i in (0, 5) else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))
            ).rstrip()
            for r in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        title = (
            f"Routed {layout.network}: {len(layout.units)} units at {len(self.sites)} sites; "
            f"plain {plain.macs:,} MACs, {plain.params:,} parameters"
        )
        return "\n".join([title, *lines])


def _name(decider: Decider | None) -> str:
    return "always open" if decider is None else repr(decider).replace("\n", " ")
