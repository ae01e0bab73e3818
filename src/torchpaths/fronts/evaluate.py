"""What choices are worth over images: accuracy, MACs and open units of each, in one pass over the images for all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from torchpaths.costs import count_macs, evaluating
from torchpaths.errors import DataError
from torchpaths.fronts.points import Choice, Point
from torchpaths.inputs import device_of
from torchpaths.outputs import answer
from torchpaths.routed import Routed
from torchpaths.surveys.checks import batches, check_logits, class_numbers, opened_units

Images = Iterable[tuple[Tensor, Tensor]]
"""Batches of images and labels."""


@dataclass(frozen=True)
class Worth:
    """A point and how it was found out.

    Attributes:
        point: accuracy, MACs, open units.
        images: over how many images.
        loss: mean cross-entropy, which tells apart choices that are right equally often.
    """

    point: Point
    images: int
    loss: float


@contextmanager
def undisturbed(net: Routed) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards modes and thresholds are as they were."""
    deciders = [site.decider for site in net.sites.values() if site.decider is not None]
    before = [decider.threshold for decider in deciders]
    try:
        with evaluating(net), torch.no_grad():
            yield
    finally:
        for decider, threshold in zip(deciders, before, strict=True):
            decider.threshold = threshold


def evaluate(net: Routed, choices: Sequence[Choice], images: Images, progress: str | None = None) -> list[Worth]:
    """What each choice is worth over images, which are read once.

    Args:
        net: a routed network, in the state that `undisturbed` keeps.
        choices: what to try.
        images: labelled batches.
        progress: name of a progress bar on the standard error stream; None for none.

    Raises:
        DataError: for no images, or labels that are no class numbers.
        RunError: for scores that are not finite.
    """
    device = device_of(net)
    tallies = [_Tally(net, choice) for choice in choices]
    seen = 0
    for number, (x, y) in enumerate(batches(images, progress)):
        x = x.to(device, non_blocking=True)
        labels: Tensor | None = None
        for tally in tallies:
            output, trace = net(x, tally.choice.apply(net))
            logits = answer(output)
            check_logits(logits, len(x), number)
            if labels is None:
                labels = torch.from_numpy(class_numbers(y, len(x), logits.shape[1], number)).to(device)
            tally.add(x, logits, labels, opened_units(trace, net.layout, len(x)))
        seen += len(x)
    if not seen:
        raise DataError("the loader gave no images, so nothing can be said of them; check the split and its folder.")
    return [tally.result(seen) for tally in tallies]


class _Tally:
    """Sums over the images so far, of one choice."""

    def __init__(self, net: Routed, choice: Choice) -> None:
        self.net = net
        self.choice = choice
        self.correct = 0
        self.loss = 0.0
        self.opened = np.zeros(len(net.layout.units), np.int64)
        self.macs = 0
        # One path for all images is counted on a run, as a forced path asks no decider.
        self.counts = choice.path is not None and set(choice.path) == set(net.sites)
        self.one_image: int | None = None

    def add(self, x: Tensor, logits: Tensor, labels: Tensor, opened: NDArray[np.bool_]) -> None:
        self.correct += int((logits.argmax(1) == labels).sum())
        self.loss += float(functional.cross_entropy(logits.float(), labels, reduction="sum"))
        self.opened += opened.sum(0)
        if self.counts and self.one_image is None:
            path = self.choice.apply(self.net)
            self.net(x[:1], path)  # once before: what the network does only the first time is not counted
            self.one_image = count_macs(lambda: self.net(x[:1], path))
        elif not self.counts:
            self.macs += int(self.net.layout.costs(opened)[:, 0].sum())

    def result(self, images: int) -> Worth:
        point = Point(
            self.choice.kind,
            self.choice.path,
            self.choice.threshold,
            accuracy=self.correct / images,
            macs=self.macs / images if self.one_image is None else float(self.one_image),
            open=max(self.net.layout.shares(self.opened / images).values(), default=0.0),
        )
        return Worth(point, images, self.loss / images)
