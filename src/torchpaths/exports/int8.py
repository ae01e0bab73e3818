"""int8 files: made from a file that was checked, and compared with it on images before anybody relies on them.

Rounding to 8 bits changes every output a little, so no tolerance for rounding can tell right from wrong. What is told
instead: how many decisions stay as they were, how often the top class does, the largest difference, and how many layers
became integer. If too many decisions or classes change, or no layer becomes integer, there is no file.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from torchpaths.errors import RouteError, reason
from torchpaths.exports import qdq
from torchpaths.exports.flat import flatten, ranges
from torchpaths.exports.form import Batch
from torchpaths.exports.formats import Format, Run, in_batches
from torchpaths.optional import need

Int8: TypeAlias = Literal["static", "dynamic"]
"""Ranges of activations found beforehand on images, or at each call; weights are int8 in both."""

LEAST = 8
"""Images that an int8 file is made with at least; hundreds are better."""

TOGETHER = 16
"""Images per call of a file that takes batches of any size."""

DECISIONS = 0.995
"""Share of decisions that have to stay as they were."""

AIM = 0.9975
"""The same for the images that it is made with: decisions on others change a little more often."""

CLASSES = 0.8
"""Share of images whose top class has to stay as it was: a guard against broken files, no promise of accuracy."""


@dataclass(frozen=True)
class Quantised:
    """What was found of an int8 file, against the float file of the same network.

    Attributes:
        mode: "static" or "dynamic".
        integer_layers: convolutions and linear layers that compute with integers.
        layers: of so many.
        weight_bits: 8, or 7 where it was made on a processor without VNNI, where 8 would overflow.
        calibrated: images that it was made with.
        checked: images it was compared on, others than those.
        decisions: share of equal decisions; None where nothing is decided.
        classes: share of images of the same top class; None where the output is not ``[batch, classes]``.
        difference: largest difference of the output, relative to the float file's largest value.
        size: of the file, in bytes.
        float_size: of the float file.
    """

    mode: Int8
    integer_layers: int
    layers: int
    weight_bits: int
    calibrated: int
    checked: int
    decisions: float | None
    classes: float | None
    difference: float
    size: int
    float_size: int


def check_int8(int8: Int8, into: Format, x: Tensor | None) -> None:
    """
    Raises:
        RouteError: for a mode that is not known, a format without int8, or too few images or ones that are not float32
            and finite.
    """
    if int8 not in ("static", "dynamic"):
        raise RouteError(f"int8={int8!r}; choose one of static, dynamic.")
    if into.name != "onnx":
        raise RouteError(
            f"int8 files are written for ONNX Runtime, not for {into.title}; end the file's name in .onnx."
        )
    count = 0 if x is None else len(x)
    if x is None or count < LEAST:
        raise RouteError(
            f"int8 was given {count} images; it is made and checked with real ones: give at least {LEAST}, better "
            "hundreds, export(net, file, x, int8=...)."
        )
    if x.dtype != torch.float32:
        raise RouteError(f"int8 is made from float32, this network is {x.dtype}; export(net.float(), ..., int8=...).")
    if not x.isfinite().all():
        raise RouteError("some of the images are not finite, so no range can be found on them; leave those out.")


def quantise(
    plain: pathlib.Path, file: pathlib.Path, x: Tensor, units: tuple[str, ...], int8: Int8, batch: Batch, into: Format
) -> Quantised:
    """Write a float file's network in int8, and compare the two.

    Args:
        plain: the float file.
        file: what to write.
        x: images: half of them to make it with, the rest to compare on.
        units: names of the units that the file decides about, in its order.
        int8: how.
        batch: what the files take.
        into: their format.

    Raises:
        RouteError: if it cannot be made, or changes too many decisions or classes.
    """
    size = 1 if batch == "one" else TOGETHER
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))  # images may be sorted, by class or so
    calibration, check = x[order[: len(x) // 2]], x[order[len(x) // 2 :]]
    layers, integer = _write(plain, file, calibration, int8, size, into)
    if not integer:
        raise RouteError(
            f"none of this network's {layers} convolutions and linear layers can be written in {int8} int8; leave int8 "
            "out for a float file."
        )
    before, after = (_answers(into.open(f), check, size) for f in (plain, file))
    found = Quantised(
        int8,
        integer,
        layers,
        7 if qdq.narrow() else 8,
        len(calibration),
        len(check),
        None if len(before) == 1 else _mean(before[1] == after[1]),
        _mean(before[0].argmax(1) == after[0].argmax(1)) if before[0].dim() == 2 and before[0].shape[1] > 1 else None,
        float((after[0] - before[0]).abs().max() / before[0].abs().max().clamp(min=1e-30)),
        file.stat().st_size,
        plain.stat().st_size,
    )
    wrong = None
    if found.decisions is not None and found.decisions < DECISIONS:
        worst = int((before[1] != after[1]).sum(0).argmax())
        wrong = f"keeps {found.decisions:.2%} of the decisions, where {DECISIONS:.1%} is asked for; most change at "
        wrong += f"{units[worst]!r}"
    elif not math.isfinite(found.difference):
        wrong = "gives outputs that are not finite"
    elif found.classes is not None and found.classes < CLASSES:
        wrong = f"keeps the top class of {found.classes:.0%} of the images, where {CLASSES:.0%} is asked for"
    if wrong is not None:
        other = "int8='dynamic', " if int8 == "static" else "int8='static', "
        fix = "fix sites by a path, " if found.decisions is not None else ""
        raise RouteError(
            f"in {int8} int8 the network {wrong}, on {len(check)} images, so the file is not kept. Try more images "
            f"like those it will see, {other}{fix}or leave int8 out."
        )
    return found


class _Maker:
    """Writes a network in int8, with its first layers in float as far as its decisions need that.

    A gate that reads what an inexact layer gave decides otherwise, and those behind it see another network: layers in
    front matter to all gates, those behind to few. So layers become integer from the last one forwards, as many as
    leave the decisions as they were.
    """

    def __init__(self, plain: pathlib.Path, file: pathlib.Path, x: Tensor, int8: Int8, size: int, into: Format) -> None:
        self.file, self.x, self.int8, self.size, self.into = file, x, int8, size, into
        self.model = need("onnx", "onnx").load(plain)
        self.flat = flatten(self.model)
        self.ranges = ranges(self.flat, x, size) if int8 == "static" else {}
        self.decides = len(self.model.graph.output) > 1
        self.opened = _answers(into.open(plain), x, size)[-1] if self.decides else None

    def make(self) -> None:
        """Write the file with as many integer layers as the decisions allow; with one, if they allow none."""
        if self._keeps(0):
            return
        fails, keeps = 0, len(self.flat.layers) - 1  # the last layer stands behind all decisions
        while keeps - fails > 1:
            middle = (fails + keeps) // 2
            fails, keeps = (fails, middle) if self._keeps(middle) else (middle, keeps)
        self._write(keeps)

    def _keeps(self, first: int) -> bool:
        """Write it with integer layers from the ``first`` on, and see whether decisions stay as they were."""
        self._write(first)
        if self.opened is None:
            return True
        return _mean(_answers(self.into.open(self.file), self.x, self.size)[-1] == self.opened) >= AIM

    def _write(self, first: int) -> None:
        flat = dataclasses.replace(self.flat, layers=self.flat.layers[first:])
        if self.int8 == "static":
            need("onnx", "onnx").save(qdq.static(self.model, flat, self.ranges), self.file)
        else:
            qdq.dynamic(self.model, flat, self.file)


def _write(plain: pathlib.Path, file: pathlib.Path, x: Tensor, int8: Int8, size: int, into: Format) -> tuple[int, int]:
    """Write the int8 file. Returns how many layers there are, and how many of them became integer."""
    try:
        maker = _Maker(plain, file, x, int8, size, into)
        if not maker.flat.layers:
            return 0, 0
        maker.make()
        return len(maker.flat.layers), qdq.integers(need("onnx", "onnx").load(file).graph)
    except Exception as error:
        other = "dynamic" if int8 == "static" else "static"
        raise RouteError(
            f"this network cannot be written in {int8} int8 ({reason(error)}); try int8={other!r}, or leave it out."
        ) from error


def _answers(run: Run, x: Tensor, size: int) -> list[Tensor]:
    """What a file gives for images: output and, if it decides, what is open."""
    return [torch.cat(parts) for parts in zip(*(run(batch) for batch in in_batches(x, size)), strict=True)]


def _mean(equal: Tensor) -> float:
    return float(equal.double().mean())
