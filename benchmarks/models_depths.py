"""One architecture as a network of many depths: ``depths(make, x) -> Depths``.

Random weights, no downloads, prepared as in `models_check`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from models_check import TOLERANCE, VISIBLE, relative, weights
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.errors import RouteError
from torchpaths.outputs import answer
from torchpaths.places.residual.find import ByHand


@dataclass
class Depths:
    """What was found for one architecture.

    Attributes:
        outcome: "passed", "failed" (routed, and a law does not hold) or "not routed".
        reason: why not passed.
        count: networks of different depth in it.
        base: share of the MACs that the smallest of them has.
        seconds: spent.
    """

    outcome: str = "passed"
    reason: str = ""
    count: int = 0
    base: float = 1.0
    seconds: float = 0.0


def depths(make: Callable[[], nn.Module], x: Tensor, by_hand: ByHand | None = None, seed: int = 0) -> Depths:
    """Give an architecture depths and hold it to three laws: the largest depth is the original bit for bit, the
    smallest moves the output, and it is what `extract` cuts out.

    Args:
        make: builds it.
        x: two images, ``[2, ...]``.
        by_hand: blocks taken apart by hand.
        seed: of the weights.
    """
    start = time.perf_counter()
    model = weights(make, seed)
    method = tp.AdaptiveDepth()
    with torch.no_grad():
        original = answer(model(x)).clone()
        try:
            net = tp.route(model, method, example=x, residuals=by_hand)
        except RouteError as error:
            return Depths("not routed", str(error), seconds=time.perf_counter() - start)
        base = method.path(net, True)
        full, smallest = (answer(net(x, path)[0]) for path in (method.path(net, False), base))
        cut = answer(tp.extract(net, base, example=x)(x))
    broken = [
        (not torch.equal(full, original), "the largest depth is not the original"),
        (not relative(smallest, original) >= VISIBLE, "the smallest depth hardly moves the output"),
        (not relative(cut, smallest) <= TOLERANCE, "the smallest depth is not what `extract` cuts out"),
    ]
    reason = "; ".join(reason for broke, reason in broken if broke)
    share = base.cost(net).macs / net.layout.plain.macs
    return Depths("failed" if reason else "passed", reason, 2 ** len(net.sites), share, time.perf_counter() - start)
