"""Branches: a plain ResNeXt whose branches can be removed by hand, the control for CodedPaths.

Avranas and Kountouris (NeurIPS 2022, section 4.3) ask whether classifiers of single classes can be cut out of any
ResNeXt, or only out of one that was trained for it. So the plain network's branches need places too: with nobody who
decides, no loss and, unlike in a coded network, no normalisation, which the plain network was not trained with.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from torchpaths.errors import RouteError
from torchpaths.methods.base import Method
from torchpaths.places.channels.branches import find_branches, plan_branches
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.trace import Inputs


@dataclass(frozen=True)
class Branches(Method):
    """Every block's branches, open unless a path closes them. With all open the network is the original bit for bit.

    Sites bear the names that they have under `CodedPaths`, so a class's path there is one here too.

    Attributes:
        branches: into how many each block's channels are grouped; None: as many as its convolution has groups.

    Raises:
        RouteError: for less than 2.
    """

    branches: int | None = None

    def __post_init__(self) -> None:
        value = 2 if self.branches is None else self.branches
        if isinstance(value, bool) or not isinstance(value, int) or value < 2:
            raise RouteError(f"branches={self.branches!r}: a whole number of at least 2.")

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """See `Method.find`.

        Raises:
            RouteError: for a model without branches.
        """
        search = find_branches(model, example, self.branches)
        return plan_branches(model, search, [(block, None) for block in search.blocks], normalised=False)
