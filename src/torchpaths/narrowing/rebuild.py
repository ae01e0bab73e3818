"""``rebuild``: a network of which filters are removed, routed again.

Routing the smaller model with the same method finds the same sites, with fewer units, and new deciders; the old ones,
narrowed, take their place. So layout, costs, laws and everything downstream are those of any routed network.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from torchpaths.deciders.filters import FilterGate
from torchpaths.errors import RouteError
from torchpaths.extraction import noise
from torchpaths.junction import junctions
from torchpaths.methods.base import Method
from torchpaths.methods.blocks import plan_blocks
from torchpaths.methods.together import Together
from torchpaths.narrowing.bare import bare, kept_numbers, without
from torchpaths.narrowing.left import Left
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.routed import Routed
from torchpaths.routing import route
from torchpaths.trace import Decider, Inputs, Site


def rebuild(
    net: Routed,
    left: Mapping[str, Left],
    method: Method | Sequence[Method] | None,
    *,
    example: Inputs | None = None,
    residuals: ByHand | None = None,
) -> Routed:
    """A network of its own without the filters that are removed, with ``net``'s weights, deciders and modes.

    Args:
        net: is not changed.
        left: what is left of its sites of filters; sites that are not named keep everything.
        method: with which ``net`` was routed.
        example: as for `route`; None for two images of noise of ``net.example_shape``.
        residuals: with which ``net`` was routed.

    Raises:
        RouteError: if something cannot be narrowed, see `narrow`.
    """
    if isinstance(method, Sequence) and not isinstance(method, str):
        method = Together(tuple(method))
    if not isinstance(method, Method | None):
        raise RouteError(f"method={method!r}: give the method with which the network was routed, or a list of several.")
    for name, site in left.items():
        units = len(net.sites[name].units) if name in net.sites else 0
        if units != site.of:
            raise RouteError(f"what is left of {site.of} filters at {name!r}, where {net.layout.network} has {units}.")
    deciders = _deciders(net, left)
    again = _Again(method, deciders, net)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what layers keep all their filters was said when it was routed first
        made = route(bare(net, left), again, example=noise(net) if example is None else example, residuals=residuals)
    _carry(net, made, left)
    return made


@dataclass(frozen=True)
class _Again(Method):
    """A method whose places are those of another, with deciders that are there already.

    Attributes:
        method: the other one; None for nobody.
        deciders: site -> who decides there.
        net: the network in which they did.
    """

    method: Method | None
    deciders: Mapping[str, Decider | None]
    net: Routed

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """See `Method.find`.

        Raises:
            RouteError: if the method finds other sites, or a decider does not fit its site.
        """
        if self.method is None:
            plans = plan_blocks(model, example, residuals)
        else:
            plans = self.method.find(model, example, residuals)
        sites = {site.name: site for plan in plans for site in plan.sites}
        if sites.keys() != self.deciders.keys():
            wrong = sorted(sites.keys() ^ self.deciders.keys())
            raise RouteError(
                f"routed again without its silent filters, {self.net.layout.network} has other sites "
                f"({', '.join(wrong[:3])}); give the method, or methods, and residuals= with which it was routed."
            )
        for name, site in sites.items():
            decider = self.deciders[name]
            _check_fits(site, decider)
            site.decider = decider
        return plans


def _deciders(net: Routed, left: Mapping[str, Left]) -> dict[str, Decider | None]:
    """Who decides at each site from now on.

    Raises:
        RouteError: for a decider that cannot be narrowed.
    """
    columns = {name: kept for name, (_, kept) in kept_numbers(net, left).items()}
    return {name: _decider(site, left.get(name), columns.get(site.modules[0])) for name, site in net.sites.items()}


def _decider(site: Site, left: Left | None, columns: list[int] | None) -> Decider | None:
    """Who decides at a site from now on.

    Args:
        site: of the network so far.
        left: what is left of its filters; None for another site.
        columns: which channels are left of those that its producer reads; None for all.
    """
    decider = site.decider
    narrows = columns is not None or (left is not None and (len(left.units) < left.of or left.gated != left.units))
    if decider is None or (left is not None and not left.gated):
        return None
    if not narrows:
        return copy.deepcopy(decider)
    if not isinstance(decider, FilterGate):
        raise RouteError(
            f"site {site.name!r}: its {type(decider).__name__} cannot be narrowed, only the gates of GatedFilters can; "
            "leave the site and those that feed it as they are."
        )
    channels = range(decider.fc1.in_features) if columns is None else columns
    units, gated = (range(decider.filters),) * 2 if left is None else (left.units, left.gated)
    return decider.narrowed(channels, units, gated)


def _check_fits(site: Site, decider: Decider | None) -> None:
    """Raise unless a decider looks at what a site's new one would, and decides about as many units."""
    new = site.decider
    if decider is None or new is None:
        return
    if isinstance(decider, FilterGate) and isinstance(new, FilterGate):
        mine, wanted = ((g.fc1.in_features, g.filters) for g in (decider, new))
        same = mine == wanted
    else:
        same = _shapes(decider) == _shapes(new)
    if not same:
        raise RouteError(
            f"site {site.name!r}: its decider {decider!r} looks at channels some of which are removed, and decided by "
            "them until now; keep the filters of the layers in front of it."
        )


def _shapes(decider: Decider) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in decider.state_dict().items()}


def _carry(net: Routed, made: Routed, left: Mapping[str, Left]) -> None:
    """Give places that have modules of their own, such as second norms, those of ``net``, narrowed."""
    before = [(name, j) for name, j in junctions(net.model) if j._place.more]
    after = [j for _, j in junctions(made.model) if j._place.more]
    for (_, old), new in zip(before, after, strict=True):
        for name, module in old._place.more.items():
            held = nn.ModuleList([copy.deepcopy(module, {id(site): site for site in net.sites.values()})])
            state: dict[str, Tensor] = without(held, left)[0].state_dict()  # type: ignore[index]
            new._place.more[name].load_state_dict(state)
