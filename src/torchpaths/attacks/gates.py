"""Which way an attack's gradient takes at a gate: ``through`` it or ``around`` it.

A hard decision has no gradient. An attacker who goes *through* a gate gives it that of the straight-through estimator
it was trained with (ConvNet-AIG, eq. 8; network decoupling, eq. 4), and so sees that another decision would hurt more.
One who goes *around* it holds what the gates decided for a constant, as a path chosen from outside is. What the network
answers is the same for both.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from torchpaths.copies import copied
from torchpaths.deciders.gate import Gate
from torchpaths.errors import CallError
from torchpaths.inputs import device_of
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.trace import Decider, Decision
from torchpaths.trust.answers import Batches, decides_by_image

Way: TypeAlias = Literal["through", "around"]


class Passed(Decider):
    """A decider that decides as the one it stands for, and whose ``z`` has the gradient of a way."""

    def __init__(self, decider: Decider, way: Way) -> None:
        """
        Args:
            decider: one that looks at features.
            way: see above.
        """
        super().__init__()
        self.decider = decider
        self.way = way
        self.by_score, self.threshold, self.draws = decider.by_score, decider.threshold, decider.draws
        self.reads = decider.reads

    def forward(self, features: Tensor, *before: Any) -> Decision:
        made: Decision = self.decider(features, *before)
        if self.way == "around":
            return dataclasses.replace(made, z=made.z.detach())
        if made.z.requires_grad or made.score is None:  # gates that draw have it already; nobody can give it to chance
            return made
        soft = self.decider.soft(made.score)
        return dataclasses.replace(made, z=made.z + (soft - soft.detach()))

    def __repr__(self) -> str:
        return f"{self.way} {self.decider!r}"


def passing(net: Routed, way: Way) -> Routed:
    """A network that answers as ``net`` does, in evaluation, and whose gates pass gradients in a way. It shares all
    weights.

    Raises:
        CallError: for another way.
    """
    check_way(way)
    made = _sharing(net)
    for name, site in made.sites.items():
        if site.decider is not None and decides_by_image(site):
            site.decider = Passed(site.decider, way).eval()
            made.deciders._modules[name.replace(".", "/")] = site.decider
    return made


def check_way(way: str) -> None:
    """Raise `CallError` unless there is such a way."""
    if way not in get_args(Way):
        raise CallError(f"gradient={way!r}; choose one of {', '.join(get_args(Way))}.")


def drawing(net: Routed) -> Routed | None:
    """The same network, in evaluation and sharing all weights, whose gates draw as in training; None where there is no
    gate that could."""
    made = _sharing(net)
    gates = [site.decider for site in made.sites.values() if isinstance(site.decider, Gate)]
    for gate in gates:
        gate.inference = "sample"
    return made if gates else None


def thriftier(net: Routed, batches: Batches, path: Path | None, share: float) -> Routed | None:
    """The same network, in evaluation and sharing all weights, whose thresholds are all higher by as much as leaves a
    share of what opens open; None where nothing opens by a score.

    Args:
        net: a routed network.
        batches: images to set it by, labelled, as the network takes them.
        path: units chosen from outside.
        share: of the units that are opened by a score, above 0 and below 1. What stands behind them may decide
            otherwise then, so this is not met exactly.
    """
    made = _sharing(net)
    gates = {n: s.decider for n, s in made.sites.items() if s.decider is not None and s.decider.by_score}
    device, above = device_of(net), []
    with torch.no_grad():
        for x, _ in batches if gates else ():
            for name, decision in made(x.to(device), path)[1].items():
                if name in gates and decision.score is not None:
                    ran = slice(None) if decision.ran is None else decision.ran
                    margin = (decision.score - gates[name].threshold)[ran]
                    above.append(margin[decision.open[ran]].flatten().double().cpu())
    margins = torch.cat(above).numpy() if above else np.zeros(0)
    if not len(margins):
        return None
    higher = float(np.quantile(margins, 1 - share))
    for gate in gates.values():
        gate.threshold += higher
    return made


def _sharing(net: Routed) -> Routed:
    return copied(net, itertools.chain(net.parameters(), net.buffers())).eval()
