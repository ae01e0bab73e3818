"""``measure``: the honest meter. What a network really saves, beside the plain network, in one run.

FLOPs that fall while time does not are the loudest complaint about networks that skip. So one row holds both: MACs
counted on the very call that is timed (a mask that multiplies by 0 saves none), the time ratio from paired, interleaved
runs (`torchpaths.meter.timing`), and their quotient, the *gap*: 1.00 means that every saved MAC is saved time, 1.10
that a network with half the MACs takes 0.55 of the time. Every row says where it was measured
(`torchpaths.meter.setting`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from torchpaths.chosen import OperatingPoint, set_up
from torchpaths.errors import MeasureError
from torchpaths.extraction import plain
from torchpaths.meter.compare import Compile, Subject, compare
from torchpaths.meter.row import Measurement
from torchpaths.meter.timing import LEAST, Timer
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.routing import as_routed
from torchpaths.skips.network import skipping

SECONDS = 5.0
"""Timed work for each network and the plain one together."""


def measure(
    net: nn.Module,
    x: Tensor | Sequence[Tensor],
    path: Path | OperatingPoint | None = None,
    *,
    against: nn.Module | None = None,
    label: str | None = None,
    threads: int | None = None,
    compile: Compile | None = None,
    seconds: float = SECONDS,
    pairs: int = LEAST,
    seed: int = 0,
    timer: Timer | None = None,
) -> Measurement:
    """A network beside the plain one, in evaluation mode: MACs, time, gap, peak memory.

    Both run as they are given: on their device, in their dtype and memory format, under the autocast that is on. What
    is drawn by chance is drawn alike in every run, counted or timed. With ``compile`` both are compiled alike, and MACs
    are counted on the same call in eager mode, checked to have made the same decisions.

    Args:
        net: a routed network, what ``skipping`` made of one, or any module of one tensor, such as an extracted one.
        x: a batch, ``[batch, ...]``; or several of one shape, for networks that do more for one image than for another.
            A pair then runs each of them once, and figures are means over them.
        path: units chosen from outside, or a point of a front. A plain network is then routed first, measured along it
            by leaving out what is closed, and is itself what it stands beside.
        against: the plain network; left out for routed networks, whose original it then is (`torchpaths.extract.plain`,
            sharing weights).
        label: what to call it in the table; its class by default.
        threads: for torch's operators on the CPU, set for the time of measuring; None leaves them.
        compile: mode of torch.compile; None for eager.
        seconds: timed work, both networks together.
        pairs: at least so many, however long they take.
        seed: of the order of runs, and of what the network draws.
        timer: takes the times; by default the clock on the wall.

    Raises:
        MeasureError: no batch, an empty one, NaN in it, one the network cannot take, on another device or of another
            dtype; no plain network to measure against; no MACs to compare; a compiled network that decides otherwise.
        PathError: a path of another network.
        RouteError: a path for a plain module in which nothing can be closed.
        RunError: an output that is not finite.
    """
    name = type(net).__name__ if label is None else label
    [row] = measure_all(
        {name: net if path is None else (net, path)},
        x,
        against=against,
        threads=threads,
        compile=compile,
        seconds=seconds,
        pairs=pairs,
        seed=seed,
        timer=timer,
    )
    return row


def measure_all(
    nets: Mapping[str, nn.Module | tuple[nn.Module, Path | OperatingPoint]],
    x: Tensor | Sequence[Tensor],
    *,
    against: nn.Module | None = None,
    threads: int | None = None,
    compile: Compile | None = None,
    seconds: float = SECONDS,
    pairs: int = LEAST,
    seed: int = 0,
    timer: Timer | None = None,
) -> list[Measurement]:
    """Several networks beside one plain network, all interleaved in one run: rows that compare with each other.

    Args:
        nets: label -> network, or (network, path), or (network, point of a front). ``against`` may be left out if one
            of them is routed.
        x: see `measure`, as are the other arguments; ``seconds`` are spent for each network.

    Returns:
        A row for each, in order.
    """
    if not nets:
        raise MeasureError("no network to measure; give at least one.")
    first = x if isinstance(x, Tensor) else next(iter(x), None)
    given = {label: net if isinstance(net, tuple) else (net, None) for label, net in nets.items()}
    subjects = [_subject(label, net, path, first) for label, (net, path) in given.items()]
    original = against if against is not None else _original([subject.module for subject in subjects])
    return compare(
        subjects,
        original,
        [x] if isinstance(x, Tensor) else list(x),
        threads=threads,
        compile=compile,
        seconds=seconds,
        pairs=pairs,
        seed=seed,
        timer=timer,
        memory=True,
    )


def _subject(label: str, net: nn.Module, path: Path | OperatingPoint | None, x: Tensor | None) -> Subject:
    if path is not None and not isinstance(net, Routed):
        net = skipping(as_routed(net, x))
    if not isinstance(net, Routed):
        return Subject(label, net)
    made, chosen = set_up(net, path)
    return Subject(label, made, chosen, routed=True)


def _original(nets: Sequence[nn.Module]) -> nn.Module:
    """The plain network of the routed ones among some networks."""
    routed = [net for net in nets if isinstance(net, Routed)]
    if not routed:
        raise MeasureError(
            f"{type(nets[0]).__name__} is not routed, so it does not say what it is to be compared with; "
            "give the plain network: measure(net, x, against=plain)."
        )
    if len({net.layout.fingerprint for net in routed}) > 1:
        raise MeasureError(
            "these networks were routed from different ones; give the one to compare them all with: against=plain."
        )
    return plain(routed[0])
