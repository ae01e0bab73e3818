"""Several networks trained with different weights of the losses (network decoupling, section 4.5, table 4, figure 8):
what lambda_m and lambda_s do to filters, MACs and accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torchpaths.filtering.states import filter_states
from torchpaths.surveys import Survey


@dataclass(frozen=True)
class Trained:
    """One network, a row of table 4.

    Attributes:
        name: of it.
        sparse: lambda_s, the weight of the number of open filters.
        mutual: lambda_m, of the mutual-information loss.
        kl: lambda_k, of the divergence.
        macs: of one image, the mean, gates included.
        accuracy: top-1, 0 to 1.
        active: share of active filters, 0 to 1; likewise ``dynamic`` and ``silent``.
        dynamic: see there.
        silent: see there.
        images: on how many it was measured.
    """

    name: str
    sparse: float
    mutual: float
    kl: float
    macs: float
    accuracy: float
    active: float
    dynamic: float
    silent: float
    images: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values; shares that are not known are None."""
        return {name: None if value != value else value for name, value in vars(self).items()}


def trained(survey: Survey, *, sparse: float, mutual: float, kl: float = 1.0, name: str = "") -> Trained:
    """A row from a survey of the network.

    Args:
        survey: of one network over the images that all are measured on.
        sparse: see `Trained`.
        mutual: likewise.
        kl: likewise.
        name: of the network; by default the survey's.

    Raises:
        RouteError: for a network without filters.
        DataError: for a survey that cannot say which images came to a layer.
    """
    shares = filter_states(survey).shares
    return Trained(
        name or survey.name,
        sparse,
        mutual,
        kl,
        survey.macs,
        survey.accuracy,
        shares["active"],
        shares["dynamic"],
        shares["silent"],
        int(survey.images.sum()),
    )


def ordered(rows: list[Trained]) -> list[Trained]:
    """As in table 4: by lambda_s, then lambda_m."""
    return sorted(rows, key=lambda row: (row.sparse, row.mutual, row.kl, row.name))
