"""What a method is: places to close, who decides there, and the losses that teach it. Downstream code knows only
this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from torchpaths.errors import RouteError
from torchpaths.path import Path
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.routed import Routed
from torchpaths.trace import Inputs, Trace

Task: TypeAlias = Callable[[Any, Any], Tensor]
"""The task's loss: (outputs, target) -> scalar, a mean over the batch. See `torchpaths.methods.task`."""

Losses: TypeAlias = dict[str, Tensor]
"""Weighted terms of a loss by name, scalars: the loss is their sum."""


class Mean(Protocol):
    """The mean over the global batch (all ranks, all micro-batches) of a quantity whose mean over this one is
    ``local``.

    The value is the global mean, the gradient is that of ``local``: averaged over ranks and micro-batches, that is the
    gradient of the global mean. Names are those of one pass: two passes that ask for one name get two means.
    """

    def __call__(self, name: str, local: Tensor) -> Tensor: ...


class Terms(Protocol):
    """`Method.terms` for one batch, as a pass asks for them: of its trace, under a name that tells the pass."""

    def __call__(self, trace: Trace, of: str = "") -> Losses: ...


class Method(ABC):
    """A way of opening and closing parts: frozen dataclass of the paper's knobs, defaults the paper's.

    Attributes:
        names: the class of the method, or of each where it stands for several.
        headed: whether its losses need `heads`.
        unlabelled: what to do where images have no class, for an error where the losses need one.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """See above."""
        return (type(self).__name__,)

    @property
    def headed(self) -> bool:
        """See above."""
        return type(self).heads is not Method.heads

    @property
    def unlabelled(self) -> str:
        """See above."""
        return "take a method whose losses need no classes, such as GatedBlocks or AdaptiveDepth"

    @property
    def labelling(self) -> tuple[str, ...]:
        """The class of the method, or of those among several, whose losses may need classes, see `labelled`."""
        return self.names if type(self).labelled is not Method.labelled else ()

    @property
    def weights(self) -> dict[str, float]:
        """What its losses are multiplied by, by the names of their terms, where runs are compared by them."""
        return {}

    @abstractmethod
    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """The junctions this method wants, found on the untouched model.

        Raises:
            RouteError: if the method does not fit the model.
        """

    def heads(self, net: Routed, classes: int) -> nn.Module | None:
        """What the losses alone need, such as a class head for each site: trained and kept with the network, but no
        part of it. None for nothing.

        Args:
            net: the routed network.
            classes: of the task.
        """
        return None

    def labelled(self, net: Routed, heads: nn.Module | None) -> int | None:
        """How many classes the labels are of that its terms need, one for each image; None where they need none.

        Args:
            net: the routed network.
            heads: what `heads` gave.
        """
        return None

    def terms(self, net: Routed, trace: Trace, y: Any, mean: Mean, heads: nn.Module | None) -> Losses:
        """The weighted terms of the loss beside the task's, of one pass that has run.

        Args:
            net: the routed network, in training mode.
            trace: what happened in the pass; sites that did not run are absent and must not count (see `running`).
            y: the labels: class numbers, looked at, where `labelled` says that they are needed; else the targets.
            mean: for terms that are not a mean over samples, see `Mean`.
            heads: what `heads` gave.
        """
        return {}

    def passes(self, net: Routed, x: Tensor, y: Any, task: Task, terms: Terms) -> Iterator[Losses]:
        """The terms of the loss, in parts each with a graph of its own: the backward pass of one may run, and free its
        memory, before the next is asked for. ``"task"`` is always among them.

        By default one pass in which the network decides for itself.

        Args:
            net: the routed network, in training mode.
            x: images of this micro-batch.
            y: their targets.
            task: the task's loss.
            terms: to be asked for each pass that ran: those of all methods of the network.
        """
        outputs, trace = net(x)
        yield {"task": task(outputs, y), **terms(trace)}

    def path_of(self, net: Routed, classes: Sequence[int]) -> Path:
        """What of a network works for some classes, where the method says so before it is trained.

        Args:
            net: the routed network.
            classes: their numbers.

        Raises:
            RouteError: for methods that give classes no paths.
            PathError: for no class, or one that there is not.
        """
        raise RouteError(
            f"{type(self).__name__} gives classes no paths of their own; choose one from a survey, which says what "
            "their images open: survey(net, loader).path(label=...)."
        )

    def target_rates(self, net: Routed) -> dict[str, float]:
        """Site -> the share of images that is to open it, of sites trained towards one; empty by default."""
        return {}

    def paths(self, net: Routed) -> dict[str, Path]:
        """Paths, by name, whose accuracy says how training goes, beside that of the network's own decisions."""
        return {}


def parts(
    method: Method,
    net: Routed,
    x: Tensor,
    y: Any,
    task: Task,
    mean: Mean,
    heads: nn.Module | None = None,
    labels: Any = None,
) -> Iterator[Losses]:
    """The losses of one batch, part by part, see `Method.passes`.

    Args:
        labels: of the images, for the method's terms; None: the targets.
    """
    named = y if labels is None else labels

    def terms(trace: Trace, of: str = "") -> Losses:
        found = method.terms(net, trace, named, lambda name, local: mean(of + name, local), heads)
        return {of + name: loss for name, loss in found.items()}

    return method.passes(net, x, y, task, terms)


def losses(
    method: Method,
    net: Routed,
    x: Tensor,
    y: Any,
    task: Task,
    mean: Mean,
    heads: nn.Module | None = None,
    labels: Any = None,
) -> Losses:
    """The losses of one batch, all parts together. Arguments as `parts`."""
    return {name: loss for part in parts(method, net, x, y, task, mean, heads, labels) for name, loss in part.items()}


def running(net: Routed, trace: Trace, site: str) -> Tensor | None:
    """Which images came to a site, float32 ``[batch]`` without gradient; None if all did.

    A block that was skipped must not enter the loss of a site inside it, or that loss trains the gate around it shut.
    """
    weights: list[Tensor] = []
    for outer, unit in net.layout.inside.get(site, ()):
        decision = trace.get(outer)
        if decision is not None and decision.whole is None:
            weights.append(decision.open[:, unit])
    return torch.stack(weights).all(0).float() if weights else None
