"""``ResidualPlace``: a residual block whose branches can be closed, ``y = post(shortcut(x) + z * branch(x))``.

ConvNet-AIG, Eq. 3. The multiplier ``z`` stands inside the sum, before any ReLU that follows it, so a gate gets the
gradient the paper gives it.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, nn

from torchpaths.errors import CallError
from torchpaths.junction import Place
from torchpaths.path import Bools
from torchpaths.places.gradients import mix, pool
from torchpaths.places.residual.again import recomputed
from torchpaths.places.residual.along import Run, close, hands_on, trace
from torchpaths.places.residual.parts import Keywords, Part, Piece, Residual, Split, alike, part
from torchpaths.places.residual.rest import rest_name
from torchpaths.trace import Site

Noting: TypeAlias = tuple[Piece, tuple[int, ...]]
"""See `Returned.noting`."""


class Step:
    """One residual sum of a junction with the unit that closes it."""

    def __init__(self, residual: Residual, site: Site, unit: int, noting: Noting | None = None) -> None:
        self.noting = noting
        self.pre = None if residual.pre is None else part(residual.pre)
        self.branch = part(residual.branch)
        self.shortcut = part(residual.shortcut)
        self.post = part(residual.post)
        assert residual.axis is not None
        self.axis = residual.axis
        self.site = site
        self.unit = unit

    def using(self, change: Callable[[Part], Part]) -> Step:
        """The same step with each of its parts changed."""
        step = copy.copy(self)
        step.pre = None if self.pre is None else change(self.pre)
        step.branch, step.shortcut, step.post = change(self.branch), change(self.shortcut), change(self.post)
        return step

    def run_branch(self, block: nn.Module, x: Tensor, inputs: tuple[Any, ...], notes: dict[int, Any]) -> Tensor:
        """The branch; what the block returns beside its output and is computed there goes into ``notes``."""
        if self.noting is None:
            return self.branch(block, x, *inputs)
        piece, places = self.noting
        made: Any = piece(block, x, *inputs)
        branch: Tensor
        branch, *found = made
        notes.update(zip(places, found, strict=True))
        return branch

    def pool(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` and its average over all axes but samples and channels (ConvNet-AIG, Eq. 4), ``[batch, channels]``."""
        axes = _OTHERS[x.dim(), self.axis]
        return pool(x, axes) if axes else (x, x)


_OTHERS = {
    (axes, channels): tuple(a for a in range(1, axes) if a != channels % axes)
    for axes in range(1, 8)
    for channels in range(-axes, axes)
}
"""(number of axes, the channels' axis) -> all axes but samples and channels. Looked up, since every gate asks."""


