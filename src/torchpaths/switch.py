"""Places that a switch closes or changes over: ``SkipJunction``, a whole block, and ``Switched``, one of two modules.

AdaptiveDepth (section 3.1) leaves out the last blocks of a stage as they stand. A switch takes no gradient, so the
block need not be taken apart as a gated one: closed, it hands on its input. The blocks that always run get a second set
of norms for when the others are left out (section 3.4, "skip-aware"), because then their inputs differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.errors import CallError
from torchpaths.junction import Decision, Junction, Site
from torchpaths.path import Bools
from torchpaths.rows import put_rows, take_rows
from torchpaths.standin import StandIn


class SkipJunction(StandIn):
    """A whole block that a unit closes: ``block(x)`` or ``x``. Several blocks may obey one unit."""

    def __init__(
        self, block: nn.Module, site: Site, unit: int = 0, features: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        """
        Args:
            block: its output is of the shape of its (first) input.
            site: the site it obeys.
            unit: the unit's number there.
            features: what to measure in training of the value handed on, kept as the decision's response
                ``"features"``; None for nothing.
        """
        super().__init__(block, (site,))
        self.unit = unit
        self.features = features
        # Sites inside it decide for the whole batch, so it has to see all of it.
        self.gathers = not any(isinstance(module, Junction) for module in block.modules())

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """
        Raises:
            CallError: in training, for a path that differs between samples.
        """
        [site] = self.sites
        x, decision = self.decide(site, x, _nothing)
        if not _opens(self, decision, self.unit):
            y = x
        elif decision is None or decision.whole is not None:
            y = self.block(x, *args, **kwargs)
        elif self.gathers and self.call is not None and self.call.gathers:
            rows = decision.open[:, self.unit].nonzero().flatten()
            y = x
            if len(rows) == len(x):
                y = self.block(x, *args, **kwargs)
            elif len(rows):
                part: Tensor = self.block(take_rows(x, rows), *args, **kwargs)
                y = x.to(torch.promote_types(x.dtype, part.dtype), copy=True)
                put_rows(y, rows, part)
        else:
            y = _choose(decision.open[:, self.unit], self.block(x, *args, **kwargs), x)
        if self.features is not None and self.training and self.call is not None:
            self.call.note(site, "features", self.features(y))
        return y

    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        """The block, or nothing. See `Junction.cut`."""
        return self.block if opened[self.sites[0].name][self.unit] else nn.Identity().train(self.training)


class Switched(StandIn):
    """Two modules in one place: the model's own where a unit is open, another (``skipped``) where it is closed.

    The model's own keeps its state_dict keys; those of the other begin with ``skipped.``.
    """

    skipped: nn.Module

    def __init__(self, block: nn.Module, skipped: nn.Module, site: Site, unit: int = 0) -> None:
        """
        Args:
            block: runs where the unit is open.
            skipped: runs where it is closed, in training mode or not as ``block`` is.
            site: the site it obeys.
            unit: the unit's number there.
        """
        super().__init__(block, (site,))
        self._modules = {**block._modules, "skipped": skipped.train(block.training)}
        self.unit = unit

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Tensor],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        unknown: list[str] = []
        found = (state_dict, prefix, local_metadata, strict, missing_keys, unknown, error_msgs)
        self.block._load_from_state_dict(*found)
        unexpected_keys += [key for key in unknown if not key.startswith(f"{prefix}skipped.")]

    def forward(self, x: Tensor) -> Tensor:
        """
        Raises:
            CallError: in training, for a path that differs between samples.
        """
        x, decision = self.decide(self.sites[0], x, _nothing)
        if not _opens(self, decision, self.unit):
            y: Tensor = self.skipped(x)
            return y
        y = self.block(x)
        if decision is not None and decision.whole is None:
            y = _choose(decision.open[:, self.unit], y, self.skipped(x))
        return y

    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        """The one of the two that runs. See `Junction.cut`."""
        return self.block if opened[self.sites[0].name][self.unit] else self.skipped


def _nothing(x: Tensor) -> tuple[Tensor, Tensor]:
    """Features for whoever decides here: none, only how many samples there are."""
    return x, x.new_empty(x.shape[0], 0)


def _opens(junction: StandIn, decision: Decision | None, unit: int) -> bool:
    """Whether a unit is open for any sample."""
    if decision is None:
        return True
    if decision.whole is not None:
        return decision.whole[unit]
    if junction.training:
        raise CallError(
            f"site {junction.sites[0].name!r}: in training a path must be one for the whole batch, since norms take "
            "their statistics from all of it; take one sample's path, path[0], or evaluate: net.eval()."
        )
    return True


def _choose(opened: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``a`` for samples that are open, else ``b``."""
    return torch.where(opened.view(-1, *(1,) * (a.dim() - 1)), a, b)
