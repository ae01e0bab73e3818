"""``SkippingCall``: a call that knows the last junction's output, and what holds of it until somebody touches it."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from torchpaths.junction import Junction, Place
from torchpaths.path import Bools, Path
from torchpaths.skips.panel import Joined
from torchpaths.skips.prices import Prices
from torchpaths.trace import Call, Decider, Decision, Pooling, Site, Trace

Column: TypeAlias = tuple[Joined, int, Decider]
"""Of a site: the gates that are scored together with it, which of their scores is its, and its decider."""

_KEPT = ("trace", "value", "version", "rectified", "own", "_seen", "_scored")


class SkippingCall(Call):
    """A call of a skipping network.

    Attributes:
        value: what the last junction gave; None before the first.
        rectified: whether that is the output of a ReLU.
        own: whether nobody else refers to it, so that it may be written.
        prices: what gathering costs.
        autocast: whether the caller computes in another precision; gates do not.
        folded: place of a layer that leaves channels out -> it with its norm, as it stands in this call.
        met: those of the places that looked for themselves whether it still does.
        folding: those whose norm is computed, so that it has nothing to do any more.
    """

    gathers = True

    def __init__(
        self, path: Path | None, batch: int, device: torch.device, columns: Mapping[str, Column], prices: Prices
    ) -> None:
        super().__init__(path, batch, device, grad=False)
        self.columns = columns
        self.prices = prices
        self.autocast = torch.is_autocast_enabled(device.type)
        self.value: Tensor | None = None
        self.version = math.nan
        self.rectified = False
        self.own = False
        self.folded: dict[Any, Any] = {}
        self.met: list[Any] = []
        self.folding: set[Any] = set()
        self._channels: dict[tuple[str, int], Tensor] = {}
        self._opening: dict[tuple[str, int], Tensor | bool | None] = {}
        self._seen: tuple[Joined, Tensor | list[float]] | None = None
        self._scored: dict[str, float] = {}

    def run(self, forward: Callable[[], Any]) -> Any:
        """The output of the network in this call."""
        return forward()

    def enter(self, x: Tensor, references: int) -> None:
        """A junction got ``x``, which ``references`` refer to: what is known holds on, or is forgotten."""
        if x is self.value and _version(x) == self.version:
            self.own = self.own and references <= ENTERED and shares(x) <= ALONE
        else:
            self.leave(x, rectified=False, own=False)

    def leave(self, y: Tensor, rectified: bool, own: bool) -> None:
        """A junction, or a part of it, gives ``y``."""
        if y is not self.value or _version(y) != self.version:
            self.value, self.version, self._seen = y, _version(y), None
            self.rectified, self.own = rectified, own

    def keep(self, x: Tensor) -> Tensor:
        """``x`` as a junction's output; a copy if others refer to it, since a layer behind may write into it."""
        if self.own:
            return x
        seen, y = self._seen, x.clone()
        self.leave(y, self.rectified, own=True)
        self._seen = seen
        return y

    @contextmanager
    def among(self, rows: Tensor) -> Iterator[None]:
        """Only some of the images that are there (long ``[n]``) pass what runs inside."""
        outer, self.rows = self.rows, rows if self.rows is None else self.rows[rows]
        try:
            yield
        finally:
            self.rows = outer

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What runs inside is a trial: nothing of it happens."""
        kept = {name: getattr(self, name) for name in _KEPT}
        self.trace, self._scored = dict(self.trace), dict(self._scored)
        try:
            yield
        finally:
            self.__dict__.update(kept)

    def decide(self, site: Site, x: Tensor, pool: Pooling) -> tuple[Tensor, Decision]:
        """See `Call.decide`. The scores of gates that are joined are kept until the features change; what a single
        image decides is a decision for the whole batch, so that what it closes is left out."""
        column = self.columns.get(site.name)
        forced = self.path is not None and site.name in self.path
        known = column is None or forced or site.name in self.trace
        if known or site.decider is not column[2] or not site.decider.by_perceptron:  # type: ignore[index]
            x, decision = super().decide(site, x, pool)
            return x, decision if decision.whole is not None or len(x) != 1 else self._alone(site, decision)
        joined, number, decider = column  # type: ignore[misc]
        if self._seen is None or self._seen[0] is not joined:
            x, features = pool(x)
            if self.autocast:
                with torch.autocast(self.device.type, enabled=False):
                    self._seen = self._look(joined, features)
            else:
                self._seen = self._look(joined, features)
        seen = self._seen[1]
        if isinstance(seen, list):
            score = self._scored[site.name] = joined.score(seen, number)
            decision = self.trace[site.name] = self.whole((score > decider.threshold,))
            return x, decision
        scores = seen[:, number : number + 1]
        opened = scores > decider.threshold
        decision = Decision(opened, opened.float(), scores)
        self.trace[site.name] = decision if self.rows is None else decision.spread(self.rows, self.batch)
        return x, decision

    def _look(self, joined: Joined, features: Tensor) -> tuple[Joined, Tensor | list[float]]:
        return joined, joined.hidden(features) if self.batch == 1 else joined(features)

    def _ask(self, decider: Decider, features: Tensor) -> Decision:
        return decider.single(features) if self.batch == 1 else super()._ask(decider, features)

    def _alone(self, site: Site, decision: Decision) -> Decision:
        """A single image's decision, in plain bools if it is one of open or closed."""
        if not bool((decision.z == decision.open).all()):
            return decision
        whole: Bools = tuple(decision.open[0].tolist())
        decision = dataclasses.replace(decision, whole=whole)
        if self.rows is None:
            self.trace[site.name] = dataclasses.replace(self.trace[site.name], whole=whole)
        return decision

    def finish(self, inside: Mapping[str, Any]) -> Trace:
        """See `Call.finish`. The scores of a single image are sorted to their sites at the end, all in one go."""
        if self._scored:
            scores = torch.tensor(list(self._scored.values()), device=self.device).view(-1, 1, 1).unbind()
            for name, score in zip(self._scored, scores, strict=True):
                decision = self.trace[name]
                self.trace[name] = Decision(decision.open, decision.z, score, decision.whole)
        return super().finish(inside)

    def channels_of(self, site: Site, channels: int) -> Tensor:
        """Of a single image, the open ones of so many channels, in which a site's units are equal groups; long."""
        key = site.name, channels
        if key not in self._channels:
            units = self.trace[site.name].open[0].nonzero().view(-1)
            each = channels // len(site.units)
            if each > 1:
                units = (units.unsqueeze(1) * each + torch.arange(each, device=units.device)).view(-1)
            self._channels[key] = units
        return self._channels[key]

    def opening(self, site: Site, unit: int, decision: Decision) -> Tensor | bool | None:
        """The images that open a unit, among those that are there (long ``[n]``); True or False where all or none do;
        None where the decision scales instead of choosing."""
        if decision.whole is not None:
            return decision.whole[unit]
        if self.rows is not None:
            return _opening(site, unit, decision)
        key = site.name, unit
        if key not in self._opening:
            self._opening[key] = _opening(site, unit, decision)
        return self._opening[key]


