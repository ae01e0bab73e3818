"""Early exit: images that an `Exit` calls done leave the batch, and nothing behind runs for them (Coded ResNeXt,
section 4.4).

`Leaving` stands around each coded block. When the block has run, its energies are in the trace; the images that are
done leave there, with the block's own scores for an answer, and what follows - blocks with codes or without, pooling,
head - simply sees fewer images. Where such doors may stand is the business of `torchpaths.skips.doors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.coding.decode import distances
from torchpaths.deciders.code import Code
from torchpaths.deciders.exit import Exit, Heard
from torchpaths.errors import CallError
from torchpaths.junction import Place
from torchpaths.path import Bools, Path
from torchpaths.places.channels.energy import ENERGIES
from torchpaths.places.rows import take_rows
from torchpaths.routed import Routed
from torchpaths.skips.call import Column, SkippingCall
from torchpaths.skips.prices import Prices
from torchpaths.trace import Call, Site, Trace

STOPPED = "stopped"
"""Under which the response of a coded site's decision holds the images that stopped there, bool ``[batch]``, if any."""

NO_CHAIN = "something outside the coded blocks holds the whole batch, or the forward is no chain of modules"
REMEDY = "Call skipping(net) without exit, or make the model a chain of modules that hand on one tensor each."
_WHY = f"{NO_CHAIN}. {REMEDY}"


@dataclass(frozen=True)
class Exits:
    """When images leave a network, and what they are spared.

    Attributes:
        exit: who decides.
        behind: the sites where images may leave, in order of execution -> MACs of one image that lie behind and that no
            unit closes: shortcuts, blocks without units, the head, deciders.
        forced: in place of decisions the numbers of the sites where images leave, long ``[batch]``, for trials.
    """

    exit: Exit
    behind: Mapping[str, int]
    forced: Tensor | None = None


class HasExits(Routed):
    """A routed network that images may leave.

    Attributes:
        exits: when they do; None for never.
    """

    exits: Exits | None = None

    @property
    def exit(self) -> Exit | None:
        """Who decides which images are done; None where all run to the end."""
        return None if self.exits is None else self.exits.exit

    def stopped(self, trace: Trace) -> Tensor:
        """Where each image of a call stopped.

        Args:
            trace: what the call gave.

        Returns:
            Long ``[batch]``, numbers of sites in ``list(net.sites)``: the site whose block was the image's last; -1 for
            images that ran to the end.
        """
        made = next(iter(trace.values())).open
        found = torch.full((len(made),), -1, device=made.device)
        for number, name in enumerate(self.sites):
            if name in trace and STOPPED in trace[name].response:
                found[trace[name].response[STOPPED]] = number
        return found

    def macs(self, trace: Trace) -> Tensor:
        """MACs of each image of a call, float64 ``[batch]``, deciders included.

        As ``Path.of(trace).macs(net)``, less what no unit closes but lies behind where the image stopped: shortcuts
        with a convolution, blocks without units, the head.

        Args:
            trace: what the call gave.
        """
        absent = Path({name: [False] * len(units) for name, units in self.layout.sites.items() if name not in trace})
        everything = (Path.of(trace) | absent).macs(self)
        if self.exits is None:
            return everything
        behind = [float(self.exits.behind.get(name, 0)) for name in self.sites]
        return everything - torch.tensor([*behind, 0.0], dtype=torch.float64)[self.stopped(trace).cpu()]

    def _finished(self, call: Call) -> Trace:
        """See `Routed._finished`: what a path names may lie behind where the last image left."""
        everyone = isinstance(call, ExitingCall) and call.left == 0
        return call.finish(self.layout.inside) if everyone else super()._finished(call)


class EveryoneLeftError(BaseException):
    """Ends a forward pass of which nothing is left to do. No ``Exception``, which a model's own forward may catch."""


