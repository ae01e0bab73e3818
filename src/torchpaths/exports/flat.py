"""An ONNX graph without branches that computes every side, and the ranges of its values on images.

ONNX Runtime calibrates the values of a file's outermost graph only, so values inside an ``If`` have no ranges there.
Here every side is laid into the outermost graph and a ``Where`` chooses: names stay as they were, hence the ranges
found belong to the values of the file with branches too.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from torchpaths.exports.formats import in_batches
from torchpaths.optional import need

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators that have weights worth quantising."""


@dataclass(frozen=True)
class Flat:
    """A graph with every side of every branch in it.

    Attributes:
        model: the graph, an ``onnx.ModelProto``.
        values: what is known of its values, by name: ``onnx.ValueInfoProto``.
        layers: names of the nodes with weights on the way from the input to the output; those that only decide are not
            among them, as a decision has to stay as it is.
    """

    model: Any
    values: dict[str, Any]
    layers: tuple[str, ...]


def flatten(model: Any) -> Flat:
    """Lay every side of every branch into the outermost graph.

    Args:
        model: an ``onnx.ModelProto`` as `exports.onnx.write` writes it; it is not changed.
    """
    onnx = need("onnx", "onnx")
    flat = onnx.ModelProto()
    flat.CopyFrom(model)
    nodes = list(_laid(flat.graph, flat.graph))
    del flat.graph.node[:], flat.graph.value_info[:]
    flat.graph.node.extend(nodes)
    flat = onnx.shape_inference.infer_shapes(flat)
    values = {v.name: v for v in (*flat.graph.value_info, *flat.graph.input, *flat.graph.output)}
    return Flat(flat, values, tuple(_layers(flat, values)))


def sides(node: Any) -> Iterator[Any]:
    """The graphs that are sides of a node, of which only ``If`` has any."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g


def _laid(graph: Any, outermost: Any) -> Iterator[Any]:
    """The nodes of a graph in order, those of sides among them."""
    onnx = need("onnx", "onnx")
    for node in graph.node:
        both = list(sides(node))
        for side in both:
            outermost.initializer.extend(side.initializer)
            yield from _laid(side, outermost)
        if not both:
            yield node
            continue
        chosen = {a.name: a.g.output for a in node.attribute}
        for name, then, other in zip(node.output, chosen["then_branch"], chosen["else_branch"], strict=True):
            yield onnx.helper.make_node("Where", [node.input[0], then.name, other.name], [name], f"{node.name}_{name}")


def _layers(flat: Any, values: dict[str, Any]) -> Iterator[str]:
    """Names of nodes with weights that the output comes from otherwise than through something true or false."""
    boolean = need("onnx", "onnx").TensorProto.BOOL
    weights = {i.name for i in flat.graph.initializer}
    makers = {name: node for node in flat.graph.node for name in node.output}
    seen: set[str] = set()
    ahead = [flat.graph.output[0].name]
    while ahead:
        node = makers.get(ahead.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        ahead += [n for n in node.input if n not in values or values[n].type.tensor_type.elem_type != boolean]
    for node in flat.graph.node:
        # A product of two values that both depend on the image, as in attention, has no weights.
        if node.name in seen and node.op_type in LAYERS and len(node.input) > 1 and node.input[1] in weights:
            yield node.name


def ranges(flat: Flat, x: Tensor, size: int) -> dict[str, Any]:
    """The least and the largest value of each float value of the graph, over the images.

    Args:
        flat: the graph.
        x: images, ``[n, ...]``.
        size: images per call.

    Returns:
        ONNX Runtime's own records of ranges, by name; infinite where nothing was computed.
    """
    onnx = need("onnx", "onnx")
    calibrate = need("onnxruntime.quantization.calibrate", "onnx")
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "flat.onnx"
        onnx.save(flat.model, file)
        augmented = str(file.with_name("augmented.onnx"))
        calibrator = calibrate.create_calibrator(file, [], augmented_model_path=augmented)
        calibrator.collect_data(_Reader(x, size))
        return dict(calibrator.compute_data().items())


class _Reader:
    """Images in the form in which ONNX Runtime's calibration asks for them."""

    def __init__(self, x: Tensor, size: int) -> None:
        self._batches = in_batches(x, size)

    def get_next(self) -> dict[str, Any] | None:
        """The next batch by the name of the input; None after the last."""
        batch = next(self._batches, None)
        return None if batch is None else {"x": batch.numpy()}
