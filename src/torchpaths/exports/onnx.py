"""ONNX: every decision becomes an ``If``, of which ONNX Runtime runs one side only.

Written by torch's own exporter. Afterwards weights that only one side of an ``If`` needs move
into that side, because ONNX Runtime chooses its fast memory layout for convolutions only where it finds their weights
in the same graph; and what nobody needs goes. Shapes stated beside weights go too, and names of nodes become unique:
folding leaves shapes that contradict the weights, and tools that read a file again (ONNX's own shape inference, ONNX
Runtime's quantization) refuse it, or tell nodes apart by their names.
"""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from torchpaths.errors import RouteError, reason
from torchpaths.exports.formats import Format, Run
from torchpaths.optional import need


class Onnx(Format):
    """``.onnx``, run by ONNX Runtime."""

    title = "ONNX Runtime"
    name = "onnx"

    def check(self) -> None:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            need(package, "onnx")

    def write(self, program: ExportedProgram, file: pathlib.Path) -> None:
        write(program, file)

    def open(self, file: pathlib.Path) -> Run:
        runtime = need("onnxruntime", "onnx")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

        def run(x: Tensor) -> Sequence[Tensor]:
            return [torch.from_numpy(y) for y in session.run(None, {"x": x.numpy()})]

        return run


def write(program: ExportedProgram, file: pathlib.Path) -> None:
    """Write a traced network as ONNX, with input ``x`` and outputs ``y`` and, if it decides, ``open``.

    Raises:
        RouteError: if an operator has no counterpart in ONNX.
    """
    names = ["y", "open"][: len(program.graph_signature.user_outputs)]
    try:
        written = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["x"],
            output_names=names,
            dynamic_shapes=({0: "batch"},) if program.range_constraints else None,
            verbose=False,
        )
        assert written is not None
        _tidy(written.model)
        written.save(file)
    except Exception as error:
        raise RouteError(
            f"this network cannot be written as ONNX ({reason(error)}). Write it for torch (a file in .pt2), or fix "
            "the site that holds the operator: export(..., path=path)."
        ) from error


def _tidy(model: Any) -> None:
    """Move weights into the only side of an ``If`` that needs them, drop what nobody needs, and say nothing twice."""
    from onnxscript import ir
    from onnxscript.ir.passes.common import RemoveUnusedNodesPass

    graph = model.graph
    for node in graph:
        sides = [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]
        for side in sides:
            for value in [v for inner in side for v in inner.inputs if v is not None]:
                if value.name in graph.initializers and all(use.node.graph is side for use in value.uses()):
                    side.initializers.add(graph.initializers.pop(value.name))
    RemoveUnusedNodesPass()(model)
    for inner in (graph, *graph.subgraphs()):
        for weight in inner.initializers.values():
            weight.shape = weight.type = None  # the weight itself says both
    for i, node in enumerate(graph.all_nodes()):
        node.name = f"{node.op_type}_{i}"
