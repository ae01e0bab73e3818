"""``Code``: branches that work for classes given from outside (CodedPaths), dropped by chance in training."""

from __future__ import annotations

import torch
from torch import Tensor

from torchpaths.errors import RouteError
from torchpaths.path import Bools
from torchpaths.trace import Decider, Decision


class Code(Decider):
    """Looks at nothing and closes nothing: which branches work for which class is in the weights, and paths say it.

    In training it drops branches (dropSubNNs; Coded ResNeXt, section 3.1.3): each with the same probability, for each
    image by itself, and what is kept is scaled by ``1 / (1 - drop)``. That is ``z``; a dropped branch is open, as its
    energy counts. Consecutive blocks of one coding scheme drop the same branches: all but the first repeat what the one
    before did.

    Attributes:
        words: the codewords, bool ``[class, unit]``. Known before training, so no part of the state.
        drop: probability.
    """

    words: Tensor
    looks = False

    def __init__(self, words: Tensor, drop: float = 0.0, reads: str | None = None) -> None:
        """
        Args:
            words: see above; as many ones in each.
            drop: see above, in [0, 1).
            reads: the site before that drops the same branches; None where this one draws.

        Raises:
            RouteError: for a probability out of range.
        """
        super().__init__()
        if not 0 <= drop < 1:
            raise RouteError(f"drop={drop!r}: the probability of dropping a branch is at least 0 and below 1.")
        self.register_buffer("words", words, persistent=False)
        self.drop = drop
        self.reads = reads

    @property
    def units(self) -> int:
        """Branches of its site, N."""
        return self.words.shape[1]

    @property
    def active(self) -> int:
        """How many of them work for each class."""
        return int(self.words[0].sum())

    @property
    def constant(self) -> Bools:  # type: ignore[override]
        """See `Decider.constant`: everything is open."""
        return (True,) * self.units

    @property
    def disturbed(self) -> bool:  # type: ignore[override]
        """See `Decider.disturbed`: nothing is dropped in evaluation."""
        return self.training and self.drop > 0

    def forward(self, features: Tensor, before: Decision | None = None) -> Decision:
        """
        Args:
            features: ``[batch, 0]``.
            before: what the site that it repeats decided, for the same images. Where a path closed a branch there,
                nothing is dropped here.
        """
        size = features.shape[0], self.units
        opened = torch.ones(size, dtype=torch.bool, device=features.device)
        if before is not None:
            return Decision(opened, torch.where(before.open, before.z, 1.0))
        kept = torch.rand(size, device=features.device) >= self.drop
        return Decision(opened, kept.float() / (1 - self.drop))

    def __repr__(self) -> str:
        dropped = f", drop {self.drop:g}" if self.drop else ""
        return f"Code({self.active} of {self.units}{dropped})"
