"""What a survey holds beside its counts, where somebody measured it: the columns of ``Survey`` that one pass cannot
know. Values only: `torchpaths.surveys.written` writes and reads them, `torchpaths.surveys.measured` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torchpaths.meter.setting import Setting
from torchpaths.schema import Count, NotNegative, Positive, Share


@dataclass(frozen=True)
class Alone:
    """Accuracy lost where one unit is shut and the others do as they do.

    Attributes:
        points: for each unit, in 0 to 1 of all images; below 0 where more are right without it. None for a unit that
            was not tried.
        images: how many were looked at.
        accuracy: of the same images with nothing shut, 0 to 1.
        cost: the others' answer to it: for each unit mean MACs and mean units open of an image with it shut, what
            always runs included; None for a unit that was not tried, and as a whole in files of older versions.
        before: the same two with nothing shut; None in files of older versions.
    """

    points: tuple[float | None, ...]
    images: Count
    accuracy: Share
    cost: tuple[tuple[float, float] | None, ...] | None = None
    before: tuple[float, float] | None = None


@dataclass(frozen=True)
class Times:
    """Milliseconds, measured in one run beside the plain network, see `torchpaths.measure`.

    Attributes:
        setting: where and how.
        ms: median time of a batch.
        plain_ms: of the plain network.
        gap: time ratio / MACs ratio.
        gap_interval: its 95 % interval.
        warnings: what speaks against it.
        units: what each unit takes; None where that was not measured.
        fixed: what always runs; None where that was not measured.
    """

    setting: Setting
    ms: Positive
    plain_ms: Positive
    gap: Positive
    gap_interval: tuple[Positive, Positive]
    warnings: tuple[str, ...] = ()
    units: tuple[NotNegative, ...] | None = None
    fixed: NotNegative | None = None


@dataclass(frozen=True)
class FrontPoint:
    """A sub-network or an operating point worth having.

    Attributes:
        kind: where it comes from, see `torchpaths.fronts.points.Kind`.
        packed: the path's bits, see `PathCount.packed`; None where deciders have a say.
        macs: of one image, the mean.
        accuracy: 0 to 1.
        threshold: at which deciders open; None where none decides.
        ms: of a batch, in the setting of the front's first profile; None where nothing was timed.
    """

    kind: str
    packed: bytes | None
    macs: float
    accuracy: Share
    threshold: float | None = None
    ms: float | None = None


@dataclass(frozen=True)
class Seen:
    """What the network made of an image.

    Attributes:
        packed: the units it opened, see `PathCount.packed`.
        top: the classes of the highest probabilities and those, highest first.
        score: of each unit, the log-odds of being open; None for one whose decider estimates nothing or was not asked.
            Empty where nothing in the network does.
        without: number of a unit -> ``top`` with that one shut; empty where it was not tried.
    """

    packed: bytes
    top: tuple[tuple[int, float], ...]
    score: tuple[float | None, ...] = ()
    without: Mapping[int, tuple[tuple[int, float], ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Attacked(Seen):
    """The same of an attacked image.

    Attributes:
        name: of the attack.
        strength: in 0 to 1 of the pixels' range.
        thumb: PNG.
    """

    name: str = ""
    strength: float = 0.0
    thumb: bytes = b""


@dataclass(frozen=True)
class Shown(Seen):
    """An image of the gallery.

    Attributes:
        number: which of the data set.
        label: its class.
        thumb: PNG of at most 32 x 32 pixels.
        attacked: the same image under attacks.
    """

    number: Count = 0
    label: Count = 0
    thumb: bytes = b""
    attacked: tuple[Attacked, ...] = ()
