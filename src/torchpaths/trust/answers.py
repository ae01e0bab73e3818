"""``Answers``: what a network said of images and along which paths, as arrays. All else here is arithmetic on them.

A path is looked at through its *marks*, a number for each unit about which the image itself has a say: 1 or 0 for a
unit that is opened or not by what the image shows, and the energy of a branch that always runs (Coded ResNeXt, eq. 3).
Units that are set from outside or drawn blindly say nothing of an image and have no mark.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.costs import evaluating
from torchpaths.deciders.code import Code
from torchpaths.errors import DataError
from torchpaths.inputs import device_of
from torchpaths.outputs import answer
from torchpaths.path import Path
from torchpaths.places.channels.energy import ENERGIES
from torchpaths.routed import Routed
from torchpaths.surveys.checks import batches, check_logits, class_numbers, opened_units
from torchpaths.trace import Site, Trace

Batches: TypeAlias = Iterable[tuple[Tensor, Any]]
Bools: TypeAlias = NDArray[np.bool_]
Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Answers:
    """What is kept of each image.

    Attributes:
        logits: float32 ``[image, class]``.
        labels: int64 ``[image]``; -1 for images that are of no class.
        marks: float32 ``[image, mark]``, see above; 0 where an image did not come to a unit.
        sites: the site of each mark, consecutive, in order of execution.
        hard: which marks are 1 or 0, bool ``[mark]``; the others are energies.
        macs: what each image cost, float64 ``[image]``.
        opened: bool ``[image, unit]``, all units of the network.
    """

    logits: NDArray[np.float32]
    labels: Ints
    marks: NDArray[np.float32]
    sites: tuple[str, ...]
    hard: Bools
    macs: Floats
    opened: Bools

    def __post_init__(self) -> None:
        if not len(self.labels):
            raise DataError("the loader gave no images; check the split, its folder and drop_last.")
        wanted = len(self.labels)
        if {len(self.logits), len(self.marks), len(self.macs), len(self.opened)} != {wanted}:
            raise DataError(f"scores, marks and costs of other numbers of images than the {wanted} labels.")
        if self.marks.shape[1:] != (len(self.sites),) or self.hard.shape != (len(self.sites),):
            raise DataError(f"marks {self.marks.shape} for {len(self.sites)} sites; give each a column.")

    @property
    def predicted(self) -> Ints:
        """``[image]``."""
        return np.asarray(self.logits.argmax(1), np.int64)

    @property
    def right(self) -> Bools:
        """``[image]``."""
        return np.asarray(self.predicted == self.labels)

    @property
    def bits(self) -> Bools:
        """The marks as a path, ``[image, mark]``: open or not; a branch, whether it has more energy than the mean of
        its block's, which is 1."""
        return np.asarray(self.marks > np.where(self.hard, 0.5, 1.0))

    @property
    def probabilities(self) -> Floats:
        """Softmax of the logits, ``[image, class]``."""
        shifted = self.logits.astype(np.float64) - self.logits.max(1, keepdims=True)
        powers = np.exp(shifted)
        return np.asarray(powers / powers.sum(1, keepdims=True))

    def only(self, images: Any) -> Answers:
        """Of some images, by number or by a bool for each."""
        logits, labels, marks = self.logits[images], self.labels[images], self.marks[images]
        return Answers(logits, labels, marks, self.sites, self.hard, self.macs[images], self.opened[images])


def answers(
    net: Routed, loader: Batches, path: Path | None = None, *, foreign: bool = False, progress: str | None = None
) -> Answers:
    """Run a network over images, in evaluation and without gradients.

    Args:
        net: a routed network in any mode.
        loader: labelled batches, normalised as in training.
        path: units chosen from outside, for every batch.
        foreign: the images are of no class of this network; their labels are not looked at.
        progress: name of a progress bar on the standard error stream; None for none.

    Raises:
        DataError: for no images, or labels that are no classes of the network.
        RunError: for scores that are not finite.
        PathError: for a path that does not fit.
    """
    device = device_of(net)
    rows: list[tuple[Any, ...]] = []
    marked = marked_sites(net, path)
    for number, (x, y) in enumerate(batches(loader, progress)):
        with evaluating(net), torch.no_grad():
            output, trace = net(x.to(device, non_blocking=True), path)
            logits = answer(output)
        check_logits(logits, len(x), number)
        labels = np.full(len(x), -1) if foreign else class_numbers(y, len(x), logits.shape[1], number)
        opened = opened_units(trace, net.layout, len(x))
        marks = marks_of(marked, trace, logits).float().cpu().numpy()
        rows.append((logits.float().cpu().numpy(), labels, marks, net.layout.costs(opened)[:, 0], opened))
    if not rows:
        raise DataError("the loader gave no images; check the split, its folder and drop_last.")
    logits, labels, marks, macs, opened = (np.concatenate(column) for column in zip(*rows, strict=True))
    sites = tuple(site.name for site in marked for _ in site.units)
    hard = np.array([not has_energies(site) for site in marked for _ in site.units], bool)
    return Answers(logits, labels, marks, sites, hard, macs.astype(np.float64), opened)


def marked_sites(net: Routed, path: Path | None = None) -> tuple[Site, ...]:
    """The sites about which an image has a say along a path, in order of execution."""
    free = (site for name, site in net.sites.items() if path is None or name not in path)
    return tuple(site for site in free if has_energies(site) or decides_by_image(site))


def decides_by_image(site: Site) -> bool:
    """Whether a site's decider looks at the image."""
    return site.decider is not None and site.decider.looks and site.decider.constant is None


def has_energies(site: Site) -> bool:
    """Whether what a site's units give is measured where all of them run."""
    return isinstance(site.decider, Code)


def marks_of(marked: Iterable[Site], trace: Trace, like: Tensor) -> Tensor:
    """The marks of a batch, ``[batch, mark]``.

    Args:
        marked: the sites that have marks.
        trace: what happened.
        like: of as many images, where the marks are to be.
    """
    found = [like.new_zeros(len(like), 0)]
    for site in marked:
        decision = trace.get(site.name)
        if decision is None:
            found.append(like.new_zeros(len(like), len(site.units)))
        else:
            found.append((decision.response[ENERGIES] if has_energies(site) else decision.open).to(like.dtype))
    return torch.cat(found, 1)
