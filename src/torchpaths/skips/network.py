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

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from itertools import chain, groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from torchpaths.copies import copied
from torchpaths.deciders.exit import Exit
from torchpaths.errors import CallError
from torchpaths.path import Path
from torchpaths.places.residual.place import ResidualPlace
from torchpaths.routed import Routed
from torchpaths.skips.call import Column, SkippingCall
from torchpaths.skips.channels import fold_norms, skip_channels
from torchpaths.skips.direct import Watch
from torchpaths.skips.doors import open_exits
from torchpaths.skips.exits import ExitingCall, HasExits
from torchpaths.skips.follow import Followed
from torchpaths.skips.panel import Panel
from torchpaths.skips.prices import Prices
from torchpaths.skips.residual import SkippingResidual
from torchpaths.skips.singly import Answer, UnlikeError, one_by_one, same_one_by_one
from torchpaths.skips.standing import Standing
from torchpaths.skips.structure import Structure
from torchpaths.skips.trial import apart, trial
from torchpaths.trace import Site, Trace

TRIED = 4
"""Images with which it is tried whether those of a batch are faster one by one."""


class Skipping(HasExits):
    """A routed network that does only opened work: ``(x, path=None) -> (y, trace)``, for evaluation, without gradients.

    Made by `skipping`. Shares parameters and buffers with the network it was made of, and follows its thresholds.
    Threads may share it. What it remembers between calls (joined gates, folded norms, direct calls, prices) is tied to
    the modules and tensors it was made of, and made anew where they change; after weights were written through
    ``parameter.data``, which cannot be noticed, after ``eval()``.

    While a norm in it trains, as `torchpaths.update_bn` lets them, nothing is left out: it answers as the network it
    was made of, in one run for each batch.

    Attributes:
        followed: the network that it was made of, whose tensors it shares; None for a copy of its own.
        prices: what was measured when first met: from how many open images on gathering does not pay, by block and
            batch, and how a layer's filters are left out fastest.
    """

    def __init__(self, net: Routed, exit: Exit | None = None) -> None:
        """
        Args:
            net: a network of its own structure (junctions, deciders), which this one takes over.
            exit: see `skipping`.
        """
        for junction in net.junctions:
            if type(junction._place) is ResidualPlace:
                junction.__dict__["_place"] = SkippingResidual(junction._place)
        self._channels = skip_channels(net.model)
        super().__init__(net.model, tuple(net.sites.values()), net.layout, net.example_shape)
        self.prices = Prices()
        self._watch: Watch | None = None
        self._standing: Standing | None = None
        self.followed: Followed | None = None
        self._columns: dict[Panel, dict[str, Column]] = {}
        self._panels = _panels(net.sites.values())
        self._structure = Structure(self.model)
        if net.training:
            self.eval()
        else:  # what its owner keeps in training mode stays there, as dropout may
            self.training = False
        batched = next((n for n, m in self.model.named_modules() if isinstance(m, _BatchNorm) and m.training), None)
        if batched is not None:
            raise CallError(
                f"{batched!r} is in training mode, in which the images of a batch touch each other, so none can be "
                "left out; call net.eval() before skipping(net)."
            )
        if exit is not None:
            open_exits(self, exit)

    def __getstate__(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "_watch": None,
            "_standing": None,
            "_columns": {},
            "_structure": None,
            "followed": None,
        }  # of these very modules

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        fold_norms(self.model)
        self._structure = Structure(self.model)

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
        for panel, _ in self.__dict__.get("_panels", ()):
            panel.forget()  # after ``eval()``, weights written through ``parameter.data`` count too
        self.__dict__["_standing"] = None
        super().train(False)
        return self

    def forward(self, x: Any = None, *inputs: Any, path: Path | None = None, **more: Any) -> tuple[Any, Trace]:
        """See `Routed.forward`.

        Raises:
            CallError: for an empty batch, or one on another device than the network; where a norm trains in a network
                that images leave.
        """
        if torch.compiler.is_dynamo_compiling():
            raise CallError(
                "what a skipping network runs depends on the images, so it cannot be compiled; run it as it is, or "
                "compile the network along chosen paths: torchpaths.compiled(net, paths)."
            )
        if self.followed is not None:
            self.followed.follow()
        self._structure.look()
        if self._structure.trains():
            return self._masked(x, *inputs, path=path, **more)
        path, inputs = self._chosen(path, inputs)
        self.check_places()
        args, more, (batch, there) = self._gathered(x, inputs, more)
        if batch == 0:
            raise CallError("a batch of no images; give at least one.")
        device = next((p.device for p in self.model.parameters()), there)
        if device != there:
            raise CallError(f"the images are on {there}, the network is on {device}; give x.to({str(device)!r}).")
        if path is not None:
            path.check(self.layout, batch)
        if batch > 1 and isinstance(x, Tensor) and not inputs and not more and self._singly(x, path):
            with suppress(UnlikeError):
                return one_by_one(self.forward, x, path, self.sites)
        return self._answer(args, path, batch, device, **more)

    def _masked(self, *inputs: Any, **more: Any) -> tuple[Any, Trace]:
        """What the network it was made of answers, without gradients."""
        if self.exits is not None:
            raise CallError(
                "a norm of this network trains, and would see only the images that have not left; let norms train in "
                "the network that it was made of, update_bn(net, batches): statistics are shared."
            )
        with torch.no_grad():
            return super().forward(*inputs, **more)

    def _singly(self, x: Tensor, path: Path | None) -> bool:
        """Whether images of a batch are to run one by one, since they close channels of their own."""
        own = [name for name in self._channels if path is None or name not in path or isinstance(path[name], Tensor)]
        if not own or self.exits is not None or self._structure.hooked():
            return False  # hooks see the batch
        asked = None if path is None else tuple((name, isinstance(path[name], Tensor)) for name in path)
        sides = x.shape[1:], x.dtype, x.stride()[1:], x.device, torch.get_num_threads()
        kind = self._structure.version, asked, *sides
        few = min(len(x), TRIED)
        limits = self.prices.limits
        keys = ("one by one", few, *kind), ("apart", few, *kind), ("same", len(x), *kind)
        if any(limits.get(key) == 0 for key in keys):
            return False
        if all(key in limits for key in keys):
            return True
        (together, alone), whole = self._ways(x[:few], path), self._ways(x, path)
        chosen = path if path is None or path.batch is None else path[:few]
        with trial(self.model, x.device) as kept:
            return (
                self.prices.pays(keys[0], alone, together, partial(same_one_by_one, together, alone))
                and self.prices.holds(keys[1], partial(apart, lambda x: self._masked(x, path=chosen)[0], x[:few], kept))
                and self.prices.holds(keys[2], partial(same_one_by_one, *whole))
            )

    def _ways(self, x: Tensor, path: Path | None) -> tuple[Callable[[], Answer], Callable[[], Answer]]:
        """Images together and one by one."""
        own = path if path is None or path.batch is None else path[: len(x)]
        together = partial(self._answer, (x,), own, len(x), x.device)
        return together, partial(one_by_one, self.forward, x, own, self.sites)

    def _answer(
        self, args: tuple[Any, ...], path: Path | None, batch: int, device: torch.device, **more: Any
    ) -> tuple[Any, Trace]:
        """What the network answers in one call."""
        watch = self._watch
        if watch is None or not watch.holds():
            places = [j._place for j in self.junctions if isinstance(j._place, SkippingResidual)]
            watch = self._watch = Watch([place.direct() for place in places])
        watch.look_for_hooks()
        columns: dict[str, Column] = {}
        for panel, names in self._panels:
            joined = panel.joined()
            if panel.asked:
                continue
            own = self._columns.get(panel)
            if own is None or own[names[0]][0] is not joined:
                numbered = enumerate(zip(names, panel.deciders, strict=True))
                own = self._columns[panel] = {name: (joined, i, decider) for i, (name, decider) in numbered}
            columns.update(own)
        slot, local = self.slot, self.slot.local
        before = local.call
        with torch.inference_mode(False), torch.no_grad():  # in inference mode tensors have no version
            call = self._call(path, batch, device, columns)
            standing = self._standing
            if batch == 1 and standing is not None and not self._structure.hooked() and standing.holds():
                call.folded.update(standing.folded)
            try:
                slot.running[id(call)] = None
                local.call = call
                y = call.run(partial(self.model, *args, **more))
            finally:
                local.call = before
                slot.running.pop(id(call), None)
            if call.met and not self._structure.hooked():
                self._standing = Standing(call.folded)
            return y, self._finished(call)

    def _call(self, path: Path | None, batch: int, device: torch.device, columns: dict[str, Column]) -> SkippingCall:
        if self.exits is None:
            return SkippingCall(path, batch, device, columns, self.prices)
        numbers = {name: number for number, name in enumerate(self.sites)}
        return ExitingCall(path, batch, device, columns, self.prices, self.exits, numbers, self.layout.inside)


