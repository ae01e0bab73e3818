"""What happened in a forward pass: ``Decision`` and ``Trace``; where and who: ``Site`` and ``Decider``; and the pass
while it runs: ``Call``.

A call belongs to one thread and to one forward pass. Junctions find it in a `Slot` that they share with their network:
there every thread has its own, a call within a call covers the outer one and gives it back, and copies of a network get
a slot of their own, so that nothing of a call can be left anywhere.
"""

from __future__ import annotations

import dataclasses
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from torchpaths.errors import CallError
from torchpaths.inputs import Given
from torchpaths.layout import Unit
from torchpaths.path import Bools, Path
from torchpaths.perceptron import Perceptron
from torchpaths.threshold import threshold

Inputs: TypeAlias = "Tensor | Sequence[Tensor] | Given"
"""A batch: a tensor whose first axis is the samples, a list of images of their own sizes, as detectors take, or several
values."""

Pooling: TypeAlias = Callable[[Tensor], tuple[Tensor, Tensor]]
"""``x -> (x, its pooled features [batch, channels])``: a place's own, since only it knows its layout."""


def extent(x: Inputs) -> tuple[int, torch.device]:
    """How many samples a batch holds, and where it is."""
    x = x.main if isinstance(x, Given) else x
    if isinstance(x, Tensor):
        return x.shape[0], x.device  # not len(x): while a network is exported this size is a variable
    return len(x), x[0].device if len(x) else torch.device("cpu")


