"""Fixed: blocks that are closed for good, the same for every image. The honest control for everything that decides.

A network trained along one path is what every method that looks at images has to beat at equal cost. With gates or
filters beside it, these decide about what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from torchpaths.deciders.switch import Switch
from torchpaths.errors import RouteError
from torchpaths.methods.base import Method
from torchpaths.methods.blocks import plan_blocks
from torchpaths.places.names import match
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.trace import Decider, Inputs


@dataclass(frozen=True)
class Fixed(Method):
    """Residual blocks that never run.

    Attributes:
        closed: names or regular expressions of the sites to close; the others stay open, unless another method decides
            there. `torchpaths.shrink` chooses them.
    """

    closed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.closed, str):
            raise RouteError(f"closed={self.closed!r}: give a list of names or patterns, closed=({self.closed!r},).")

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """A closed `Switch` at every residual sum that is closed.

        Raises:
            RouteError: also for a pattern that matches no block.
        """

        def decide(names: list[str], widths: list[int]) -> list[Decider | None]:
            closed = {name for pattern in self.closed for name in match(pattern, names, "site")}
            return [Switch.shut() if name in closed else None for name in names]

        return plan_blocks(model, example, residuals, decide)
