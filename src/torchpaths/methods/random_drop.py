"""RandomDrop: blocks left out by chance, the control for gates. Stochastic depth (Huang et al., 2016) that keeps on
dropping.

It opens each block with a fixed probability for each image, in training and in evaluation, so it executes as much as a
gated network of the same rates and knows nothing of the image. What a gated network gains over it is what looking is
worth.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from torchpaths.deciders.chance import Chance
from torchpaths.errors import BudgetError, RouteError
from torchpaths.methods.base import Method
from torchpaths.methods.blocks import plan_blocks
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.trace import Decider, Inputs


@dataclass(frozen=True)
class RandomDrop(Method):
    """Residual blocks that open by chance.

    Attributes:
        rates: probability of being open, in (0, 1]: one for all, or one for each site in order of execution.
    """

    rates: float | tuple[float, ...] = 0.75

    def __post_init__(self) -> None:
        rates = self.rates if isinstance(self.rates, tuple) else (self.rates,)
        if not rates or not all(0 < r <= 1 for r in rates):
            raise BudgetError(f"RandomDrop(rates={self.rates!r}): a rate lies in (0, 1].")

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """A `Chance` before every residual sum whose rate is below 1. See `Method.find`."""

        def decide(names: list[str], widths: list[int]) -> list[Decider | None]:
            rates = self.rates if isinstance(self.rates, tuple) else (self.rates,) * len(names)
            if len(rates) != len(names):
                raise RouteError(
                    f"RandomDrop has {len(rates)} rates, the model {len(names)} blocks; give one rate for each."
                )
            return [Chance(rate) if rate < 1 else None for rate in rates]

        return plan_blocks(model, example, residuals, decide)