def _opening(site: Site, unit: int, decision: Decision) -> Tensor | bool | None:
    opened = decision.open[:, unit]
    hard = site.decider is not None and site.decider.by_perceptron
    if not hard and not bool((decision.z[:, unit] == opened).all()):
        return None
    rows = opened.nonzero().flatten()
    return len(rows) > 0 if len(rows) in (0, len(opened)) else rows


def _version(x: Tensor) -> float:
    """How often it was written into; NaN, which equals nothing, where that is not counted."""
    return math.nan if x.is_inference() else x._version


def shares(x: Tensor) -> int:
    """How many tensors use the memory of ``x``, itself and the count's own handle included."""
    return int(torch._C._storage_Use_Count(x.untyped_storage()._cdata))


class _Counting(Place):
    """Counts references as a place would, to a tensor that only the chain and a call refer to."""

    def __init__(self) -> None:
        super().__init__(nn.Identity(), ())
        self.kept = torch.zeros(1)
        self.references = 0

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.references = sys.getrefcount(x)
        y = x + 1
        self.kept = y
        return y

    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        return self.block


def _count_entered() -> int:
    first, second = _Counting(), _Counting()
    nn.Sequential(Junction(first), Junction(second))(torch.zeros(1))
    return second.references


def _count_local() -> tuple[int, int]:
    x = torch.zeros(1)
    return sys.getrefcount(x), shares(x)


# How many references a value has that only a chain's loop, the call and the place itself refer to, counted in this
# interpreter rather than assumed. One more means that somebody else could see it being written.
ENTERED = _count_entered()
LOCAL, ALONE = _count_local()
