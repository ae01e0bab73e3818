"""Filters: any network whose filters can be closed by hand, the control for GatedFilters and the plain network of its
runs.

With nobody who decides and no loss, and with all open the network is the original bit for bit: for networks without
residual blocks, such as VGG, this is what can be routed of the plain one; and a static choice of filters, by whatever
rule, is a path of it that `torchpaths.extract` cuts out.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from torchpaths.methods.base import Method
from torchpaths.places.channels.filters import find_filters, plan_filters
from torchpaths.places.names import check_sites
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.trace import Inputs


@dataclass(frozen=True)
class Filters(Method):
    """Every layer's filters, open unless a path closes them. Sites bear the names that they have under `GatedFilters`.

    Attributes:
        sites: names or regular expressions of the layers; None: those that `GatedFilters` takes.

    Raises:
        RouteError: where they are no list of texts.
    """

    sites: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_sites(self.sites)

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """See `Method.find`.

        Raises:
            RouteError: if no layer has filters that can be closed, or a pattern matches nothing.
        """
        search = find_filters(model, example, self.sites)
        return plan_filters(model, search, dict.fromkeys((f.name for f in search.layers), None))
