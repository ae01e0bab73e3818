"""``skipping(net)``: the same answers as the masked network, and only opened work is done, at any batch size.

A mask saves MACs on paper; users of such networks complain of it more than of anything else. Here a block that some
images of a batch open gathers those images, runs its branch on them alone and adds the result back (as
``drop_add_residual_stochastic_depth`` of DINOv2 does in training); a block that all open runs as ever, and one that
none opens does not run. Beside that, three things keep the time near the MACs:

* What a junction gives is remembered with its version. If the next one gets that very tensor, untouched, then gates
  need not look at the same features again (`panel`), a ReLU of a ReLU's output is left out, and a tensor that nobody
  else refers to is written in place: a new one of a hundred megabytes costs more than the arithmetic on it.
* Rows are copied in memory order: ``index_select`` of a channels_last tensor takes ten times as long.
* `prices` measures once on the device from how many images on gathering would not pay.
"""

from __future__ import annotations

import copy
import math
import sys
from collections.abc import Hashable, Iterable, Mapping
from functools import partial
from itertools import chain, groupby
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from torchpaths.direct import direct, hooks
from torchpaths.errors import CallError
from torchpaths.gradients import mix
from torchpaths.junction import Call, Decision, Inputs, Junction, Pooling, Routed, Site, Trace, extent
from torchpaths.panel import Panel
from torchpaths.parts import Piece
from torchpaths.path import Path
from torchpaths.prices import Prices
from torchpaths.residual import ResidualJunction, Step
from torchpaths.rows import add_rows, take_rows

Columns: TypeAlias = dict[str, tuple[Panel, int]]
"""Site -> the panel that scores it, and which of its scores that is."""


class Skipping(Routed):
    """A routed network that does only opened work: ``(x, path=None) -> (y, trace)``, for evaluation, without gradients.

    Made by `skipping`. Shares parameters and buffers with the network it was made of.

    Attributes:
        prices: from how many open images on gathering does not pay, by block and batch; measured when first met.
    """

    def __init__(self, net: Routed) -> None:
        """
        Args:
            net: a network of its own structure (junctions, deciders), which this one takes over.
        """
        junctions = {j: _skipping(j) for j in net.junctions}
        for parent in list(net.model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Junction):
                    parent._modules[name] = junctions[child]
        super().__init__(net.model, tuple(net.sites.values()), tuple(junctions.values()), net.layout, net.example_shape)
        self.prices = Prices()
        self._columns = _panels(net.sites.values())
        self._hooks: list[Mapping[int, Any]] = []
        self.eval()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_hooks": []}  # those of this process's modules

    def train(self, mode: bool = True) -> Skipping:
        """
        Raises:
            CallError: for training mode: there a mask and left-out work differ, as norms see other images.
        """
        if mode:
            raise CallError(
                "a skipping network is for evaluation only: in training, batch normalisation would see only the open "
                "images. Train the routed network it was made of; the weights are shared."
            )
        super().train(False)
        return self

    def forward(self, x: Inputs, path: Path | None = None, **more: Any) -> tuple[Any, Trace]:
        """See `Routed.forward`.

        Raises:
            CallError: for an empty batch, or one on another device than the network.
        """
        if torch.compiler.is_compiling():
            raise CallError(
                "what a skipping network runs depends on the images, so it cannot be compiled; run it as it is, or "
                "compile the network along chosen paths: torchpaths.compiled(net, paths)."
            )
        batch, there = extent(x)
        if batch == 0:
            raise CallError("a batch of no images; give at least one.")
        device = next((p.device for p in self.model.parameters()), there)
        if device != there:
            raise CallError(f"the images are on {there}, the network is on {device}; give x.to({str(device)!r}).")
        if path is not None:
            path.check(self.layout, batch)
        for panel in {panel for panel, _ in self._columns.values()}:
            panel.refresh()
        if not self._hooks:
            self._hooks = hooks(self.model)
        call = _Run(path, batch, device, self._columns, self.prices, any(self._hooks))
        for junction in self.junctions:
            junction.__dict__["call"] = call  # past Module.__setattr__, which takes longer than closing a small block
        try:
            with torch.inference_mode(False), torch.no_grad():  # in inference mode tensors have no version
                return self.model(x, **more), call.finish()
        finally:
            for junction in self.junctions:
                junction.__dict__["call"] = None


def skipping(net: Routed) -> Skipping:
    """A network that answers as ``net`` does in evaluation and does only opened work, at any batch size.

    Args:
        net: a routed network; it stays as it is. Parameters and buffers are shared, so training goes on in ``net``.

    Returns:
        ``fast(x, path=None) -> (y, trace)``.
    """
    tensors = chain(net.parameters(), net.buffers())
    return Skipping(copy.deepcopy(net, {id(t): t for t in tensors}))


def _skipping(junction: Junction) -> Junction:
    return _SkippingResidual(junction) if isinstance(junction, ResidualJunction) else junction


