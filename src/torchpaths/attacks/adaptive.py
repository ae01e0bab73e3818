"""``mimicry``: the attacker who knows that paths are watched, and has the image take a clean path of the class it is to
be taken for.

A detector that was only tried on attacks which do not know of it was hardly tried (Carlini and Wagner, "Adversarial
examples are not easily detected", 2017; Tramer et al., "On adaptive attacks to adversarial example defenses", 2020). So
PGD on

    cross-entropy(scores, target) + weight * gap(path, a clean path of the target)

where the gap of a unit that is opened by a score is ``softplus`` of that score towards the wrong side, whose gradient
does not vanish where the unit is shut fast, and that of a branch's energy its squared distance in standard deviations.
Where the image has no say about the path, and trust is put in answers along several paths instead, the gap is the
cross-entropy along those. Of all steps that are taken for the target, each image keeps the one whose path is nearest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from torchpaths.attacks.linf import check_counts, drawing_from, within
from torchpaths.attacks.pixels import Pixels, check_labels, check_strength, gradient
from torchpaths.errors import DataError
from torchpaths.path import Path
from torchpaths.places.channels.energy import ENERGIES
from torchpaths.trace import Site, Trace
from torchpaths.trust.answers import Answers, has_energies, marked_sites, marks_of
from torchpaths.trust.detectors import Known

LEAST_STEPS = 100

Where: TypeAlias = Literal["nearest", "middle"]
"""``nearest``: the path of the target's training image that is nearest to the image's own; ``middle``: the target's
mean path, to which it is enough to come half of the way."""


@dataclass(frozen=True)
class Aim:
    """What attacked images are to look like.

    Attributes:
        targets: the classes, long ``[image]``.
        marks: the clean paths, ``[image, mark]``, see `torchpaths.trust.answers.Answers.marks`.
        spread: by which differences are divided, ``[image, mark]``: of an energy by its standard deviation among
            training images of the target.
    """

    targets: Tensor
    marks: Tensor
    spread: Tensor

    @classmethod
    def at(cls, known: Known, clean: Answers, where: Where) -> Aim:
        """The likeliest class that an image is not, and a clean path of that class.

        Args:
            known: the training images.
            clean: the images before the attack, with their labels.
            where: which path, see `Where`.

        Raises:
            DataError: if there is no other class for which training images were taken.
        """
        logits = clean.logits.astype(np.float64)
        logits[np.arange(len(logits)), clean.labels] = -np.inf
        logits[:, known.unseen] = -np.inf
        if not np.isfinite(logits).any(1).all():
            raise DataError("no training image was taken for any other class than an image's own; give more of them.")
        targets = logits.argmax(1)
        marks = np.zeros(clean.marks.shape)
        for label in np.unique(targets):
            rows = np.flatnonzero(targets == label)
            if where == "nearest":
                marks[rows] = known.nearest_path(clean.only(rows), int(label))
            else:
                marks[rows] = np.where(clean.hard, known.means[label] > 0.5, known.means[label])
        spread = np.where(clean.hard, 1.0, known.spreads[targets])
        return cls(torch.from_numpy(targets), torch.from_numpy(marks).float(), torch.from_numpy(spread).float())

    def only(self, rows: slice) -> Aim:
        """Of some images."""
        return Aim(self.targets[rows], self.marks[rows], self.spread[rows])


def mimicry(
    pixels: Pixels,
    x: Tensor,
    aim: Aim,
    strength: float,
    *,
    weight: float,
    steps: int = LEAST_STEPS,
    others: Sequence[Path] = (),
    seed: int = 0,
) -> Tensor:
    """Attacked images, see above.

    Args:
        pixels: the network.
        x: images ``[batch, channel, height, width]`` of 0 to 1.
        aim: of the same images.
        strength: how far each pixel may be changed, scale 0 to 1.
        weight: lambda, at least 0.
        steps: how many, each as long as in `torchpaths.attacks.linf.pgd` of as many.
        others: paths along which answers are compared with the network's own.
        seed: of what gates draw and of the start, an image drawn evenly from those within the strength.

    Raises:
        DataError: for images or numbers out of range, or an aim of other images or another network.
        CallError: where no gradient comes through the network.
    """
    far = check_strength(strength)
    check_weight(weight)
    check_counts(steps)
    with torch.inference_mode(False), drawing_from(seed):
        x = pixels.checked(x)
        targets = check_labels(aim.targets, len(x), pixels.classes(x)).to(x.device)
        gap = _Gap(pixels, aim, others, x)
        by = far * 2.5 / steps
        best, nearest = x.clone(), x.new_full((len(x),), math.inf)
        now = within(x + far * (2 * torch.rand_like(x) - 1), x, far)
        for left in reversed(range(steps + 1)):
            with torch.enable_grad():
                now = now.detach().requires_grad_()
                scores, trace = pixels(now)
                pull, apart = gap(now, scores, trace, targets)
                total = (functional.cross_entropy(scores, targets, reduction="none") + weight * pull).sum()
            better = (scores.argmax(1) == targets) & (apart < nearest)
            best[better], nearest[better] = now.detach()[better], apart[better]
            if left:  # the last image is looked at, and stays
                now = within(now.detach() - by * gradient(total, now).sign(), x, far)
        return torch.where((nearest < math.inf).view(-1, 1, 1, 1), best, now.detach())


def check_weight(weight: float) -> None:
    """Raise `DataError` unless a distance can be multiplied by it."""
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not 0 <= weight < math.inf:
        raise DataError(f"weight {weight!r} of the distance to a path: a number of at least 0.")


class _Gap:
    """How far the path of an image is from the one it aims at."""

    def __init__(self, pixels: Pixels, aim: Aim, others: Sequence[Path], x: Tensor) -> None:
        self.pixels, self.others = pixels, others
        self.marked = marked_sites(pixels.net, pixels.path)
        self.wanted, self.spread = aim.marks.to(x), aim.spread.to(x)
        count = sum(len(site.units) for site in self.marked)
        if not self.wanted.shape == self.spread.shape == (len(x), count):
            raise DataError(f"an aim of {tuple(self.wanted.shape)} marks for {len(x)} images with {count} each.")

    def __call__(self, x: Tensor, scores: Tensor, trace: Trace, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What is made small, with a gradient, and what is left of the distance without, each ``[image]``."""
        pull, apart = scores.new_zeros(len(x)), scores.new_zeros(len(x))
        if self.marked:
            parts = torch.cat([self._of_site(site, trace, at) for site, at in self._columns()], 1)
            seen = marks_of(self.marked, trace, scores.detach())
            pull = pull + parts.mean(1)
            apart = apart + ((seen - self.wanted).abs() / self.spread).mean(1)
        for path in self.others:
            along, _ = self.pixels(x, path)
            pull = pull + functional.cross_entropy(along, targets, reduction="none") / len(self.others)
            own, other = scores.detach().log_softmax(1), along.detach().log_softmax(1)
            apart = apart + (own.exp() * (own - other)).sum(1) / len(self.others)
        return pull, apart

    def _columns(self) -> Iterator[tuple[Site, slice]]:
        start = 0
        for site in self.marked:
            yield site, slice(start, start + len(site.units))
            start += len(site.units)

    def _of_site(self, site: Site, trace: Trace, at: slice) -> Tensor:
        """``[image, unit]``."""
        wanted, decision = self.wanted[:, at], trace.get(site.name)
        if decision is None:  # a block around it is closed for all
            return wanted
        if has_energies(site):
            return ((decision.response[ENERGIES] - wanted) / self.spread[:, at]).square()
        if decision.score is None:
            return (decision.z - wanted).abs()
        assert site.decider is not None
        return functional.softplus((1 - 2 * wanted) * (decision.score - site.decider.threshold))