class ExitingCall(SkippingCall):
    """A call in which images leave. Those that are there are its `rows`, throughout what follows.

    Attributes:
        heard: what the decoders have said of the images that are there.
        stopped: for each image of the batch the number of the site where it left; -1 while it is there.
        scores: of those that left, their numbers and ``[n, class]``.
    """

    def __init__(
        self,
        path: Path | None,
        batch: int,
        device: torch.device,
        columns: Mapping[str, Column],
        prices: Prices,
        exits: Exits,
        numbers: Mapping[str, int],
        inside: Mapping[str, Sequence[tuple[str, int]]],
    ) -> None:
        """
        Args:
            exits: when images leave.
            numbers: site -> its number.
            inside: `Layout.inside`.
            path, batch, device, columns, prices: see `SkippingCall`.
        """
        super().__init__(path, batch, device, columns, prices)
        self.exits = exits
        self.numbers = numbers
        self.inside = inside
        self.heard = Heard.nothing(batch, device)
        self.stopped = torch.full((batch,), -1, device=device)
        self.scores: list[tuple[Tensor, Tensor]] = []

    @property
    def left(self) -> int:
        """How many images are there."""
        return self.batch if self.rows is None else len(self.rows)

    def passed(self, site: Site, y: Tensor) -> Tensor:
        """A coded block gave ``y``: what of it goes on.

        Raises:
            CallError: if these are not the images that are there.
        """
        rows, made = self.rows, self.trace.get(site.name)
        if not isinstance(y, Tensor) or len(y) != self.left:
            raise CallError(
                f"the block of site {site.name!r} gave no tensor of the {self.left} images that are there: {_WHY}"
            )
        if made is None:  # closed for all of them
            return y
        assert isinstance(site.decider, Code)
        energies = made.response[ENERGIES] if rows is None else made.response[ENERGIES][rows]
        away = distances(energies, site.decider.words)
        self.heard = self.heard.then(away, said(energies, self._came(site)))
        number = self.numbers[site.name]
        forced = self.exits.forced
        done = self.exits.exit(self.heard) if forced is None else (forced if rows is None else forced[rows]) == number
        gone = done.nonzero().flatten()
        if len(gone) == 0:
            return y
        self.note(site, STOPPED, done)
        there = torch.arange(self.batch, device=self.device) if rows is None else rows
        self.stopped[there[gone]] = number
        self.scores.append((there[gone], functional.log_softmax(-away[gone], 1)))
        stay = (~done).nonzero().flatten()
        self.rows = there[stay]
        if len(stay) == 0:
            raise EveryoneLeftError
        self.heard = self.heard.taken(stay)
        left = take_rows(y, stay)
        if y is self.value:
            self.leave(left, self.rectified, own=True)
        return left

    def _came(self, site: Site) -> Tensor | None:
        """Which of the images that are there went through a site, see `Layout.inside`; None for all."""
        around = [self.trace[outer].open[:, unit] for outer, unit in self.inside.get(site.name, ())]
        came = torch.stack(around).all(0) if around else None
        return came if came is None or self.rows is None else came[self.rows]

    def run(self, forward: Callable[[], Any]) -> Any:
        """See `SkippingCall.run`: the answers of all, each in its row.

        Raises:
            CallError: for an answer that is not ``[images, class]`` of those that are left.
        """
        try:
            y = forward()
        except EveryoneLeftError:
            y = None
        if self.rows is None:
            return y
        answers = self.scores
        if y is not None:
            if not isinstance(y, Tensor) or y.dim() != 2 or len(y) != self.left:
                raise CallError(
                    f"the output is not [{self.left}, class] of the images that stayed: {NO_CHAIN}. {REMEDY}"
                )
            answers = [(self.rows, y), *answers]
        rows, scores = torch.cat([rows for rows, _ in answers]), [scores for _, scores in answers]
        kind = torch.promote_types(scores[0].dtype, scores[-1].dtype)
        together = torch.cat([some.to(kind) for some in scores])
        return torch.empty_like(together).index_copy_(0, rows, together)

    def finish(self, inside: Mapping[str, Any]) -> Trace:
        """See `Call.finish`; sites behind the one where an image left did not run for it."""
        trace = super().finish(inside)
        if self.scores:
            for name, made in list(trace.items()):
                there = made.only((self.stopped < 0) | (self.stopped >= self.numbers[name]))
                if bool(there.ran.any()):  # type: ignore[union-attr]
                    trace[name] = there
                else:  # computed for images for which a unit around it is closed
                    del trace[name]
        return trace


class Leaving(Place):
    """A module behind which images may leave."""

    calls = True

    def __init__(self, block: nn.Module, site: Site) -> None:
        """
        Args:
            block: the module.
            site: the coded site in it, whose energies say who leaves.
        """
        super().__init__(block, (site,))

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """See `Place.run`."""
        y = self.block(x, *args, **kwargs)
        call = self.slot.local.call
        return call.passed(self.sites[0], y) if isinstance(call, ExitingCall) else y

    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        """The module as it is: along a path everybody goes on."""
        return self.block


def said(energies: Tensor, ran: Tensor | None) -> Tensor:
    """For which images a block says anything, bool ``[batch]``: those that ran it and have energy there.

    Args:
        energies: ``[batch, unit]``.
        ran: see `Decision.ran`.
    """
    some = energies.sum(1) > 0
    return some if ran is None else some & ran
