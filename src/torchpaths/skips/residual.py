"""``SkippingResidual``: a residual block that runs its branches for the images that open them."""

from __future__ import annotations

import sys
from collections.abc import Hashable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from torchpaths.places.gradients import mix
from torchpaths.places.residual.parts import Piece
from torchpaths.places.residual.place import ResidualPlace, Step
from torchpaths.places.rows import add_rows, of_rows, take_rows
from torchpaths.skips.call import ALONE, LOCAL, SkippingCall, shares
from torchpaths.skips.direct import Direct
from torchpaths.skips.trial import trial


class SkippingResidual(ResidualPlace):
    """A residual block that runs its branches for the images that open them."""

    def __init__(self, place: ResidualPlace) -> None:
        """
        Args:
            place: taken over: block, parts and sites.
        """
        self.__dict__.update(place.__dict__)
        self._limits: dict[Hashable, int] = {}
        self._direct: Direct | None = None
        split = self.split
        self._alone = not (self.conditions or self._told or split.settled)  # nothing to look at but x

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_direct": None, "_limits": {}}  # they belong to these very modules and this machine

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """See `ResidualPlace.run`."""
        call = self.slot.local.call
        if not isinstance(call, SkippingCall):
            return super().run(x, *args, **kwargs)
        references = sys.getrefcount(x)  # in a line of its own: as an argument beside it, x would count once more
        call.enter(x, references)
        inputs = (x,) if self._alone and not args and not kwargs else self.prepare(x, args, kwargs)
        direct = self._direct or self.direct()
        notes: dict[int, Any] = {}
        for step in direct.called if direct.hooked else direct.steps:
            if step.pre is not None:
                x = step.pre(self.block, x, *inputs)
                call.leave(x, rectified=step.pre.rectifies, own=False)
            x = self._step(step, x, inputs, call, notes)
        return self.returned(x, notes, inputs)

    def direct(self) -> Direct:
        """Its steps past hooks, made anew.

        Raises:
            CallError: see `ResidualPlace.check_block`.
        """
        self.check_block()
        self._limits = {}  # other children, other prices
        self._direct = Direct(self)
        return self._direct

    def _step(
        self, step: Step, x: Tensor, inputs: tuple[Any, ...], call: SkippingCall, notes: dict[int, Any]
    ) -> Tensor:
        x, decision = call.decide(step.site, x, step.pool)
        rows = call.opening(step.site, step.unit, decision)
        if isinstance(rows, Tensor) and not self._pays(step, x, inputs, len(rows), call):
            rows = None
        if rows is True:
            total, own = self._add(step, x, inputs, notes), True
        elif rows is None:
            total, own = self._scaled(step, x, inputs, decision.z[:, step.unit], notes), True
        else:
            total = step.shortcut(self.block, x, *inputs)
            if rows is False and total is x and (step.post.identity or (step.post.rectifier and call.rectified)):
                return call.keep(x)
            own = call.own if total is x else sys.getrefcount(total) <= LOCAL and shares(total) <= ALONE
            if isinstance(rows, Tensor):
                total, own = self._added(total if own else total.clone(), rows, step, x, inputs, call), True
        y = self._post(step, total, inputs, own)
        call.leave(y, rectified=step.post.rectifies, own=own if y is total else shares(y) <= ALONE)
        return y

    def _added(
        self, total: Tensor, rows: Tensor, step: Step, x: Tensor, inputs: tuple[Any, ...], call: SkippingCall
    ) -> Tensor:
        """``total`` with the branch added for some images, in place if the two have one shape."""
        branch = self._gathered(step, x, inputs, rows, call)
        if branch.shape[1:] == total.shape[1:]:
            add_rows(total, rows, branch)
            return total
        some = total.index_select(0, rows) + branch
        return total.expand(len(total), *some.shape[1:]).clone().index_copy_(0, rows, some)

    def _gathered(self, step: Step, x: Tensor, inputs: tuple[Any, ...], rows: Tensor, call: SkippingCall) -> Tensor:
        """The branch for some images. Of the block's own input a branch reads sizes only, so any rows will do."""
        further = (of_rows(value, rows, len(x)) for value in inputs[1:])
        with call.among(rows):
            return step.branch(self.block, take_rows(x, rows), inputs[0][: len(rows)], *further)

    def _add(self, step: Step, x: Tensor, inputs: tuple[Any, ...], notes: dict[int, Any]) -> Tensor:
        """``shortcut + branch``, into the branch's own memory if nobody else refers to it."""
        branch = step.run_branch(self.block, x, inputs, notes)
        own = sys.getrefcount(branch) <= LOCAL and shares(branch) <= ALONE
        shortcut = step.shortcut(self.block, x, *inputs)
        if own and branch.dtype == shortcut.dtype and branch.shape == shortcut.shape:
            return branch.add_(shortcut)
        return shortcut + branch

    def _scaled(self, step: Step, x: Tensor, inputs: tuple[Any, ...], z: Tensor, notes: dict[int, Any]) -> Tensor:
        """``shortcut + z * branch`` for all images, ``z`` float ``[batch]``."""
        branch = step.run_branch(self.block, x, inputs, notes)
        return mix(
            step.shortcut(self.block, x, *inputs), branch, z.view(-1, *(1,) * (branch.dim() - 1)).to(branch.dtype)
        )

    def _post(self, step: Step, total: Tensor, inputs: tuple[Any, ...], own: bool) -> Tensor:
        if step.post.rectifier:
            return total.relu_() if own else total.relu()
        return step.post(self.block, total.clone() if step.post.in_place and not own else total, *inputs)

    def _pays(self, step: Step, x: Tensor, inputs: tuple[Any, ...], opened: int, call: SkippingCall) -> bool:
        """Whether gathering so many images is cheaper than running for all."""
        if self._direct is not None and self._direct.watched():
            return True  # trials would call hooks in vain
        met = (step.site.name, step.unit, x.shape, x.dtype, x.stride(), x.device, torch.get_num_threads())
        if met not in self._limits:
            with call.aside(), trial(self.block, x.device):
                self._limits[met] = self._limit(step, x.clone(), inputs, met[2:], call)
        return opened <= self._limits[met]

    def _limit(
        self, step: Step, x: Tensor, inputs: tuple[Any, ...], kind: tuple[Hashable, ...], call: SkippingCall
    ) -> int:
        """The most images with which gathering pays, timed on ``x``, which is written into."""
        z = torch.ones(len(x), device=x.device)
        total = step.shortcut(self.block, x, *inputs).clone()

        def gathering(count: int) -> None:
            rows = torch.arange(count, device=x.device)
            self._added(total, rows, step, x, inputs, call)

        code = step.branch.source if isinstance(step.branch, Piece) else step.branch
        shapes = tuple(p.shape for p in self.block.parameters())
        for_all = partial(self._scaled, step, x, inputs, z, {})
        return call.prices.limit((code, shapes, *kind), len(x), for_all, gathering)