def transformed() -> bool:
    """Whether a transform of ``torch.func`` (grad, vmap, jacrev) is at work, outside of compilation: values cannot be
    read then, and tensors do not tell how they lie in memory."""
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None


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
        ran: bool ``[batch]``, which images came to this site at all: for the others, for which a block around it was
            closed, nothing here is open. None where all did.
    """

    open: Tensor
    z: Tensor
    score: Tensor | None = None
    whole: Bools | None = None
    response: Mapping[str, Tensor] = field(default_factory=dict)
    ran: Tensor | None = None

    def taken(self, rows: Tensor) -> Decision:
        """The decision for some images of the batch (long ``[n]``), without responses."""
        if self.whole is not None:
            return Decision(self.open[: len(rows)], self.z[: len(rows)], None, self.whole)
        score = None if self.score is None else self.score[rows]
        return Decision(self.open[rows], self.z[rows], score)

    def spread(self, rows: Tensor, batch: int) -> Decision:
        """A decision for some images (long ``[n]``) as one for the batch of which they are."""

        def full(values: Tensor) -> Tensor:
            return values.new_zeros(batch, *values.shape[1:]).index_copy(0, rows, values)

        score = None if self.score is None else full(self.score)
        ran = full(torch.ones_like(rows, dtype=torch.bool))
        return Decision(full(self.open), full(self.z), score, None, {}, ran)

    def only(self, ran: Tensor) -> Decision:
        """The decision where only some images (bool ``[batch]``) came to the site."""
        among = ran if self.ran is None else self.ran & ran
        column = among.unsqueeze(1)
        score = None if self.score is None else self.score.masked_fill(~column, 0.0)  # as where only some were asked
        return dataclasses.replace(self, open=self.open & column, z=self.z * column, score=score, whole=None, ran=among)


Trace: TypeAlias = dict[str, Decision]
"""What happened in one forward: site -> decision. A site that did not run is absent."""


class Decider(nn.Module, ABC):
    """Who decides: pooled features ``[batch, channels]`` -> `Decision`. Knows no layout and no network.

    Attributes:
        by_score: whether in evaluation a unit opens where the score of its decision is above the threshold.
        by_perceptron: whether that score is what `perceptron` gives and nothing else decides, so that others may decide
            in its place. Not where a decider has a rule of its own, such as that one unit at least stays open.
        threshold: that score. Not NaN.
        draws: whether chance decides in evaluation.
        constant: what it decides for everything, without being asked, where it looks at nothing; else None.
        disturbed: whether it is asked all the same, because chance is added to it in training.
        looks: whether it looks at features; one that does not is given ``[batch, 0]``.
        reads: the site, of those before, whose decision it is given beside the features: ``forward(features, before)``,
            with None for one that did not run.
    """

    by_score: bool = False
    by_perceptron: bool = False
    threshold: float = 0.0
    draws: bool = False
    constant: Bools | None = None
    disturbed: bool = False
    looks: bool = True
    reads: str | None = None

    @abstractmethod
    def forward(self, features: Tensor) -> Decision: ...

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "threshold":
            value = threshold(value, type(self).__name__)
        super().__setattr__(name, value)

    def single(self, features: Tensor) -> Decision:
        """The decision for one image in evaluation without gradients, ``[1, channels]``; with `Decision.whole` where
        that takes no longer than to leave it out."""
        made: Decision = self(features)
        return made

    def soft(self, score: Tensor) -> Tensor:
        """How far units are open by their scores ``[batch, unit]``, in [0, 1]: what a hard decision, which has no
        gradient, takes the gradient of (straight-through estimator)."""
        return torch.sigmoid(score - self.threshold)

    def perceptron(self) -> Perceptron:
        """The score in evaluation as a perceptron, for deciders that decide by one.

        Raises:
            CallError: for others.
        """
        raise CallError(f"{self!r} does not decide by a score, so nothing can compute one in its place.")


@dataclass(eq=False)
class Site:
    """A named place in paths and traces.

    Attributes:
        name: the name in paths.
        units: its units.
        modules: dotted names of the modules its units cover, one per unit.
        decider: who decides when no path does; None means open. Owned (registered) by `Routed`, only referred to here,
            so that the model's own state_dict keys stay as they were.
        apart: whether each image can be decided by itself. Not where the images of a batch touch each other, as in
            batch normalisation without running statistics: one left out would change the others.
    """

    name: str
    units: tuple[Unit, ...]
    modules: tuple[str, ...]
    decider: Decider | None = None
    apart: bool = True

    @property
    def kind(self) -> str:
        """See `Unit.kind`."""
        return self.units[0].kind


class Call:
    """One forward pass: the path chosen from outside and the trace being written.

    Attributes:
        gathers: whether junctions run what only some samples open for those alone, instead of masking.
        rows: the samples (long ``[n]``) that are there while a junction runs a part for some of them; None: all.
    """

    gathers = False

    def __init__(self, path: Path | None, batch: int, device: torch.device, grad: bool) -> None:
        self.path = path
        self.batch = batch
        self.device = device
        self.grad = grad
        self.trace: Trace = {}
        self.rows: Tensor | None = None
        self._wholes: dict[Bools, Decision] = {}

    def decide(self, site: Site, x: Tensor, pool: Pooling) -> tuple[Tensor, Decision]:
        """The site's decision in this call, taken once, by whoever asks first; and ``x``, to be used from here on.

        Args:
            site: the place.
            x: the features there, of the samples in `rows`.
            pool: ``x -> (x, pooled features [batch, channels])``; called only if the site's decider is needed.

        Returns:
            ``x`` and the decision for the samples in `rows`.

        Raises:
            CallError: for a decision by image where images touch each other, and for an image without a batch.
        """
        made = self.trace.get(site.name)
        if made is None:
            x, made = self._made(site, x, pool)
            if made.whole is None and not site.apart:
                raise CallError(
                    f"site {site.name!r} cannot be chosen image by image: in its block {site.modules[0]!r} the images "
                    "of a batch touch each other. Choose it for the whole batch, path[0], or give it norms with "
                    "running statistics."
                )
            self.trace[site.name] = made
        return x, made if self.rows is None else made.taken(self.rows)

    def _made(self, site: Site, x: Tensor, pool: Pooling) -> tuple[Tensor, Decision]:
        if self.path is not None and site.name in self.path:
            choice = self.path[site.name]
            return x, self._sampled(choice) if isinstance(choice, Tensor) else self.whole(choice)
        if site.decider is None:
            return x, self.whole((True,) * len(site.units))
        if site.decider.constant is not None and not site.decider.disturbed:
            return x, self.whole(site.decider.constant)
        x, features = pool(x) if site.decider.looks else (x, x.new_empty(x.shape[0], 0))
        if self.rows is None and not torch.compiler.is_compiling() and features.shape[0] != self.batch:
            raise CallError(
                f"site {site.name!r} saw {features.shape[0]} images of a batch of {self.batch}; call the network "
                "with a batch, one image x as x[None]."
            )
        if site.decider.reads is None:
            made = self._ask(site.decider, features)
        else:
            before = self.trace.get(site.decider.reads)
            made = site.decider(features, before if before is None or self.rows is None else before.taken(self.rows))
        _check(made, site, features)
        return x, made if self.rows is None or made.whole is not None else made.spread(self.rows, self.batch)

    def _ask(self, decider: Decider, features: Tensor) -> Decision:
        made: Decision = decider(features)
        return made

    def note(self, site: Site, name: str, value: Tensor) -> None:
        """Add what a place measured to the response of a decision already taken."""
        made = self.trace[site.name]
        if self.rows is not None:
            value = value.new_zeros(self.batch, *value.shape[1:]).index_copy(0, self.rows, value)
        self.trace[site.name] = dataclasses.replace(made, response={**made.response, name: value})

    def whole(self, choice: Bools) -> Decision:
        """One decision for the whole batch; sites that decide alike share it."""
        if choice not in self._wholes:
            opened = torch.tensor(choice, device=self.device).expand(self.batch, len(choice))
            self._wholes[choice] = Decision(opened, opened.float(), whole=choice)
        return self._wholes[choice]

    def finish(self, inside: Mapping[str, Sequence[tuple[str, int]]]) -> Trace:
        """The trace, complete: sites inside closed units did not run, whether or not they were computed.

        Args:
            inside: `Layout.inside`.
        """
        for name, around in inside.items():
            made = self.trace.get(name)
            for site, unit in around:
                outer = self.trace.get(site)
                if made is None or outer is None:
                    continue
                if outer.whole is None:
                    made = made.only(outer.open[:, unit])
                    if not torch.compiler.is_compiling() and not transformed() and not bool(made.ran.any()):  # type: ignore[union-attr]
                        made = None  # nobody came; while a graph is recorded that can't be known
                elif not outer.whole[unit]:
                    made = None
            if made is not None:
                self.trace[name] = made
            else:
                self.trace.pop(name, None)
        return self.trace

    def _sampled(self, choice: Tensor) -> Decision:
        opened = choice.to(self.device)
        return Decision(opened, opened.float())


def _check(made: Decision, site: Site, features: Tensor) -> None:
    """Raise unless a decision is one for these samples and the units of a site."""
    wanted = (features.shape[0], len(site.units))
    who = f"the decider of site {site.name!r}, {type(site.decider).__name__}, gave"
    if not isinstance(made, Decision) or tuple(made.open.shape) != wanted or tuple(made.z.shape) != wanted:
        found = f"open {tuple(made.open.shape)}, z {tuple(made.z.shape)}" if isinstance(made, Decision) else repr(made)
        raise CallError(f"{who} {found}; it is to give a Decision with open and z [batch, unit], here {list(wanted)}.")
    if made.open.dtype != torch.bool or (made.whole is not None and len(made.whole) != wanted[1]):
        raise CallError(
            f"{who} open of {made.open.dtype} and whole {made.whole!r}; open holds bools, whole a bool for each of "
            f"{wanted[1]} units or None."
        )


class _OfThread(threading.local):
    """Each thread's own call."""

    call: Call | None = None


class Slot:
    """Where the junctions of one network find the call they are in.

    Attributes:
        local: holds this thread's innermost call.
        call: the call in a frame that torch.compile traces, when nothing is run for real; seen outside of one only
            where a graph breaks inside of it.
        running: the calls that are running, of all threads: a part that is compiled by itself is guarded by their
            number, since threads' own attributes have no guards.
    """

    def __init__(self) -> None:
        self.local = _OfThread()
        self.call: Call | None = None
        self.running: dict[int, None] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Slot:
        return Slot()

    def __reduce__(self) -> tuple[type[Slot], tuple[()]]:
        return Slot, ()

    @property
    def holder(self) -> Any:
        """What has the attribute ``call`` that holds here: itself in a frame that is traced, else the thread's own."""
        # Not is_compiling(): that is true in all threads while one compiles.
        return self if torch.compiler.is_dynamo_compiling() else self.local

    @property
    def current(self) -> Call | None:
        """The call in progress here; None outside any."""
        if torch.compiler.is_dynamo_compiling():
            return self.call
        own: Call | None = self.local.call
        return self.call if own is None else own
