"""GatedFilters: "Dynamic Neural Network Decoupling" (Li et al., 2019; ECCV 2020 as "Interpretable Neural Network
Decoupling").

Before each convolution but the first a small module looks at its pooled input and decides for each image which filters
run. Beside the task's loss stand three (eq. 21): the mutual information of the decisions with the class (eq. 12, by a
linear class head for each layer), the divergence between decisions and what the filters give (eq. 13), so that a filter
gives something where it is open, and the number of open filters (eq. 20).

Sums over layers are as in the paper and in the authors' code, means over images as in the latter, since the paper's
equations are for one image. What the paper leaves open is named: both sides of the divergence are made distributions by
a softmax over filters, and with the paper's weight of 1 it is divided by the number of filters (the authors' code,
``F.kl_div``'s mean over all elements); without that it is 16 to 512 times stronger. Left out, since the paper has
neither: the authors' group term over the batch in ResNet-56, and their 0.3 for the shortcut convolutions of ResNet-18.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.deciders.filters import FilterGate, Mixing
from torchpaths.errors import RouteError
from torchpaths.methods.base import Losses, Mean, Method, running
from torchpaths.places.channels.filters import KIND, find_filters, plan_filters
from torchpaths.places.channels.layer import FEATURES
from torchpaths.places.names import check_sites
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.routed import Routed
from torchpaths.trace import Inputs, Trace

Divergence = Literal["encoding", "features"]
PerFilter = Literal["mean", "sum"]


@dataclass(frozen=True)
class GatedFilters(Method):
    """Gates that decide for each image which filters of a layer run.

    Attributes:
        mutual: weight of the mutual-information loss, lambda_m (Table 4).
        kl: weight of the divergence, lambda_k (section 4.5).
        sparse: weight of the number of open filters, lambda_s (Table 4): the larger, the fewer.
        sites: names or regular expressions of the layers; None: every convolution but the first, and the first layer of
            a transformer's MLPs.
        squeeze: by how much a gate's hidden layer is narrower than its input.
        mixing: for what it is drawn whether decisions are soft or hard in training, see `Mixing`.
        multiple: in evaluation a multiple of so many filters opens; 1 in the paper. Processors compute 8 or 16 at a
            time, so that this costs MACs and no time.
        divergence: ``"encoding"``: KL(z | y), the paper's order; ``"features"``: KL(y | z), the authors' code for
            ResNet-56, ResNet-18 and GoogLeNet.
        reduction: of the divergence over filters: ``"mean"`` (the authors' code) or ``"sum"``, which is a divergence.

    Raises:
        RouteError: for values out of range.
    """

    mutual: float = 0.005
    kl: float = 1.0
    sparse: float = 1e-4
    sites: tuple[str, ...] | None = None
    squeeze: int = 4
    mixing: Mixing = "image"
    multiple: int = 1
    divergence: Divergence = "encoding"
    reduction: PerFilter = "mean"

    def __post_init__(self) -> None:
        for name in ("mutual", "kl", "sparse"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise RouteError(f"{name}={value!r}: the weight of a loss is a number of at least 0.")
        for name in ("squeeze", "multiple"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise RouteError(f"{name}={value!r}: a whole number of at least 1.")
        choices: tuple[tuple[str, Any], ...] = (
            ("mixing", Mixing),
            ("divergence", Divergence),
            ("reduction", PerFilter),
        )
        for name, kinds in choices:
            if getattr(self, name) not in get_args(kinds):
                raise RouteError(f"{name}={getattr(self, name)!r}; choose one of {', '.join(get_args(kinds))}.")
        check_sites(self.sites)

    @property
    def headed(self) -> bool:
        """See `Method`: class heads, for the mutual-information loss."""
        return self.mutual > 0

    @property
    def unlabelled(self) -> str:
        """See `Method`."""
        return "GatedFilters(mutual=0) leaves out the class heads, the one loss of its that needs classes"

    @property
    def weights(self) -> dict[str, float]:
        """See `Method.weights`: lambda_m, lambda_k and lambda_s."""
        return {"mutual": self.mutual, "kl": self.kl, "sparse": self.sparse}

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """A gate before every layer. See `Method.find`.

        Raises:
            RouteError: if no layer has filters that can be closed, or a pattern matches nothing.
        """
        search = find_filters(model, example, self.sites)
        knobs = self.squeeze, self.mixing, self.multiple
        gates = {f.name: FilterGate(f.inputs, f.units, *knobs) for f in search.layers}
        return plan_filters(model, search, gates, notes=self.kl > 0)

    def heads(self, net: Routed, classes: int) -> nn.Module | None:
        """``Q`` of eq. 12, one linear layer without bias for each site. See `Method.heads`."""
        if not self.mutual:
            return None
        made = nn.ModuleDict()
        # Past ModuleDict's own check of names: a layer may well be called "keys".
        made._modules.update(
            {name.replace(".", "/"): nn.Linear(len(net.sites[name].units), classes, bias=False) for name in _own(net)}
        )
        return made

    def labelled(self, net: Routed, heads: nn.Module | None) -> int | None:
        """See `Method.labelled`: as many as the heads tell apart."""
        return None if heads is None else next((len(weight) for weight in heads.parameters()), None)

    def terms(self, net: Routed, trace: Trace, y: Any, mean: Mean, heads: nn.Module | None) -> Losses:
        """Eq. 12, 13 and 20 with their weights, sums over layers; an image that did not come to a layer adds nothing.
        See `Method.terms`."""
        names = [name for name in _own(net) if name in trace]
        came = {name: running(net, trace, name) for name in names}
        losses: Losses = {}

        def add(term: str, weight: float, of: Callable[[str], Tensor]) -> None:
            if weight and names:
                parts = [_averaged(of(name), came[name]) for name in names]
                losses[term] = weight * torch.stack(parts).sum()

        if heads is not None:
            heads_of: Any = heads._modules
            add("mutual", self.mutual, lambda n: mutual_loss(heads_of[n.replace(".", "/")], trace[n].z, y))
        add("kl", self.kl, lambda n: self._divergence(trace[n].z, trace[n].response[FEATURES]))
        add("sparse", self.sparse, lambda n: sparse_loss(trace[n].z))
        return losses

    def _divergence(self, z: Tensor, features: Tensor) -> Tensor:
        found = divergence(z, features) if self.divergence == "encoding" else divergence(features, z)
        return found / z.shape[1] if self.reduction == "mean" else found


def _own(net: Routed) -> list[str]:
    """The sites at which filters are decided: what is always open teaches nothing."""
    return [name for name, site in net.sites.items() if site.kind == KIND and site.decider is not None]


def _averaged(values: Tensor, came: Tensor | None) -> Tensor:
    """The mean over images, those that did not come counting as 0."""
    return values.mean() if came is None else (values * came).mean()


def mutual_loss(head: nn.Module, z: Tensor, y: Tensor) -> Tensor:
    """Eq. 12 of one layer for each image: the cross-entropy of the class head on the decisions.

    Args:
        head: ``[B, N] -> [B, K]``.
        z: decisions ``[B, N]``.
        y: labels ``[B]``; those of -100 count as 0.

    Returns:
        ``[B]``.
    """
    weight = next(head.parameters())
    with torch.autocast(z.device.type, enabled=False):
        return functional.cross_entropy(head(z.to(weight.dtype)).float(), y.long(), reduction="none")


def divergence(p: Tensor, q: Tensor) -> Tensor:
    """Eq. 13 of one layer for each image: ``KL(softmax(p) | softmax(q))`` over filters.

    Args:
        p: ``[B, N]``.
        q: ``[B, N]``.

    Returns:
        ``[B]``; a gradient reaches both.
    """
    a, b = p.float().log_softmax(1), q.float().log_softmax(1)
    return (a.exp() * (a - b)).sum(1)


def sparse_loss(z: Tensor) -> Tensor:
    """Eq. 20 of one layer for each image, ``|z|_1``.

    Args:
        z: decisions ``[B, N]``.

    Returns:
        ``[B]``.
    """
    return z.abs().sum(1)
