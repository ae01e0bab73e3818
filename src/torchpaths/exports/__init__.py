"""``export``: a routed network in a file that other back ends run, and that still skips what is closed there.

| file | what |
|---|---|
| `form` | the network with decisions as branches of a graph |
| `formats` | what a format is |
| `program`, `onnx`, `openvino` | the formats |
| `suffixes` | which one a file name asks for |
| `verify` | the check of every file before it is kept |
| `int8` | files in int8, and how they compare with float ones |
| `flat`, `qdq` | ranges of values, and integers in their place, in branches too |
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor, nn

from torchpaths.chosen import OperatingPoint, set_up
from torchpaths.copies import copied
from torchpaths.costs import count_macs, count_params, evaluating
from torchpaths.errors import RouteError, reason
from torchpaths.exports.form import Batch, exportable
from torchpaths.exports.formats import Format, Name, Run
from torchpaths.exports.int8 import Int8, Quantised, check_int8, quantise
from torchpaths.exports.program import capture
from torchpaths.exports.suffixes import format_of
from torchpaths.exports.verify import probes, verify
from torchpaths.layout import Cost, Layout
from torchpaths.path import Path
from torchpaths.progress import telling
from torchpaths.routed import Routed
from torchpaths.routing import as_routed

__all__ = ["Exported", "export"]


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked.

    Attributes:
        file: where it is.
        format: the back end it is for.
        batch: what it takes.
        outputs: ``("y", "open")``, or ``("y",)`` where nothing is left to decide.
        difference: largest difference from the network's output on the images it was checked on, relative to the
            output's largest value.
        one_sided: units that decide, but that every one of these images opened, or none: one side of their branch is in
            the file and was not run.
        int8: what was found of a file in int8, of which `difference` says how near the float file was that it was made
            from; None for a float file.
    """

    file: pathlib.Path
    format: Name
    batch: Batch
    outputs: tuple[str, ...]
    difference: float
    one_sided: tuple[str, ...]
    int8: Quantised | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {**dataclasses.asdict(self), "file": str(self.file)}


def export(
    net: nn.Module,
    file: str | os.PathLike[str],
    x: Tensor | None = None,
    *,
    path: Path | OperatingPoint | None = None,
    batch: Batch = "one",
    int8: Int8 | None = None,
    progress: bool = False,
) -> Exported:
    """Write a network for another back end, and check what was written against ``net`` before keeping it.

    The file takes ``x`` and gives ``y``, the network's output, and ``open``, bool ``[batch, unit]`` in layout order:
    the path each image took. What is closed is not computed. Sites that ``path`` names are fixed, and what it closes is
    not in the file at all; if nothing is left to decide the file holds the network cut along it, and gives ``y`` alone.

    Args:
        net: a routed network of one tensor, or a plain one, which a file holds as it stands; in any mode, on any
            device; it is not changed.
        file: what to write; its suffix says for whom: ``.onnx`` for ONNX Runtime, ``.pt2`` for torch.export, ``.xml``
            for OpenVINO (its weights stand beside it in ``.bin``).
        x: images ``[batch, ...]``, by preference real ones: the file is traced with them, and those among them that
            decide differently from each other are what it is checked on. None for noise; a plain network needs some.
        path: units to fix; or a point of a front, at whose threshold gates then open in the file.
        batch: "one" takes single images, "any" batches of any size.
        int8: for ONNX Runtime, layers that compute with integers, "static" with ranges of activations found beforehand,
            "dynamic" with ranges found at each call; None for float. Made with half of the images and compared on the
            other half. What only decides stays float, and so do first layers as far as decisions need that.
        progress: tell on the standard error stream how far it is.

    Raises:
        PathError: for a path that does not fit, or a per-sample one.
        RunError: for a package that is not installed.
        RouteError: for a suffix or ``batch`` that is not known, images that the network does not take, a site that
            decides by chance or cannot become part of a graph, an operator the back end does not have; or if the file
            does not give what the network gives, or in int8 changes more than 0.5 % of the decisions or the top class
            of more than a fifth of the images. No file is left then, and one of that name stays as it was.
    """
    target = pathlib.Path(file)
    if batch not in get_args(Batch):
        raise RouteError(f"batch={batch!r}; choose one of {', '.join(get_args(Batch))}.")
    into = format_of(target)
    into.check()
    if not isinstance(net, Routed):
        net = _bare(net, x) if path is None else as_routed(net, x)
    net, path = set_up(net, path)
    here = copied(net).cpu().to(memory_format=torch.contiguous_format)
    here.eval().requires_grad_(False)  # branches of a graph take half the time to trace without gradients
    example = _example(here, x)
    if int8 is not None:
        check_int8(int8, into, None if x is None else example)
    module = exportable(here, path, batch)
    found = probes(here, path, example)
    with telling("export", progress) as tell:
        tell(f"1 of {2 if int8 is None else 3}, tracing")
        program = capture(module, found.x, batch)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        written = pathlib.Path(folder) / target.name
        with telling("export", progress) as tell:
            tell(f"2 of {2 if int8 is None else 3}, writing and checking")
            into.write(program, written)
            difference = verify(_opened(into, written), found, batch, into.title)
        quantised = None
        if int8 is not None:
            plain = written.rename(pathlib.Path(folder) / "float")
            with telling("export", progress) as tell:
                tell("3 of 3, int8")
                quantised = quantise(plain, written, example, found.units, int8, batch, into)
            plain.unlink()
        for part in sorted(written.parent.iterdir(), key=lambda part: part == written):
            part.replace(target.parent / part.name)  # what it refers to before the file itself
    outputs = ("y", "open")[: len(program.graph_signature.user_outputs)]
    return Exported(target, into.name, batch, outputs, difference, found.one_sided, quantised)


def _bare(model: nn.Module, x: Tensor | None) -> Routed:
    """A plain network as a routed one without sites: nothing of it is decided."""
    if not isinstance(x, Tensor):
        raise RouteError(
            f"{type(model).__name__} is not routed, so it does not say what it takes; give some: export(net, file, x)."
        )
    with evaluating(model):
        cost = Cost(count_macs(lambda: model(x[:1])), count_params(model))
    return Routed(model, (), Layout((), cost, cost, type(model).__name__), tuple(x.shape[1:]))


def _opened(into: Format, file: pathlib.Path) -> Run:
    """A written file, ready to run."""
    try:
        return into.open(file)
    except Exception as error:
        raise RouteError(
            f"{into.title} does not open the file written for it ({reason(error)}), so it is not kept. Take another "
            "format, or fix the site that holds what it does not know: export(..., path=path)."
        ) from error


def _example(net: Routed, x: Tensor | None) -> Tensor:
    """The images to trace and check with, on the CPU, in the network's precision."""
    if x is None:
        if not net.example_shape:
            raise RouteError("this network does not know what its images look like; give some: export(net, file, x).")
        x = torch.randn(2, *net.example_shape, generator=torch.Generator().manual_seed(0))
    if not isinstance(x, Tensor):
        raise RouteError(f"{net.layout.network} was given a {type(x).__name__}; only one tensor can be exported.")
    if x.dim() == 0 or len(x) == 0:
        raise RouteError(f"x of shape {tuple(x.shape)} is a batch of 0; give images, or None for noise.")
    parameter = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
    return x.detach().to("cpu", parameter.dtype).contiguous()
