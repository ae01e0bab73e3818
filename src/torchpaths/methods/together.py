"""``Together``: several methods on one network, each with sites of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from torchpaths.errors import RouteError
from torchpaths.methods.base import Losses, Mean, Method, Task, Terms
from torchpaths.path import Path
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.routed import Routed
from torchpaths.trace import Inputs, Trace


@dataclass(frozen=True)
class Together(Method):
    """Several methods; their order means nothing. ``route(model, [a, b])`` makes one.

    Attributes:
        methods: at most one of them runs the network its own way in training (`Method.passes`).

    Raises:
        RouteError: for none, two of one class, or two that run the network their own way.
    """

    methods: tuple[Method, ...]

    def __post_init__(self) -> None:
        wrong = [m for m in self.methods if not isinstance(m, Method)]
        if wrong or not self.methods:
            raise RouteError(
                f"methods={self.methods!r}: give methods, instances such as GatedBlocks(), or None for nobody."
            )
        names = [type(m).__name__ for m in self.methods]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise RouteError(f"{twice} is given twice; give it once, with sites= or a list of targets for its places.")
        own = [type(m).__name__ for m in self.methods if type(m).passes is not Method.passes]
        if len(own) > 1:
            raise RouteError(
                f"{' and '.join(own)} each run the network their own way in training, which one step cannot do; "
                "take one of them."
            )

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """See `Method.find`."""
        found: list[Plan] = []
        claimed: dict[str, str] = {}
        for method in self.methods:
            plans = method.find(model, example, residuals)
            for name in dict.fromkeys(site.name for plan in plans for site in plan.sites):
                first = claimed.setdefault(name, type(method).__name__)
                if first != type(method).__name__:
                    raise RouteError(
                        f"{first} and {type(method).__name__} both claim site {name!r}; take one of them, or leave the "
                        "site out of one."
                    )
            found += plans
        return found

    def heads(self, net: Routed, classes: int) -> nn.Module | None:
        """See `Method.heads`."""
        found = {type(m).__name__: m.heads(net, classes) for m in self.methods}
        own = {name: heads for name, heads in found.items() if heads is not None}
        return nn.ModuleDict(own) if own else None

    def terms(self, net: Routed, trace: Trace, y: Any, mean: Mean, heads: nn.Module | None) -> Losses:
        """See `Method.terms`; where two methods have terms of one name, they bear the method's too."""
        found: Losses = {}
        for method in self.methods:
            name = type(method).__name__
            own = heads[name] if isinstance(heads, nn.ModuleDict) and name in heads else None
            terms = method.terms(net, trace, y, lambda term, local, of=name: mean(f"{of}.{term}", local), own)
            found |= {f"{name}.{term}" if term in found else term: loss for term, loss in terms.items()}
        return found

    def passes(self, net: Routed, x: Tensor, y: Any, task: Task, terms: Terms) -> Iterator[Losses]:
        """Those of the method that runs the network its own way, else one pass. See `Method.passes`."""
        leader = next((m for m in self.methods if type(m).passes is not Method.passes), None)
        yield from super().passes(net, x, y, task, terms) if leader is None else leader.passes(net, x, y, task, terms)

    def paths(self, net: Routed) -> dict[str, Path]:
        """See `Method.paths`."""
        return {name: path for method in self.methods for name, path in method.paths(net).items()}
