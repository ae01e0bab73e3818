"""``torchpaths export RUN``: a network in a file for another back end, where it still skips what is closed."""

from __future__ import annotations

import dataclasses
import pathlib
from dataclasses import dataclass
from typing import Annotated

from torch import Tensor, nn
from tyro import conf

from torchpaths.chosen import OperatingPoint
from torchpaths.cli import OK
from torchpaths.cli.choice import Chosen, OfPath, choose
from torchpaths.cli.options import emit, parse, refuse, speaking
from torchpaths.data import Loader
from torchpaths.errors import DataError
from torchpaths.exports import Exported, export
from torchpaths.exports.form import Batch
from torchpaths.exports.int8 import Int8, Quantised
from torchpaths.exports.suffixes import format_of
from torchpaths.exports.verify import AMONG
from torchpaths.extraction import extract, noise
from torchpaths.files.fresh import check_new
from torchpaths.path import Path
from torchpaths.train.folder import Run

INT8_IMAGES = 256
"""Images for int8: half of them to make the file with, the others to compare it with the float file on."""


@dataclass(frozen=True)
class Options(OfPath):
    """What the verb takes."""

    out: pathlib.Path = dataclasses.field(kw_only=True)
    """The file to write: .onnx for ONNX Runtime, .pt2 for torch.export, .xml for OpenVINO."""
    batch: Batch = "one"
    """What the file takes: single images, or batches of any size."""
    force: Annotated[bool, conf.FlagCreatePairsOff] = False
    """Replace a file that is there."""
    int8: Int8 | None = None
    """For ONNX Runtime, layers that compute with integers. Static: ranges of weights and activations are found on the
    run's images. Dynamic: those of activations are found at each call."""


def run(arguments: list[str]) -> int:
    """Write, check and print. Returns the exit status, see `torchpaths.cli.main`."""
    about = "A run's network in a file for ONNX Runtime, torch.export or OpenVINO, where closed work is still left out."
    options = parse(Options, arguments, "export", about)
    if options.int8 is not None and options.data is None and options.split != "train":
        refuse(arguments, ("split",), "int8 is made on the run's training images; leave it out, or give other --data.")
    for file in format_of(options.out).files(options.out):
        check_new(file, options.force)
    with speaking(options.json) as console:
        opened = options.open()
        chosen = choose(options, opened)
        images = _images(opened, options)
        net, what, classes = _network(opened, chosen)
        if images is None:
            images = noise(opened.net).cpu()
        made = export(net, options.out, images, path=what, batch=options.batch, int8=options.int8, progress=True)
        lines = _lines(made, opened)
        console.print("\n".join(lines if chosen is None else [f"chosen by {chosen.by}", *lines]), soft_wrap=True)
    if options.json:
        told = {"mean": opened.mean, "std": opened.std, "classes": classes}
        emit({"folder": str(options.run), **made.to_json(), **told, "units": [u.name for u in opened.net.layout.units]})
    return OK


def _network(opened: Run, chosen: Chosen | None) -> tuple[nn.Module, Path | OperatingPoint | None, tuple[str, ...]]:
    """What is exported: a network, the path or point to take, and the classes whose scores it gives."""
    if chosen is None:
        return opened.net, None, opened.classes
    if chosen.keep is None:
        return opened.net, chosen.what, opened.classes
    small = extract(opened.net, chosen.what, classes=chosen.keep)
    return small, None, tuple(opened.classes[k] for k in chosen.keep)


def _images(opened: Run, options: Options) -> Tensor | None:
    """Some of the run's images; None, which stands for noise, where they are not here and noise will do."""
    try:
        # What a file in int8 is made with must not be what it is judged by later.
        learnt = options.int8 is not None and options.data is None
        found = dataclasses.replace(options, split="train").images(opened) if learnt else options.images(opened)
    except DataError:
        if options.data is not None or options.int8 is not None:
            raise
        return None
    # For int8 of all classes, which many sets hold one after the other.
    count, mixed = (AMONG, False) if options.int8 is None else (INT8_IMAGES, True)
    size = min(count, len(found))
    loader = Loader(found, size, shuffle=mixed, mean=opened.mean, std=opened.std, workers=0)
    x: Tensor = next(iter(loader))[0]
    return x


def _lines(made: Exported, opened: Run) -> list[str]:
    """What came out, in words."""
    takes = "single images" if made.batch == "one" else "batches of any size"
    mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (opened.mean, opened.std))
    lines = [
        f"wrote {made.file} ({made.format}): x -> {', '.join(made.outputs)}; takes {takes}",
        f"x: {' x '.join(map(str, opened.net.example_shape))}, scaled to 0..1, less mean {mean}, over std {std}",
        f"{'' if made.int8 is None else 'in float '}differs from the network by {made.difference:.1e} of the output's "
        "largest value",
    ]
    if made.int8 is not None:
        lines += _compared(made.int8)
    if made.one_sided:
        some = ", ".join(made.one_sided[:5]) + (", ..." if len(made.one_sided) > 5 else "")
        lines.append(
            f"{len(made.one_sided)} units were open for all images it was checked on, or for none: {some}. "
            "One side of theirs was written and not run."
        )
    return lines


def _compared(found: Quantised) -> list[str]:
    """How a file in int8 compares with the float file, in words."""
    layers = f"{found.integer_layers} of {found.layers} convolutions and linear layers are integer"
    told = [f"largest difference {found.difference:.2%} of the output's largest value"]
    if found.classes is not None:
        told.insert(0, f"{found.classes:.1%} of top classes are the same")
    if found.decisions is not None:
        told.insert(0, f"{found.decisions:.2%} of decisions are the same")
    lines = [
        f"int8, {found.mode}, made with {found.calibrated} images: {layers}, weights of {found.weight_bits} bits",
        f"against the float file on {found.checked} images: {', '.join(told)}",
        f"{found.size / 1e6:.2f} MB, the float file {found.float_size / 1e6:.2f} MB",
    ]
    if found.integer_layers < found.layers:
        lines.append("Layers stay float where decisions need it, or no image came to their branch.")
    return lines
