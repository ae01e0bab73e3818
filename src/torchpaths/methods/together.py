"""``Together``: several methods on one network, each with sites of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
        methods: at most one of them runs the network its own way in training (`Method.passes`). Kept in the order of
            their names, so that whatever is drawn, summed or written down is the same for any order they are given in.

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
        apart = [one for m in self.methods for one in (m.methods if isinstance(m, Together) else (m,))]
        object.__setattr__(self, "methods", tuple(sorted(apart, key=lambda m: type(m).__name__)))
        names = list(self.names)
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise RouteError(f"{twice} is given twice; give it once, with sites= or a list of targets for its places.")
        own = [type(m).__name__ for m in self.methods if type(m).passes is not Method.passes]
        if len(own) > 1:
            raise RouteError(
                f"{' and '.join(own)} each run the network their own way in training, which one step cannot do; "
                "take one of them."
            )

    @property
    def names(self) -> tuple[str, ...]:
        """See `Method`."""
        return tuple(type(m).__name__ for m in self.methods)

    @property
    def headed(self) -> bool:
        """See `Method`."""
        return any(m.headed for m in self.methods)

    @property
    def labelling(self) -> tuple[str, ...]:
        """See `Method`."""
        return tuple(name for m in self.methods for name in m.labelling)

    @property
    def weights(self) -> dict[str, float]:
        """See `Method.weights`."""
        return {name: weight for m in self.methods for name, weight in m.weights.items()}

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """What all of them want. A block that one leaves always open is another's to decide. See `Method.find`.

        Raises:
            RouteError: also where two decide at one site.
        """
        places: dict[tuple[object, ...], tuple[str, Plan]] = {}
        for method in self.methods:
            name = type(method).__name__
            for plan in method.find(model, example, residuals):
                place = (plan.module, plan.level, *(site.name for site in plan.sites))
                if place not in places or _open(places[place][1]):
                    places[place] = name, plan
                elif not _open(plan):
                    raise _both(places[place][0], name, plan.sites[0].name)
        claimed: dict[str, str] = {}
        for name, plan in places.values():
            for site in plan.sites:
                if claimed.setdefault(site.name, name) != name:
                    raise _both(claimed[site.name], name, site.name)
        return [plan for _, plan in places.values()]

    def heads(self, net: Routed, classes: int) -> nn.Module | None:
        """See `Method.heads`."""
        found = {type(m).__name__: m.heads(net, classes) for m in self.methods}
        own = {name: heads for name, heads in found.items() if heads is not None}
        return nn.ModuleDict(own) if own else None

    @property
    def unlabelled(self) -> str:
        """See `Method`."""
        return "; ".join(dict.fromkeys(m.unlabelled for m in self.methods if type(m).labelled is not Method.labelled))

    def labelled(self, net: Routed, heads: nn.Module | None) -> int | None:
        """See `Method.labelled`."""
        found = [m.labelled(net, _part(heads, m)) for m in self.methods]
        return min((count for count in found if count is not None), default=None)

    def terms(self, net: Routed, trace: Trace, y: Any, mean: Mean, heads: nn.Module | None) -> Losses:
        """See `Method.terms`; where two methods have terms of one name, they bear the method's too."""
        found: Losses = {}
        for method in self.methods:
            name = type(method).__name__
            own = _part(heads, method)
            terms = method.terms(net, trace, y, lambda term, local, of=name: mean(f"{of}.{term}", local), own)
            found |= {f"{name}.{term}" if term in found else term: loss for term, loss in terms.items()}
        return found

    def passes(self, net: Routed, x: Tensor, y: Any, task: Task, terms: Terms) -> Iterator[Losses]:
        """Those of the method that runs the network its own way, else one pass. See `Method.passes`."""
        leader = next((m for m in self.methods if type(m).passes is not Method.passes), None)
        yield from super().passes(net, x, y, task, terms) if leader is None else leader.passes(net, x, y, task, terms)

    def path_of(self, net: Routed, classes: Sequence[int]) -> Path:
        """That of the method that has one, everything else open. See `Method.path_of`."""
        own = next((m for m in self.methods if type(m).path_of is not Method.path_of), self.methods[0])
        return own.path_of(net, classes) & Path.full(net)

    def target_rates(self, net: Routed) -> dict[str, float]:
        """Those of all. See `Method.target_rates`."""
        return {site: rate for method in self.methods for site, rate in method.target_rates(net).items()}

    def paths(self, net: Routed) -> dict[str, Path]:
        """See `Method.paths`."""
        return {name: path for method in self.methods for name, path in method.paths(net).items()}


def _part(heads: nn.Module | None, method: Method) -> nn.Module | None:
    """One method's own of what `Together.heads` gave."""
    name = type(method).__name__
    return heads[name] if isinstance(heads, nn.ModuleDict) and name in heads else None


def _open(plan: Plan) -> bool:
    """Whether nobody decides there."""
    return all(site.decider is None for site in plan.sites)


def _both(first: str, second: str, site: str) -> RouteError:
    return RouteError(
        f"{first} and {second} both decide at site {site!r}; take one of them, or have one leave the site always open "
        "(a target or rate of 1, or sites= without it)."
    )