class ResidualPlace(Place):
    """A residual block under one or more sites, one for each of its sums."""

    def __init__(self, block: nn.Module, parts: Split, sites: tuple[tuple[Site, int], ...]) -> None:
        """
        Args:
            block: the residual block.
            parts: the block taken apart.
            sites: for each of its sums, the site and the unit's number in it.
        """
        super().__init__(block, tuple(site for site, _ in sites))
        noting = (None,) * len(sites) if parts.returned is None else parts.returned.noting
        self.steps = tuple(
            Step(r, site, unit, noted) for r, (site, unit), noted in zip(parts.residuals, sites, noting, strict=True)
        )
        self.split = parts
        self.conditions = tuple(zip(parts.conditions, parts.answers, strict=True))
        self.extra = parts.extra
        others = list(inspect.signature(block.forward).parameters.values())[1:]
        self._defaults = {p.name: p.default for p in others if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
        self._defaults.update(parts.fixed)
        self._made_of = type(block), block.__dict__.get("forward")
        self._told = bool(self.extra or parts.rest or parts.fixed)

    @property
    def rectifies(self) -> bool:  # type: ignore[override]
        """See `Place.rectifies`."""
        return self.known()[-1].post.rectifies

    def known(self) -> tuple[Step, ...]:
        """The steps, with what is known of their parts as the block is now."""
        return tuple(step.using(lambda p: p.known(self.block) if isinstance(p, Piece) else p) for step in self.steps)

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The block's forward, each branch multiplied by its unit's ``z`` or left out.

        Raises:
            CallError: for arguments the block's default call does not have, or an input of a kind that takes another
                way through the block's own forward than the example did.
        """
        inputs = self.prepare(x, args, kwargs)
        notes: dict[int, Any] = {}
        for step in self.steps:
            if step.pre is not None:
                x = step.pre(self.block, x, *inputs)
            x = self.sum(step, x, inputs, notes)
        return self.returned(x, notes, inputs)

    def returned(self, y: Tensor, notes: dict[int, Any], inputs: tuple[Any, ...]) -> Any:
        """What the block returns; ``y`` is its output."""
        made = self.split.returned
        return y if made is None else made.made(self.block, y, notes, inputs)

    def prepare(self, x: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """What every part gets beside its own value; raises as `run` says."""
        self.check_block()
        name = self.sites[0].modules[0]
        if x is None or isinstance(x, (list, tuple, dict)):
            raise CallError(
                f"block {name!r} was given a {type(x).__name__} and was routed with a tensor; call it with one tensor."
            )
        inputs = (x, *self._bind(args, kwargs)) if args or kwargs or self._told else (x,)
        self.split.settle(self.block)
        for condition, answer in self.conditions:
            if bool(condition(self.block, x, *inputs)) != answer:
                raise CallError(
                    f"block {name!r} was routed with an example for which a condition in its forward was {answer}, "
                    f"for an input of shape {tuple(x.shape)} it is not; route the model with an example of this shape "
                    "and kind."
                )
        return inputs

    def check_block(self) -> None:
        """Raise unless the block's class and forward are those that were taken apart."""
        block = self.block
        if self._made_of[0] is not type(block) or self._made_of[1] is not block.__dict__.get("forward"):
            raise CallError(
                f"block {self.sites[0].modules[0]!r} got another class or forward after it was routed, while its parts "
                "are those of the one before; change the model first, then route it."
            )

    def sum(self, step: Step, x: Tensor, inputs: tuple[Any, ...], notes: dict[int, Any]) -> Tensor:
        """One residual sum of the value before it; ``notes`` as for `Step.run_branch`."""
        x, decision = self.decide(step.site, x, step.pool)
        z = None
        if decision is not None and decision.whole is None:
            z = decision.z if decision.z.shape[1] == 1 else decision.z[:, step.unit : step.unit + 1]
        elif decision is not None and decision.whole is not None and not decision.whole[step.unit]:
            y = step.shortcut(self.block, x, *inputs)
            if step.post.in_place or (step.post.identity and y is x):
                y = y.clone()  # y may be the block's own input, which an in-place layer here or later would overwrite
            return step.post(self.block, y, *inputs)
        # Only what follows the decision: a decision is drawn and noted once.
        return recomputed(self.block, partial(self._total, step, notes), x, z, *inputs)

    def _total(self, step: Step, notes: dict[int, Any], x: Tensor, z: Tensor | None, *inputs: Any) -> Tensor:
        """An open sum, or one of which ``z`` says how far it is."""
        block = self.block
        # The branch first, as residual blocks are commonly written: in-place layers then act in the same order.
        branch = step.run_branch(block, x, inputs, notes)
        shortcut = step.shortcut(block, x, *inputs)
        if z is None:
            return step.post(block, shortcut + branch, *inputs)
        z = z.to(branch.dtype).view(-1, *(1,) * (branch.dim() - 1))
        total = mix(shortcut, branch, z) if shortcut.dtype == branch.dtype else shortcut + branch * z
        return step.post(block, total, *inputs)

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The block's further arguments that its parts take; the others must be as they were."""
        name = self.sites[0].modules[0]
        if len(args) > len(self._defaults):
            raise CallError(
                f"block {name!r} was called with {len(args) + 1} values; its forward does not take so many."
            )
        values = {**self._defaults, **dict(zip(self._defaults, args, strict=False)), **kwargs}
        rest = Keywords()
        for argument, value in values.items():
            known = argument in self._defaults
            default = self._defaults.get(argument)
            if argument in self.extra:
                self._check_kind(argument, value)
            elif not known and self.split.rest:
                rest[argument] = value
            elif value is not default and not alike(value, default):
                was = "the default" if argument not in self.split.fixed else "an example that led to"
                raise CallError(
                    f"block {name!r} was called with {argument}={value!r}; it was routed with {was} ({default!r}). "
                    "Route the model with an example that leads to this call, or give the block by hand: "
                    "route(..., residuals={...})."
                )
        return [*(values.get(argument) for argument in self.extra), *([rest] if self.split.rest else ())]

    def _check_kind(self, argument: str, value: Any) -> None:
        """Raise unless an argument is of the kind with which the block's forward went its way."""
        if self.split.tensors is None or argument in self.split.handed:
            return
        wanted = Tensor if argument in self.split.tensors else self.split.kinds.get(argument)
        if not (
            isinstance(value, wanted) if wanted is not None else value is not None and not isinstance(value, Tensor)
        ):
            was = "another kind" if wanted is None else f"a {wanted.__name__}"
            raise CallError(
                f"block {self.sites[0].modules[0]!r} was called with {argument} of {type(value).__name__}; it was "
                f"routed with {was}. Route the model with an example that leads to this call."
            )

    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        """The block itself where all its units are open, else what is left of it. See `Place.cut`."""
        steps = tuple((step, opened[step.site.name][step.unit]) for step in self.known())
        if all(is_open for _, is_open in steps):
            return self.block
        left = trace(self.block, partial(self._along, steps, rectified), self._conditions())
        # What is told more than one value would not do as an nn.Identity.
        return nn.Identity().train(self.training) if hands_on(left) and not self._defaults else left

    def _inputs(self, arguments: Mapping[str, Any]) -> tuple[Any, ...]:
        """What every part is called with besides its own value: the block's input and what else it is told."""
        rest = rest_name(self.block)
        further = (arguments[name] if name in arguments else arguments[rest][name] for name in self.extra)
        return (next(iter(arguments.values())), *further, *((arguments[rest],) if self.split.rest else ()))

    def _conditions(self) -> Iterator[tuple[Run, str]]:
        """What a call must meet for its parts to be right, as in `run`, for `trace`."""
        name = type(self.block).__name__

        def answered(condition: Piece, answer: bool, block: nn.Module, arguments: Mapping[str, Any]) -> Any:
            inputs = self._inputs(arguments)
            value = condition(block, inputs[0], *inputs)
            return value != 0 if answer else value == 0  # not bool(value): the answer is a value of the graph

        def left(argument: str, default: Any, _: nn.Module, arguments: Mapping[str, Any]) -> Any:
            return arguments[argument] == default

        for condition, answer in self.conditions:
            yield partial(answered, condition, answer), f"{name} was cut for inputs of another shape or kind"
        for argument, default in self._defaults.items():
            if argument not in self.extra and default is not inspect.Parameter.empty:
                yield partial(left, argument, default), f"{name} was cut for calls without {argument}"
        rest = rest_name(self.block)
        if rest and not self.split.rest and set(self.extra) <= set(self._defaults):
            yield partial(left, rest, {}), f"{name} was cut for calls without {rest}"

    def _along(
        self, steps: tuple[tuple[Step, bool], ...], rectified: bool, block: nn.Module, arguments: Mapping[str, Any]
    ) -> Any:
        """The block along a path, for `trace`."""
        inputs = self._inputs(arguments)
        x = inputs[0]
        notes: dict[int, Any] = {}
        for step, is_open in steps:
            if step.pre is not None:
                x = step.pre(block, x, *inputs)
                rectified = step.pre.rectifies
            if is_open:
                branch = step.run_branch(block, x, inputs, notes)
                x = step.post(block, step.shortcut(block, x, *inputs) + branch, *inputs)
            else:
                x = close(step.shortcut, step.post, block, x, inputs, rectified)
            rectified = step.post.rectifies
        return self.returned(x, notes, inputs)
