"""GatedBlocks: convolutional networks with adaptive inference graphs (Veit and Belongie, ECCV 2018).

A gate before each residual block looks at the block's input and decides for each image whether the block runs (Eq. 3 to
8). Beside the task's loss stands the target-rate loss (Eq. 9): the squared distance of each block's execution rate over
the mini-batch from its target, ``sum_l (mean z_l - t_l)^2``.

The paper sums over blocks with weight 1; the authors' code averages over blocks (those with target 1 count in the
divisor only) with weight 2 on CIFAR and 1 on ImageNet. Both are here. Where the authors' code still samples gates whose
target is 1, ours are really open: they have no gate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from torchpaths.budget import Budget
from torchpaths.deciders.gate import Gate, Inference
from torchpaths.deciders.switch import Switch
from torchpaths.errors import BudgetError, RouteError, near
from torchpaths.methods.base import Losses, Mean, Method, running
from torchpaths.methods.blocks import plan_blocks
from torchpaths.places.names import match
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.routed import Routed
from torchpaths.trace import Decider, Inputs, Trace

_T = None  # stands for the budget's rate in a schedule
SCHEDULES: dict[str, tuple[float | None, ...]] = {
    "resnet50": (1, 1, 0.8, 1, _T, _T, _T, 1, _T, _T, _T, _T, _T, 1, 0.7, 1),
    "resnet101": (1,) * 8 + (_T,) * 25,
}
"""Target rates by block that the paper's ImageNet figures were made with (the authors' README)."""


@dataclass(frozen=True)
class GatedBlocks(Method):
    """Gates that decide for each image which residual blocks run.

    Attributes:
        budget: target rate ``t``, ``Budget(open=t)``.
        targets: ``"uniform"`` (every block t), the name of one of the paper's schedules (``"resnet50"``,
            ``"resnet101"``), or a rate in [0, 1] for each site in order of execution. A target of 1 means no gate:
            always open; a target of 0, no gate: closed for good (ours, as `Fixed`).
        sites: names or regular expressions of the sites to gate; the others stay open. None for all.
        hidden: width d of a gate's hidden layer.
        norm: BatchNorm in the gate (in the authors' code, not in the paper).
        reduction: ``"sum"`` over blocks (Eq. 9) or ``"mean"`` (the authors' code; pair it with their weight).
        weight: factor of the target-rate loss.
        start: probability with which each gate opens its block before training, in (0, 1); ``"target"``: its target
            rate (ours). None: the paper's 0.87.
        inference: what gates do in evaluation, see `Inference`.
    """

    budget: Budget = field(default_factory=lambda: Budget(open=0.6))
    targets: str | tuple[float, ...] = "uniform"
    sites: tuple[str, ...] | None = None
    hidden: int = 16
    norm: bool = True
    reduction: Literal["sum", "mean"] = "sum"
    weight: float = 1.0
    start: float | Literal["target"] | None = None
    inference: Inference = "argmax"

    def __post_init__(self) -> None:
        if not isinstance(self.budget, Budget) or self.budget.open is None:
            raise BudgetError(
                f"GatedBlocks trains towards a rate of open blocks, got {self.budget!r}; write "
                "GatedBlocks(budget=Budget(open=0.6)). MACs and milliseconds are budgets of Front.best and shrink."
            )
        if isinstance(self.targets, str):
            if self.targets != "uniform" and self.targets not in SCHEDULES:
                raise RouteError(
                    f"targets={self.targets!r} is no schedule. {near(self.targets, ['uniform', *SCHEDULES])}"
                )
        elif not self.targets or not all(0 <= t <= 1 for t in self.targets):
            raise BudgetError(f"targets={self.targets!r}: a target rate lies in [0, 1].")
        if self.reduction not in ("sum", "mean"):
            raise RouteError(f"reduction={self.reduction!r}; choose 'sum' (the paper) or 'mean' (the authors' code).")
        if self.inference not in get_args(Inference):
            raise RouteError(f"inference={self.inference!r}; choose one of {', '.join(get_args(Inference))}.")
        if isinstance(self.hidden, bool) or not isinstance(self.hidden, int) or self.hidden < 1:
            raise RouteError(
                f"hidden={self.hidden!r}: a gate's hidden layer has a whole number of channels, at least 1."
            )
        if self.start not in (None, "target") and not (isinstance(self.start, float) and 0 < self.start < 1):
            raise RouteError(f"start={self.start!r}; choose a probability above 0 and below 1, 'target' or None.")
        if not (isinstance(self.weight, (int, float)) and 0 <= self.weight < float("inf")):
            raise RouteError(f"weight={self.weight!r}: the weight of a loss is a number of at least 0.")

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """A gate before every residual sum whose target is below 1 and above 0. See `Method.find`."""

        def decide(names: list[str], widths: list[int]) -> list[Decider | None]:
            return [self._decider(width, rate) for width, rate in zip(widths, self.rates(names), strict=True)]

        return plan_blocks(model, example, residuals, decide)

    def _decider(self, width: int, rate: float) -> Decider | None:
        if rate == 1:
            return None
        if rate == 0:
            return Switch.shut()
        start = rate if self.start == "target" else self.start
        return Gate(width, self.hidden, self.norm, self.inference, start)

    def rates(self, names: list[str]) -> list[float]:
        """The target rate of each site.

        Args:
            names: all sites, in order of execution.

        Raises:
            RouteError: if a schedule or list has another length, or ``sites`` holds a pattern that matches nothing.
        """
        assert self.budget.open is not None
        t = self.budget.open
        if self.targets == "uniform":
            rates = [t] * len(names)
        else:
            given = SCHEDULES[self.targets] if isinstance(self.targets, str) else self.targets
            if len(given) != len(names):
                raise RouteError(
                    f"targets={self.targets!r} is for {len(given)} blocks, the model has {len(names)} "
                    f"({names[0]} ... {names[-1]}); give one rate for each."
                )
            rates = [t if rate is None else rate for rate in given]
        if self.sites is None:
            return rates
        chosen = {name for pattern in self.sites for name in match(pattern, names, "site")}
        return [rate if name in chosen else 1.0 for name, rate in zip(names, rates, strict=True)]

    def target_rates(self, net: Routed) -> dict[str, float]:
        """Of each gate. See `Method.target_rates`."""
        return {name: rate for name, rate in self._of(net).items() if 0 < rate < 1}

    def _of(self, net: Routed) -> dict[str, float]:
        """The target rate of each of a network's blocks."""
        own = [name for name, site in net.sites.items() if site.kind == "block"]
        return dict(zip(own, self.rates(own), strict=True))

    def terms(self, net: Routed, trace: Trace, y: Any, mean: Mean, heads: nn.Module | None) -> Losses:
        """Eq. 9, the target-rate loss; rates are over the images that came to a block. See `Method.terms`."""
        rates = self._of(net)
        gated = [name for name, rate in rates.items() if 0 < rate < 1 and name in trace]
        if not gated:
            return {}
        z = torch.cat([trace[name].z for name in gated], dim=1)
        came = [running(net, trace, name) for name in gated]
        if any(c is not None for c in came):
            weights = torch.stack([z.new_ones(len(z)) if c is None else c for c in came], dim=1)
            rate = (z * weights).sum(0) / weights.sum(0).clamp(min=1)
        else:
            rate = z.mean(0)
        opened = mean("rate", rate)
        targets = opened.new_tensor([rates[name] for name in gated])
        divisor = len(rates) if self.reduction == "mean" else 1
        return {"rate": self.weight * target_rate_loss(opened, targets, divisor)}


def target_rate_loss(rates: Tensor, targets: Tensor, divisor: int = 1) -> Tensor:
    """ConvNet-AIG, Eq. 9: ``sum_l (rate_l - t_l)^2 / divisor``.

    Args:
        rates: execution rates over the whole mini-batch, ``[gates]``.
        targets: target rates, ``[gates]``.
        divisor: 1 for the paper's sum; the number of all blocks for the authors' mean.
    """
    return (rates - targets).square().sum() / divisor