def skipping(net: Routed, *, exit: Exit | None = None) -> Skipping:
    """A network that answers as ``net`` does in evaluation and does only opened work, at any batch size.

    Args:
        net: a routed network; it stays as it is. Parameters and buffers are shared, so training goes on in ``net``.
        exit: when an image is done before the network has finished, for networks with coded blocks. It leaves the batch
            behind the block at which it is, and its row of the output is ``log_softmax(-distances)`` of that block's
            distances to the codewords (`torchpaths.coding.decode`); rows of the others are the network's own. Where
            each stopped, and what it cost, say ``fast.stopped(trace)`` and ``fast.macs(trace)``. None: nobody stops.

    Returns:
        ``fast(x, path=None) -> (y, trace)``. Its modules are copies: whoever replaces a layer or sets a hook does so on
        ``fast.model``, or calls `skipping` again. Tensors that ``net`` gets, thresholds of its deciders and ``eps`` of
        its norms are followed; what is set on ``fast`` itself holds until ``net`` gets another.

    Raises:
        CallError: if a part of ``net`` that obeys a site was replaced; for a batch norm that was left in training mode
            while the network is in evaluation; with ``exit``, for a network that images cannot leave, which is tried
            out here, or that has exits already.
    """
    if isinstance(net, Skipping) and net.exits is not None:
        raise CallError("images leave this network early already; call skipping on the network that it was made of.")
    net.check_places()
    twin = copied(net, chain(net.parameters(), net.buffers()))
    followed = Followed(net, twin, net.followed if isinstance(net, Skipping) else None)
    made = Skipping(twin, exit)
    made.followed = followed
    return made


def _panels(sites: Iterable[Site]) -> list[tuple[Panel, tuple[str, ...]]]:
    """Neighbouring deciders of one unit that are perceptrons of equal width, a panel for each run, with their sites."""

    def width(site: Site) -> int | None:
        decider = site.decider
        joins = decider is not None and decider.by_perceptron and len(site.units) == 1
        return decider.perceptron().channels if joins else None  # type: ignore[union-attr]

    found = []
    for channels, run in groupby(sites, key=width):
        if channels is not None:
            group = [(site.name, site.decider) for site in run if site.decider is not None]
            found.append((Panel([decider for _, decider in group]), tuple(name for name, _ in group)))
    return found
