"""Are the gates alive? Rate, entropy and class dependence of each gate, and warnings when some have collapsed.

A gate that is always or never open is no gate: it saves nothing or has cut its block out. One whose decision varies but
does not depend on the class may still follow the image's difficulty, or just the noise; one that depends on the class
is what ConvNet-AIG's figure 4 shows. With p the share of images that opened a unit and its entropy
H(p) = -p log2 p - (1-p) log2 (1-p), the class dependence is the mutual information of class and decision as a share of
it, (H(p) - sum_c P(c) H(p_c)) / H(p). Estimated from n images it is biased upwards, by about
(classes - 1) / (2 n ln 2 H(p)).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import entr

from torchpaths.errors import PathError, near
from torchpaths.surveys.counts import Floats
from torchpaths.surveys.result import Survey

ALWAYS = 0.999
NEVER = 0.001


@dataclass(frozen=True)
class GateHealth:
    """One gated unit.

    Attributes:
        unit: its name.
        rate: share of images that opened it.
        entropy: of the decision over images, in bits, 0 to 1.
        dependence: share of the entropy that the class explains, 0 to 1; 0 for a decision that never varies.
        spread: standard deviation over classes of their rates, 0 to 0.5.
        warning: what is wrong with it, or the empty string.
    """

    unit: str
    rate: float
    entropy: float
    dependence: float
    spread: float
    warning: str


@dataclass(frozen=True)
class Health:
    """All gates of a network; ``mean`` and ``std`` over gates have the keys rate, entropy, dependence and spread;
    ``closed`` are the units that nothing decides and no image opened."""

    gates: tuple[GateHealth, ...]
    mean: dict[str, float]
    std: dict[str, float]
    closed: tuple[str, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """A sentence for each collapsed gate."""
        return [f"{gate.unit}: {gate.warning}" for gate in self.gates if gate.warning]

    @property
    def told(self) -> list[str]:
        """A sentence for each way in which gates have collapsed, however many have."""
        groups: dict[str, list[str]] = {}
        for gate in self.gates:
            if gate.warning:
                groups.setdefault(gate.warning.partition(" ")[0], []).append(gate.unit)
        return [_told(how, units, len(self.gates)) for how, units in groups.items()]

    def rows(self) -> list[str]:
        """Lines of text for a log: a heading, a line for each gate, mean and spread over gates, and the warnings."""
        if not self.gates:
            closed = f"; closed for every image: {', '.join(self.closed)}" if self.closed else ""
            return [f"no gates: nothing in this network is decided by the input{closed}"]
        width = max(4, *(len(gate.unit) for gate in self.gates))
        lines = [f"{'gate':<{width}}   rate  entropy  by class  spread"]
        for gate in self.gates:
            numbers = _numbers(gate.rate, gate.entropy, gate.dependence, gate.spread)
            lines.append(f"{gate.unit:<{width}} {numbers}{'  ! ' + gate.warning.split(',')[0] if gate.warning else ''}")
        for name, values in (("mean", self.mean), ("std", self.std)):
            lines.append(f"{name:<{width}} {_numbers(*values.values())}")
        return lines + [f"warning: {warning}" for warning in self.told]


def _told(how: str, units: list[str], gates: int) -> str:
    """Of units that are always or never open, what to do."""
    some = ", ".join(units[:3]) + (f" and {len(units) - 3} more" if len(units) > 3 else "")
    which = some if len(units) == 1 else f"{f'all {gates}' if len(units) == gates else len(units)} gates ({some})"
    are = "is" if len(units) == 1 else "are"
    if how == "always":
        return (
            f"{which} {are} open for every image and save{'s' if len(units) == 1 else ''} nothing; early in training "
            "that is usual, later lower the target or raise the rate loss's weight"
        )
    return f"{which} {are} never open, as if cut out; raise the target or start more open"


def _numbers(rate: float, entropy: float, dependence: float, spread: float) -> str:
    return f"{rate:>6.1%} {entropy:>8.3f} {dependence:>9.1%} {spread:>7.3f}"


def entropy(p: NDArray[np.float64]) -> Floats:
    """Entropy in bits of a yes-or-no decision with probability ``p``, elementwise; 0 at 0 and 1."""
    return np.asarray((entr(p) + entr(1 - p)) / np.log(2), dtype=np.float64)


def gate_health(survey: Survey, gates: Collection[str] | None = None) -> Health:
    """Health of every unit of the gated sites.

    Args:
        survey: of the network without a forced path at its gates.
        gates: the sites that have a decider, since units that nothing decides are no gates; by default those whose
            decisions carried a score while surveying.

    Raises:
        PathError: for a gate that the survey's network does not have.
    """
    chosen = survey.decided if gates is None else gates
    sites = survey.layout.sites
    for site in chosen:
        if site not in sites:
            raise PathError(f"no site {site!r} in this survey of {survey.layout.network}. {near(site, sites)}")
    present = survey.images > 0
    openness, share = survey.openness[present], survey.images[present] / survey.images.sum()
    rates = survey.rates
    bits = entropy(rates)
    information = np.maximum(bits - share @ entropy(openness), 0)
    dependence = np.divide(information, bits, out=np.zeros_like(bits), where=bits > 0)
    spread = openness.std(0)
    rows = tuple(
        GateHealth(
            unit.name,
            float(rates[i]),
            float(bits[i]),
            float(dependence[i]),
            float(spread[i]),
            _warning(float(rates[i])),
        )
        for i, unit in enumerate(survey.layout.units)
        if unit.site in chosen
    )
    keys = ("rate", "entropy", "dependence", "spread")
    columns = {key: [getattr(row, key) for row in rows] for key in keys}
    mean = {key: float(np.mean(column)) if column else float("nan") for key, column in columns.items()}
    std = {key: float(np.std(column)) if column else float("nan") for key, column in columns.items()}
    shut = (
        unit.name for unit, rate in zip(survey.layout.units, rates, strict=True) if unit.site not in chosen and not rate
    )
    return Health(rows, mean, std, tuple(shut))


def _warning(rate: float) -> str:
    if rate >= ALWAYS:
        return f"always open ({rate:.2%} of images), it saves nothing; lower its target or raise the rate loss's weight"
    if rate <= NEVER:
        return f"never open ({rate:.2%} of images), its block is cut out; raise its target rate or start it more open"
    return ""
