"""How often gates open in use, beside how often they do as trained, and how often they are to: ``Watched``.

In training gates draw, in use they take the likelier side (`torchpaths.calibrating` tells what that does). Both rates
come from one pass: a gate's mean probability of being open is the rate at which it would draw "open".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from torchpaths.layout import Layout
from torchpaths.methods.base import Method
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.trace import Trace

Json = dict[str, Any]


class Watched:
    """A network as `torchpaths.survey` takes one, that keeps sums of the probabilities with which its gates open.

    Args:
        net: any.
    """

    def __init__(self, net: Routed) -> None:
        self.net = net
        self._sums: dict[str, tuple[float, int, float]] = {}

    @property
    def layout(self) -> Layout:
        """The network's."""
        return self.net.layout

    def modules(self) -> Iterator[nn.Module]:
        """The network's."""
        return self.net.modules()

    def parameters(self) -> Iterator[nn.Parameter]:
        """The network's."""
        return self.net.parameters()

    def eval(self) -> Any:
        """Sets the network to evaluation."""
        return self.net.eval()

    def __call__(self, x: Tensor, path: Path | None = None) -> tuple[Tensor, Trace]:
        y, trace = self.net(x, path)
        for site, made in trace.items():
            if made.score is not None:
                score, opened = (t if made.ran is None else t[made.ran] for t in (made.score, made.open))
                drawn, count, ran = self._sums.get(site, (0.0, 0, 0.0))
                chance = float(score.sigmoid().double().sum())
                self._sums[site] = drawn + chance, count + score.numel(), ran + float(opened.sum())
        return y, trace

    def told(self, method: Method | None) -> Json:
        """Mean rates over the gates that have a target: what is asked for, as drawn in training, and in use.

        Args:
            method: with which the network was routed.
        """
        targets = {} if method is None else method.target_rates(self.net)
        rows = [(t, *self._sums[site]) for site, t in targets.items() if self._sums.get(site, (0.0, 0, 0.0))[1]]
        if not rows:
            return {}
        means = (sum(each) / len(rows) for each in zip(*((t, d / n, r / n) for t, d, n, r in rows), strict=True))
        return {"gate_rates": dict(zip(("target", "sampled", "argmax"), means, strict=True))}
