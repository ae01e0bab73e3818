"""How far apart a norm's two versions are (AdaptiveDepth, fig. 3b).

If leaving out the rest of a stage hardly changes what the stage hands on, then the first norm of the next stage sees
the same distribution at every depth, and its two running means lie close together; inside a stage they need not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from torchpaths.errors import RouteError
from torchpaths.junction import junctions
from torchpaths.places.stages.switch import Doubled
from torchpaths.routed import Routed


@dataclass(frozen=True)
class NormDistance:
    """A norm with two versions.

    Attributes:
        site: whose unit chooses between them.
        norm: its name in the model.
        distance: mean over channels of the distance of the running means, in standard deviations of the open version.
    """

    site: str
    norm: str
    distance: float


def norm_distances(net: Routed) -> tuple[NormDistance, ...]:
    """The distances of all batch norms with two versions, in order of execution.

    Raises:
        RouteError: if there is none: norms that keep no running statistics (layer norms) have no distance.
    """
    order = {name: i for i, name in enumerate(net.sites)}
    found = []
    for name, junction in junctions(net.model):
        place = junction._place
        if isinstance(place, Doubled) and place.block._buffers.get("running_mean") is not None:
            own, other = place.block, place.skipped
            with torch.no_grad():
                deviation = (own.running_var + own.eps).sqrt()  # type: ignore[operator]
                distance = ((own.running_mean - other.running_mean).abs() / deviation).mean()  # type: ignore[operator]
            found.append(NormDistance(place.sites[0].name, name, float(distance)))
    if not found:
        raise RouteError(
            f"{net.layout.network} has no batch norm with two versions; layer norms keep no statistics to compare."
        )
    return tuple(sorted(found, key=lambda entry: order[entry.site]))