def _panels(sites: Iterable[Site]) -> Columns:
    """Neighbouring deciders that are perceptrons of equal width, a panel for each run of them."""

    def width(site: Site) -> int | None:
        return None if site.decider is None or not site.decider.by_score else site.decider.perceptron().channels

    columns: Columns = {}
    for channels, run in groupby(sites, key=width):
        if channels is not None:
            group = [(site.name, site.decider) for site in run if site.decider is not None]
            panel = Panel([decider for _, decider in group])
            columns.update({name: (panel, i) for i, (name, _) in enumerate(group)})
    return columns


class _Run(Call):
    """A call that knows the last junction's output, and what holds of it until somebody touches it.

    Attributes:
        hooked: whether a module of the network has a hook.
        value: what the last junction gave; None before the first.
        rectified: whether that is the output of a ReLU.
        own: whether nobody else refers to it, so that it may be written.
    """

    gathers = True

    def __init__(
        self, path: Path | None, batch: int, device: torch.device, columns: Columns, prices: Prices, hooked: bool
    ) -> None:
        super().__init__(path, batch, device, grad=False)
        self.hooked = hooked
        self.columns = columns
        self.prices = prices
        self.value: Tensor | None = None
        self.version = math.nan
        self.rectified = False
        self.own = False
        self._rows: dict[tuple[str, int], Tensor | bool | None] = {}
        self._seen: tuple[Panel, Tensor | list[float]] | None = None
        self._scored: dict[str, float] = {}

    def enter(self, x: Tensor, references: int) -> None:
        """A junction got ``x``, which ``references`` refer to: what is known holds on, or is forgotten."""
        if x is self.value and _version(x) == self.version:
            self.own = self.own and references <= _ENTERED and _shares(x) <= _ALONE
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

    def decide(self, site: Site, x: Tensor, pool: Pooling) -> tuple[Tensor, Decision]:
        """See `Call.decide`. The scores of a panel are kept until the features change."""
        place = self.columns.get(site.name)
        forced = self.path is not None and site.name in self.path
        if place is None or forced or site.name in self.trace or site.decider is None or not site.decider.by_score:
            return super().decide(site, x, pool)
        panel, column = place
        if self._seen is None or self._seen[0] is not panel:
            x, features = pool(x)
            self._seen = panel, panel.hidden(features) if self.batch == 1 else panel(features)
        seen = self._seen[1]
        if isinstance(seen, list):
            number = self._scored[site.name] = panel.score(seen, column)
            decision = self.whole((number > site.decider.threshold,))
        else:
            score = seen[:, column : column + 1]
            opened = score > site.decider.threshold
            decision = Decision(opened, opened.float(), score)
        self.trace[site.name] = decision
        return x, decision

    def finish(self) -> Trace:
        """The trace, complete: the scores of a single image are sorted to their sites at the end, all in one go."""
        if self._scored:
            scores = torch.tensor(list(self._scored.values()), device=self.device).view(-1, 1, 1).unbind()
            for name, score in zip(self._scored, scores, strict=True):
                decision = self.trace[name]
                self.trace[name] = Decision(decision.open, decision.z, score, decision.whole)
        return self.trace

    def rows(self, site: Site, unit: int, decision: Decision) -> Tensor | bool | None:
        """The images that open a unit (long ``[n]``); True or False where all or none do; None where the decision
        scales instead of choosing."""
        if decision.whole is not None:
            return decision.whole[unit]
        key = site.name, unit
        if key not in self._rows:
            opened = decision.open[:, unit]
            rows = opened.nonzero().flatten()
            alike = len(rows) in (0, self.batch)
            by_score = site.decider is not None and site.decider.by_score
            scales = not by_score and not bool((decision.z[:, unit] == opened).all())
            self._rows[key] = None if scales else len(rows) > 0 if alike else rows
        return self._rows[key]


