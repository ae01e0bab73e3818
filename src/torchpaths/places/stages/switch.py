"""Places that a switch closes or changes over: ``Skippable``, a whole block, and ``Doubled``, one of two modules.

AdaptiveDepth (section 3.1) leaves out the last blocks of a stage as they stand. A switch takes no gradient, so the
block need not be taken apart as a gated one: closed, it hands on its input. The blocks that always run get a second set
of norms for when the others are left out (section 3.4, "skip-aware"), because then their inputs differ.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.errors import CallError
from torchpaths.junction import Junction, Place, junctions
from torchpaths.path import Bools
from torchpaths.places.residual.along import trace
from torchpaths.places.rows import of_rows, put_rows, take_rows
from torchpaths.trace import Decision, Site


class Skippable(Place):
    """A whole block that a unit closes: ``block(x)`` or ``x``. Several blocks may obey one unit."""

    calls = True

    def __init__(
        self,
        block: nn.Module,
        site: Site,
        unit: int = 0,
        features: Callable[[Tensor], Tensor] | None = None,
        beside: int | None = None,
    ) -> None:
        """
        Args:
            block: its output is of the shape of its (first) input.
            site: the site it obeys.
            unit: the unit's number there.
            features: what to measure in training of the value handed on, kept as the decision's response
                ``"features"``; None for nothing.
            beside: how many values the block returns beside its output, all of them None where it did not run for
                every image; None for a block that returns its output alone.
        """
        super().__init__(block, (site,))
        self.beside = beside
        self.unit = unit
        self.features = features

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """
        Raises:
            CallError: in training, for a path that differs between samples.
        """
        [site] = self.sites
        x, decision = self.decide(site, x, _nothing)
        more: Sequence[Any] = (None,) * (self.beside or 0)
        if not _opens(self, decision, self.unit):
            y = x.clone()  # whoever is behind may write into it, while others keep what came in
        elif decision is None or decision.whole is not None:
            y, *more = self._all(x, args, kwargs)
        else:
            y = self._by_image(x, decision.open[:, self.unit], args, kwargs)
        features = self.features
        if features is not None and self.training:
            self.note(site, "features", lambda: features(y))
        return y if self.beside is None else (y, *more)

    def _all(self, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """What the block returns: its output first."""
        made = self.block(x, *args, **kwargs)
        return (made,) if self.beside is None else tuple(made)

    def _by_image(self, x: Tensor, opened: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        call = self.call
        if call is None or not call.gathers:
            return _choose(opened, self._all(x, args, kwargs)[0], x)
        rows = opened.nonzero().flatten()
        if len(rows) == 0:
            return x.clone()
        if len(rows) == len(x):
            whole: Tensor = self._all(x, args, kwargs)[0]
            return whole
        outer, call.rows = call.rows, rows if call.rows is None else call.rows[rows]
        try:
            given = [of_rows(value, rows, len(x)) for value in args]
            named = {name: of_rows(value, rows, len(x)) for name, value in kwargs.items()}
            part: Tensor = self._all(take_rows(x, rows), tuple(given), named)[0]
        finally:
            call.rows = outer
        y = x.to(torch.promote_types(x.dtype, part.dtype), copy=True)
        put_rows(y, rows, part)
        return y

    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        """The block, or nothing. See `Place.cut`."""
        if opened[self.sites[0].name][self.unit]:
            return self.block
        if self.beside is None:
            return nn.Identity().train(self.training)
        return trace(self.block, lambda _, given: (next(iter(given.values())), *(None,) * (self.beside or 0)))


class Doubled(Place):
    """Two modules in one place: the model's own where a unit is open, another (``skipped``) where it is closed.

    The model's own keeps its state_dict keys; those of the other begin with ``skipped.``. Whoever goes from child to
    child finds both, as ``open`` and ``skipped``, and may put others in their place.
    """

    calls = True

    def __init__(self, block: nn.Module, skipped: nn.Module, site: Site, unit: int = 0) -> None:
        """
        Args:
            block: runs where the unit is open.
            skipped: runs where it is closed, in training mode or not as ``block`` is.
            site: the site it obeys.
            unit: the unit's number there.
        """
        super().__init__(block, (site,))
        self.skipped = skipped.train(block.training)
        self.unit = unit

    @property
    def more(self) -> dict[str, nn.Module]:
        """See `Place.more`."""
        return {"skipped": self.skipped}

    @property
    def parts(self) -> dict[str, nn.Module]:
        """See `Place.parts`."""
        return {"open": self.block, "skipped": self.skipped}

    def put(self, name: str, module: nn.Module) -> bool:
        """See `Place.put`."""
        if name == "open":
            self.block = module
        elif name == "skipped":
            self.skipped = module
        return name in ("open", "skipped")

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """
        Raises:
            CallError: in training, for a path that differs between samples.
        """
        x, decision = self.decide(self.sites[0], x, _nothing)
        if not _opens(self, decision, self.unit):
            y: Tensor = self.skipped(x, *args, **kwargs)
            return y
        y = self.block(x, *args, **kwargs)
        if decision is not None and decision.whole is None:
            y = _choose(decision.open[:, self.unit], y, self.skipped(x, *args, **kwargs))
        return y

    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        """The one of the two that runs. See `Place.cut`."""
        return self.block if opened[self.sites[0].name][self.unit] else self.skipped


def twin(module: nn.Module) -> nn.Module:
    """A copy of a module with weights of its own, in which places obey the same sites."""
    inner = [module] if isinstance(module, Junction) else []
    sites = [s for j in (*inner, *(j for _, j in junctions(module))) for s in j._place.sites]
    return copy.deepcopy(module, {id(site): site for site in sites})


def _nothing(x: Tensor) -> tuple[Tensor, Tensor]:
    """Features for whoever decides here: none, only how many samples there are."""
    return x, x.new_empty(x.shape[0], 0)


def _opens(place: Place, decision: Decision | None, unit: int) -> bool:
    """Whether a unit is open for any sample."""
    if decision is None:
        return True
    if decision.whole is not None:
        return decision.whole[unit]
    if place.training:
        raise CallError(
            f"site {place.sites[0].name!r}: in training a path must be one for the whole batch, since norms take "
            "their statistics from all of it; take one sample's path, path[0], or evaluate: net.eval()."
        )
    return True


def _choose(opened: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """``a`` for samples that are open, else ``b``."""
    return torch.where(opened.view(-1, *(1,) * (a.dim() - 1)), a, b)
