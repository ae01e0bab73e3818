"""What early exit would do over a data set, at every threshold: ``exit_curve``; and the threshold to choose:
``calibrated`` (Coded ResNeXt, section 4.4).

The network runs once, to its end, and for every image it is kept where it could stop and how sure the decoders were. At
a threshold an image stops at the first block that is sure enough; so as the threshold falls, the confidences met on the
way are events at which one image moves to an earlier block, and all thresholds follow from one sorted pass over them.

Calibrate on training data, or on data held out from it, never on what accuracy is then reported on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from torchpaths.coding.decode import decoders
from torchpaths.deciders.exit import Exit, Heard
from torchpaths.errors import BudgetError, DataError
from torchpaths.inputs import device_of
from torchpaths.places.channels.energy import ENERGIES
from torchpaths.routed import Routed
from torchpaths.skips.exits import said
from torchpaths.skips.network import Skipping, skipping
from torchpaths.surveys.checks import batches, check_logits, class_numbers, opened_units
from torchpaths.trace import Trace

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Curve:
    """Early exit over a data set, a row for each threshold at which something changes, from none stopping on.

    Attributes:
        agree: decoders in a row, see `Exit`.
        sites: where images may stop, in order of execution.
        confidences: the lowest at which an image stops in this row, float64 ``[row]``, falling; the first is infinite,
            where nobody does.
        accuracy: of all images, 0 to 1, float64 ``[row]``.
        exited: accuracy of those that stopped early, float64 ``[row]``; NaN where none did.
        macs: of one image, the mean, float64 ``[row]``.
        shares: of the images, which stopped at each site, and in the last column which ran to the end; float64
            ``[row, site + 1]``.
        images: how many there were.
    """

    agree: int
    sites: tuple[str, ...]
    confidences: Floats
    accuracy: Floats
    exited: Floats
    macs: Floats
    shares: Floats
    images: int

    @property
    def thresholds(self) -> Floats:
        """One for each row, half-way between two confidences that were met, so that rounding tips no image."""
        met = self.confidences[1:]
        return np.concatenate([self.confidences[:1], (met + np.append(met[1:], 0.0)) / 2])

    def at(self, threshold: float) -> int:
        """The row of a threshold."""
        return int(np.searchsorted(-self.confidences, -threshold, "right")) - 1

    def exit(self, *, accuracy: float | None = None, loss: float | None = None) -> Exit:
        """The lowest threshold, at which most images stop, that keeps what is asked for.

        Args:
            accuracy: that images which stop early are to have at least, 0 to 1.
            loss: how much the accuracy of all images may fall below that without exits, 0 to 1. Where even the surest
                image costs more the threshold is infinite and nobody stops.

        Raises:
            BudgetError: unless exactly one is given, in range, and for an accuracy that no threshold reaches.
        """
        name, value = ("accuracy", accuracy) if loss is None else ("loss", loss)
        if (accuracy is None) == (loss is None):
            raise BudgetError("give either accuracy, of the images that stop early, or loss, of accuracy in all.")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise BudgetError(f"{name}={value!r}: a share of the images, from 0 to 1.")
        if loss is not None:
            # A hair's breadth, since both are sums of the same shares in another order.
            [kept] = np.nonzero(self.accuracy >= self.accuracy[0] - loss - 1e-12)
        else:
            [kept] = np.nonzero(np.nan_to_num(self.exited, nan=-1.0) >= value)
        if len(kept) == 0:
            raise BudgetError(
                f"accuracy={value!r}: {_best(self.exited, self.agree)}Ask for no more, or say what may be lost in all: "
                "loss=0.01."
            )
        return Exit(self.agree, float(self.thresholds[kept[-1]]))

    def to_json(self) -> dict[str, Any]:
        """As JSON data; an infinite threshold and a NaN are None."""

        def plain(values: Floats) -> list[float | None]:
            return [v if math.isfinite(v) else None for v in values.tolist()]

        return {
            "agree": self.agree,
            "images": self.images,
            "sites": list(self.sites),
            "thresholds": plain(self.thresholds),
            "accuracy": plain(self.accuracy),
            "exited": plain(self.exited),
            "macs": plain(self.macs),
            "shares": self.shares.tolist(),
        }


def exit_curve(net: Routed, loader: Iterable[tuple[Tensor, Tensor]], *, agree: int = 2) -> Curve:
    """What early exit would do, at every threshold; one pass in which nobody stops. ``net`` stays as it is.

    Args:
        net: a routed network with coded blocks.
        loader: any iterable of (x, y): images and int labels ``[batch]``. Training data, see above.
        agree: decoders in a row, see `Exit`.

    Raises:
        RouteError: for an ``agree`` below 1.
        CallError: for a network that images cannot leave, see `torchpaths.skipping`.
        DataError: no images, or labels that are no class numbers.
        RunError: scores that are not finite.
    """
    fast = skipping(net, exit=Exit(agree, math.inf))
    device = device_of(fast)
    kept: list[tuple[Floats, NDArray[np.bool_], Ints]] = []
    for number, (x, y) in enumerate(batches(loader)):
        logits, trace = fast(x.to(device, non_blocking=True))
        check_logits(logits, len(x), number)
        kept.append(_outcomes(fast, trace, logits, class_numbers(y, len(x), logits.shape[1], number), agree))
    if not kept:
        raise DataError("the loader gave no images, so there is nothing to calibrate on; check its split and folder.")
    sure, right, macs = (np.concatenate(column) for column in zip(*kept, strict=True))
    return _curve(sure, right, macs, agree, tuple(fast.exits.behind) if fast.exits is not None else ())


def calibrated(
    net: Routed,
    loader: Iterable[tuple[Tensor, Tensor]],
    *,
    agree: int = 2,
    accuracy: float | None = None,
    loss: float | None = None,
) -> Exit:
    """The lowest threshold, at which most images stop, that keeps what is asked for on training data.

    Of all thresholds at which images that stop early have at least ``accuracy``, or at which all images together lose
    at most ``loss`` of accuracy, the lowest. Several from one pass: ``exit_curve(net, loader).exit(accuracy=...)``.

    Args:
        net: a routed network with coded blocks.
        loader: training data, (x, y).
        agree: decoders in a row, see `Exit`.
        accuracy: see `Curve.exit`.
        loss: see `Curve.exit`.

    Raises:
        BudgetError: see `Curve.exit`.
        CallError, DataError, RouteError, RunError: see `exit_curve`.
    """
    return exit_curve(net, loader, agree=agree).exit(accuracy=accuracy, loss=loss)


def _outcomes(
    fast: Skipping, trace: Trace, logits: Tensor, labels: Ints, agree: int
) -> tuple[Floats, NDArray[np.bool_], Ints]:
    """What would come of stopping at each coded site, and at the end in the last column.

    Returns:
        The confidence where ``agree`` decoders agree and -1 where not, ``[batch, site]``; whether the answer is right,
        and MACs, ``[batch, site + 1]``.
    """
    batch, exits = len(labels), fast.exits
    assert exits is not None
    coded = exits.behind
    agreed = Exit(agree, 0.0)
    heard = Heard.nothing(batch, logits.device)
    told = decoders(fast, trace)
    opened, names = opened_units(trace, fast.layout, batch), list(fast.sites)
    before = np.array([names.index(unit.site) for unit in fast.layout.units])
    sure = np.full((batch, len(coded)), -1.0)
    right = np.zeros((batch, len(coded) + 1), bool)
    macs = np.zeros((batch, len(coded) + 1), np.int64)
    for column, name in enumerate(coded):
        if name in told:
            decision = trace[name]
            heard = heard.then(told[name], said(decision.response[ENERGIES], decision.ran))
            sure[:, column] = torch.where(agreed(heard), heard.confidence, -1.0).double().cpu().numpy()
            right[:, column] = told[name].argmin(1).cpu().numpy() == labels
            macs[:, column] = fast.layout.costs(opened & (before <= names.index(name)))[:, 0] - exits.behind[name]
    right[:, -1] = logits.argmax(1).cpu().numpy() == labels
    macs[:, -1] = fast.layout.costs(opened)[:, 0]
    return sure, right, macs


def _curve(sure: Floats, right: NDArray[np.bool_], macs: Ints, agree: int, sites: tuple[str, ...]) -> Curve:
    """See `_outcomes` for the arguments, of all images."""
    images, count = sure.shape
    # An image stops at a block at some threshold if no earlier one was as sure.
    surest = np.maximum.accumulate(np.concatenate([np.full((images, 1), -1.0), sure], 1), 1)
    stops = sure > surest[:, :-1]
    following = np.full(images, count)  # where it would stop at a higher threshold
    events: list[tuple[Floats, Ints, Ints, Ints]] = []
    for column in reversed(range(count)):
        [rows] = np.nonzero(stops[:, column])
        events.append((sure[rows, column], rows, np.full(len(rows), column), following[rows]))
        following[rows] = column
    met, rows, to, of = (np.concatenate(part) for part in zip(*events, strict=True))
    order = np.argsort(-met, kind="stable")
    met, rows, to, of = met[order], rows[order], to[order], of[order]

    def summed(first: float, changes: NDArray[Any]) -> Floats:
        return first + np.concatenate([[0.0], np.cumsum(changes, dtype=np.float64)])

    hits = summed(right[:, -1].sum(), right[rows, to].astype(int) - right[rows, of])
    early = summed(0, right[rows, to].astype(int) - np.where(of < count, right[rows, of], False))
    work = summed(macs[:, -1].sum(), macs[rows, to] - macs[rows, of])
    at = [summed(images if c == count else 0, (to == c).astype(int) - (of == c)) for c in range(count + 1)]
    # Of equal confidences all images move at once: the row behind the last of them.
    last = np.concatenate([[0], 1 + np.nonzero(np.append(met[1:] != met[:-1], len(met) > 0))[0]])
    levels = np.concatenate([[np.inf], met[last[1:] - 1]])
    shares = np.stack(at, 1)[last] / images
    stopped = images - np.stack(at, 1)[last, -1]
    with np.errstate(invalid="ignore"):
        exited = early[last] / stopped
    return Curve(agree, sites, levels, hits[last] / images, exited, work[last] / images, shares, images)


def _best(exited: Floats, agree: int) -> str:
    """What could be had."""
    if np.isnan(exited).all():
        return f"no image has {agree} decoders in a row that agree, so none could stop; take a smaller agree. "
    return f"images that stop early reach {np.nanmax(exited):.4f} at best. "