class _SkippingResidual(ResidualJunction):
    """A residual block that runs its branches for the images that open them."""

    def __init__(self, junction: ResidualJunction) -> None:
        """
        Args:
            junction: taken over: block, parts and sites.
        """
        Junction.__init__(self, junction.sites)
        self.__dict__.update({k: v for k, v in junction.__dict__.items() if k != "call"})
        self._limits: dict[Hashable, int] = {}
        self._direct: tuple[Step, ...] = ()
        self._alone = not self.conditions and not self.extra  # nothing to look at but x

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_direct": (), "_limits": {}}  # they belong to these very modules and this machine

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """See `ResidualJunction.forward`."""
        call = self.call
        if not isinstance(call, _Run):
            return super().forward(x, *args, **kwargs)
        references = sys.getrefcount(x)
        call.enter(x, references)
        inputs = (x,) if self._alone and not args and not kwargs else self._prepare(x, args, kwargs)
        for step in self._steps(call):
            if step.pre is not None:
                x = step.pre(self.block, x, *inputs)
                call.leave(x, rectified=step.pre.rectifies, own=False)
            x = self._step(step, x, inputs, call)
        return x

    def _steps(self, call: _Run) -> tuple[Step, ...]:
        """The steps, past hooks where the network has none."""
        if call.hooked:
            return self.steps
        if not self._direct:
            self._direct = tuple(step.using(partial(direct, block=self.block)) for step in self.steps)
        return self._direct

    def _step(self, step: Step, x: Tensor, inputs: tuple[Any, ...], call: _Run) -> Tensor:
        x, decision = call.decide(step.site, x, step.pool)
        rows = call.rows(step.site, step.unit, decision)
        if isinstance(rows, Tensor) and not self._pays(step, x, inputs, len(rows), call):
            rows = None
        if rows is True:
            total, own = self._add(step, x, inputs), True
        elif rows is None:
            total, own = self._scaled(step, x, inputs, decision.z[:, step.unit]), True
        else:
            total = step.shortcut(self.block, x, *inputs)
            if rows is False and total is x and (step.post.identity or (step.post.rectifier and call.rectified)):
                return call.keep(x)
            own = call.own if total is x else sys.getrefcount(total) <= _LOCAL and _shares(total) <= _ALONE
            if isinstance(rows, Tensor):
                total = total if own else total.clone()
                own = True
                add_rows(total, rows, self._gathered(step, x, inputs, rows))
        y = self._post(step, total, inputs, own)
        call.leave(y, rectified=step.post.rectifies, own=own if y is total else _shares(y) <= _ALONE)
        return y

    def _gathered(self, step: Step, x: Tensor, inputs: tuple[Any, ...], rows: Tensor) -> Tensor:
        """The branch for some images. Of the block's own inputs a branch reads sizes only, so any rows will do."""
        return step.branch(self.block, take_rows(x, rows), *_some(inputs, len(rows)))

    def _add(self, step: Step, x: Tensor, inputs: tuple[Any, ...]) -> Tensor:
        """``shortcut + branch``, into the branch's own memory if nobody else refers to it."""
        branch = step.branch(self.block, x, *inputs)
        own = sys.getrefcount(branch) <= _LOCAL and _shares(branch) <= _ALONE
        shortcut = step.shortcut(self.block, x, *inputs)
        if own and branch.dtype == shortcut.dtype and branch.shape == shortcut.shape:
            return branch.add_(shortcut)
        return shortcut + branch

    def _scaled(self, step: Step, x: Tensor, inputs: tuple[Any, ...], z: Tensor) -> Tensor:
        """``shortcut + z * branch`` for all images, ``z`` float ``[batch]``."""
        branch = step.branch(self.block, x, *inputs)
        return mix(
            step.shortcut(self.block, x, *inputs), branch, z.view(-1, *(1,) * (branch.dim() - 1)).to(branch.dtype)
        )

    def _post(self, step: Step, total: Tensor, inputs: tuple[Any, ...], own: bool) -> Tensor:
        if step.post.rectifier:
            return total.relu_() if own else total.relu()
        return step.post(self.block, total.clone() if step.post.in_place and not own else total, *inputs)

    def _pays(self, step: Step, x: Tensor, inputs: tuple[Any, ...], opened: int, call: _Run) -> bool:
        """Whether gathering so many images is cheaper than running for all."""
        met = (step.site.name, step.unit, x.shape, x.dtype, x.stride(), torch.get_num_threads())
        if met not in self._limits:
            self._limits[met] = self._limit(step, x.clone(), inputs, met[2:], call.prices)
        return opened <= self._limits[met]

    def _limit(self, step: Step, x: Tensor, inputs: tuple[Any, ...], kind: tuple[Hashable, ...], prices: Prices) -> int:
        """The most images with which gathering pays, timed on ``x``, which is written into."""
        z = torch.ones(len(x), device=x.device)
        total = step.shortcut(self.block, x, *inputs).clone()

        def gathering(count: int) -> None:
            rows = torch.arange(count, device=x.device)
            add_rows(total, rows, self._gathered(step, x, inputs, rows))

        code = step.branch.source if isinstance(step.branch, Piece) else step.branch
        shapes = tuple(p.shape for p in self.block.parameters())
        return prices.limit(
            (code, shapes, x.device, *kind), len(x), partial(self._scaled, step, x, inputs, z), gathering
        )


def _some(inputs: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    """The block's inputs for so many images."""
    return (inputs[0][:count], *inputs[1:])


def _version(x: Tensor) -> float:
    """How often it was written into; NaN, which equals nothing, where that is not counted."""
    return math.nan if x.is_inference() else x._version


def _shares(x: Tensor) -> int:
    """How many tensors use the memory of ``x``, itself and the count's own handle included."""
    return int(torch._C._storage_Use_Count(x.untyped_storage()._cdata))


class _Counting(nn.Module):
    """Counts references as a junction's forward would, to a tensor that only the chain and a call's `_Run` refer to."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = torch.zeros(1)
        self.references = 0

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.references = sys.getrefcount(x)
        y = x + 1
        self.kept = y
        return y


def _count_entered() -> int:
    first, second = _Counting(), _Counting()
    keeper = nn.Sequential(first, second)
    keeper(torch.zeros(1))
    return second.references


def _count_local() -> tuple[int, int]:
    x = torch.zeros(1)
    return sys.getrefcount(x), _shares(x)


# How many references a value has that only a chain's loop, the call and the junction itself refer to, counted in this
# interpreter rather than assumed. One more means that somebody else could see it being written.
_ENTERED = _count_entered()
_LOCAL, _ALONE = _count_local()
