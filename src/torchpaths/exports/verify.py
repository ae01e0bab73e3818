"""Whether a written file gives what the network gives, before anybody relies on it.

An exporter that is wrong is wrong silently, so every file is run on images that take as many sides of as many branches
as can be found, in batches of other sizes than the one it was traced with. A score that lies at its threshold to within
rounding may fall on either side in another back end; such images are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from torchpaths.errors import RouteError, reason
from torchpaths.exports.form import Batch, fixed_sites
from torchpaths.exports.formats import Run
from torchpaths.outputs import answer
from torchpaths.path import Path
from torchpaths.routed import Routed

TOLERANCE = 1e-5
"""Largest difference of an output, relative to the largest value of the network's; for half precision four times the
distance between neighbouring numbers."""

COIN = 1e-3
"""A score nearer to its threshold than this share of the site's largest one is a toss-up between back ends."""

MOST = 8
"""Images that a file is checked on."""

AMONG = 32
"""Images of the example among which those are looked for."""

SCALES = (1.0, 0.25, 4.0, 0.0625)
"""Of the noise among which images are looked for: gates that look at the image react to its contrast."""


@dataclass(frozen=True)
class Probes:
    """Images, and what the network gives for them.

    Attributes:
        x: ``[n, ...]``.
        y: ``[n, ...]``.
        open: bool ``[n, unit]`` in layout order.
        units: the units' names.
        one_sided: units that all of these images open, or none of them.
    """

    x: Tensor
    y: Tensor
    open: Tensor
    units: tuple[str, ...]
    one_sided: tuple[str, ...]


def probes(net: Routed, path: Path | None, example: Tensor) -> Probes:
    """Images of the example and of noise like it that together take as many sides of branches as they can.

    Args:
        net: on the CPU, in evaluation mode.
        path: units that are fixed.
        example: images, ``[batch, ...]``.

    Raises:
        RouteError: if the network does not take the example or does not return one tensor of finite numbers, or if
            every image has a score at its threshold.
    """
    draw = torch.Generator().manual_seed(0)
    noise = [s * torch.randn(MOST, *example.shape[1:], generator=draw).to(example) for s in SCALES]
    x = torch.cat([example[:AMONG], *noise])
    y, opened, near = _answers(net, path, x)
    clear = (~near.any(1) & y.flatten(1).isfinite().all(1)).nonzero().flatten().tolist()
    names = tuple(unit.name for unit in net.layout.units)
    if not clear:
        site = names[int(near.float().mean(0).argmax())] if near.any() else "the output"
        raise RouteError(
            f"the file cannot be checked: for every image tried, the score at {site!r} lies at the threshold or the "
            "output is not finite; train the network first, or give images it decides clearly on: export(..., x)."
        )
    chosen = _covering(opened, clear)
    seen = opened[chosen]
    mixed = seen.any(0) & ~seen.all(0)
    fixed = fixed_sites(net, path)
    decided = zip(net.layout.units, mixed.tolist(), strict=True)
    one_sided = tuple(unit.name for unit, both in decided if unit.site not in fixed and not both)
    return Probes(x[chosen], y[chosen], seen, names, one_sided)


def _answers(net: Routed, path: Path | None, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output, what was opened, and which scores are toss-ups; image by image, as batches differ in rounding."""
    try:
        with torch.no_grad():
            called = [net(image, path) for image in (x[i : i + 1] for i in range(len(x)))]
        found = [(answer(y), trace) for y, trace in called]
    except (RuntimeError, ValueError, TypeError) as error:
        raise RouteError(
            f"{net.layout.network} does not take images of shape {tuple(x.shape[1:])} ({reason(error)}); give images "
            "that net(x) accepts: export(net, file, x)."
        ) from error
    if not all(isinstance(y, Tensor) for y, _ in found):
        raise RouteError(f"{net.layout.network} returns {type(found[0][0]).__name__}; only one tensor can be exported.")
    y = torch.cat([y for y, _ in found])
    closed = {name: torch.zeros(1, len(units), dtype=torch.bool) for name, units in net.layout.sites.items()}
    rows = [[tr[n].open if n in tr else closed[n] for n in closed] for _, tr in found]
    opened = torch.cat([torch.cat(row, 1) if row else torch.zeros(1, 0, dtype=torch.bool) for row in rows])
    near = torch.zeros_like(opened)
    start = 0
    for name, site in net.sites.items():
        stop = start + len(site.units)
        # An image that did not come to a site, as a block around it was closed, has no score there that matters.
        made = {i: tr[name] for i, (_, tr) in enumerate(found) if name in tr}
        scores = {i: d.score for i, d in made.items() if d.score is not None and (d.ran is None or bool(d.ran.all()))}
        if site.decider is not None and scores:
            score = torch.cat(list(scores.values()))
            near[list(scores), start:stop] = (score - site.decider.threshold).abs() <= COIN * score.abs().max()
        start = stop
    return y, opened, near


def _covering(opened: Tensor, images: list[int]) -> list[int]:
    """At most `MOST` of the images, each the one that adds most sides of branches not taken yet."""
    sides = torch.cat([opened, ~opened], 1)
    chosen: list[int] = []
    left = list(images)
    taken = torch.zeros_like(sides[0])
    while left and len(chosen) < MOST:
        best = max(left, key=lambda i: int((sides[i] & ~taken).sum()))
        taken |= sides[best]
        chosen.append(best)
        left.remove(best)
    return chosen


def verify(run: Run, probes: Probes, batch: Batch, what: str) -> float:
    """Run a file on the probes.

    Args:
        run: the file, opened.
        probes: the images.
        batch: what it takes.
        what: its name in errors.

    Returns:
        The largest difference of the output, relative to the network's largest value.

    Raises:
        RouteError: if it opens other units, differs by more than `TOLERANCE`, or does not run.
    """
    worst = 0.0
    scale = float(probes.y.abs().max().clamp(min=1e-30))
    allowed = max(TOLERANCE, 4 * torch.finfo(probes.y.dtype).eps)
    for rows in _batches(len(probes.x), batch):
        try:
            found = run(probes.x[rows])
        except Exception as error:
            single = "Write it for single images, batch='one', fix" if batch == "any" else "Fix"
            raise RouteError(
                f"the file written for {what} does not run on {len(rows)} images ({reason(error)}), so it is not kept. "
                f"{single} the units it stumbles over, export(..., path=path), or take another format."
            ) from error
        y, *opened = found
        if opened and not torch.equal(opened[0].bool(), probes.open[rows]):
            differs = (opened[0].bool() != probes.open[rows]).any(0)
            raise RouteError(
                f"the file written for {what} decides otherwise than the network at unit "
                f"{probes.units[int(differs.int().argmax())]!r}, so it is not kept; fix that unit's site: "
                "export(..., path=path)."
            )
        expected = probes.y[rows]
        off = float((y.double() - expected.double()).abs().max()) / scale if y.shape == expected.shape else math.inf
        if not off <= allowed:
            raise RouteError(
                f"the file written for {what} gives outputs that differ from the network's by {off:.1e} of their "
                f"largest value on {len(rows)} images, where {allowed:.0e} is allowed, so it is not kept. Something in "
                "the network depends on more than its input, or the back end computes in lower precision."
            )
        worst = max(worst, off)
    return worst


def _batches(count: int, batch: Batch) -> Iterator[list[int]]:
    """Rows of the probes, in the batches they are run in: single images, or also several sizes."""
    if batch == "one":
        yield from ([i] for i in range(count))
    else:
        yield list(range(count))
        yield [0]
        yield list(range(min(3, count)))
