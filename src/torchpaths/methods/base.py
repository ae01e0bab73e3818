"""What a method is: places to close, who decides there, and the losses that teach it. Downstream code knows only
this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from torch import Tensor, nn

from torchpaths.find import ByHand
from torchpaths.junction import Inputs, Junction, Routed, Site
from torchpaths.path import Path

Task: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""The task's loss: (logits, labels) -> scalar, a mean over the batch."""


class Mean(Protocol):
    """The mean over the global batch (all ranks, all micro-batches) of a quantity whose mean over this one is
    ``local``.

    The value is the global mean, the gradient is that of ``local``: averaged over ranks and micro-batches, that is the
    gradient of the global mean.
    """

    def __call__(self, name: str, local: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Plan:
    """One module to be replaced by a junction: data; `torchpaths.route` does the swapping.

    Attributes:
        module: dotted name of the module.
        sites: the sites the junction obeys, in order of execution, their units' costs included.
        build: makes the junction from the module as it stands at the moment of swapping.
    """

    module: str
    sites: tuple[Site, ...]
    build: Callable[[nn.Module], Junction]


class Method(ABC):
    """A way of opening and closing parts: frozen dataclass of the paper's knobs, defaults the paper's."""

    @abstractmethod
    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """The junctions this method wants, found on the untouched model.

        Raises:
            RouteError: if the method does not fit the model; the model is as it was.
        """

    @abstractmethod
    def losses(self, net: Routed, x: Tensor, y: Tensor, task: Task, mean: Mean) -> dict[str, Tensor]:
        """The terms of the training loss, weighted: the loss is their sum. ``"task"`` is always among them.

        Args:
            net: the routed network, in training mode.
            x: images of this micro-batch.
            y: their labels.
            task: the task's loss.
            mean: for terms that are not a mean over samples, see `Mean`.
        """

    def passes(self, net: Routed, x: Tensor, y: Tensor, task: Task, mean: Mean) -> Iterator[dict[str, Tensor]]:
        """The same terms in parts, each with a graph of its own: the backward pass of one may run, and free its memory,
        before the next is asked for. The sum of the gradients is that of `losses`. Arguments as there."""
        yield self.losses(net, x, y, task, mean)

    def paths(self, net: Routed) -> dict[str, Path]:
        """Paths, by name, whose accuracy says how training goes, beside that of the network's own decisions."""
        return {}
