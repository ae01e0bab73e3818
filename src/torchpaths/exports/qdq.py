"""int8 for ONNX files, with branches too: weights and activations, or weights alone.

Static (Jacob et al., 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only
inference"): each value v is stored as ``round(v / scale) + zero``, scale and zero from the range it had on images;
weights have a scale for each output channel. ONNX Runtime's quantizer knows one graph without branches, so each side of
an ``If`` is quantised as a graph of its own, whose inputs are the values it takes from outside, with the ranges found
in the flat form. Where branches are left only layers with weights become integers, and sums stay float: gates read
them.

Dynamic: weights are int8, the range of what enters a layer is found at each call.
"""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any

import torch

from torchpaths.exports.flat import LAYERS, Flat, sides
from torchpaths.optional import need

BETWEEN = ("Relu", "Clip", "MaxPool", "AveragePool")
"""Operators that hand integers on, or are part of the layer before them."""


def narrow() -> bool:
    """Whether weights take 7 bits instead of 8: on x86 without VNNI sums of two products of 8 bits overflow."""
    can = torch.cpu.get_capabilities()
    return can["architecture"] == "x86_64" and not (can.get("avx512_vnni") or can.get("avx_vnni"))


def static(model: Any, flat: Flat, ranges: Mapping[str, Any]) -> Any:
    """A file's graph with weights and activations in int8.

    Args:
        model: an ``onnx.ModelProto``; it is not changed.
        flat: the same without branches.
        ranges: of the values of ``flat``. A side whose values have none, as no image came there, stays float.

    Returns:
        The new ``onnx.ModelProto``.
    """
    onnx = need("onnx", "onnx")
    made = onnx.ModelProto()
    made.CopyFrom(model)
    branches = any(True for node in made.graph.node for _ in sides(node))
    _Quantised(made, flat, ranges, _sums(flat) if not branches else set()).replace(made.graph, {})
    onnx.checker.check_model(made)
    return made


def dynamic(model: Any, flat: Flat, file: pathlib.Path) -> None:
    """Write a file's graph with weights in int8 and activations that become int8 at each call.

    Args:
        model: an ``onnx.ModelProto``; it is not changed.
        flat: the same without branches.
        file: what to write.
    """
    onnx = need("onnx", "onnx")
    quantization = need("onnxruntime.quantization", "onnx")
    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    onnx.helper.set_model_props(marked, {"onnx.quant.pre_process": "onnxruntime.quant"})  # nothing is left to fold
    # Products that only decide stay float; a Gemm becomes a MatMul of another name before names are looked at.
    leave = [node.name for node in flat.model.graph.node if node.op_type in LAYERS and node.name not in flat.layers]
    quantization.quantize_dynamic(
        marked,
        file,
        op_types_to_quantize=["Conv", "MatMul"],
        nodes_to_exclude=[*leave, *(f"{name}_MatMul" for name in leave)],
        weight_type=quantization.QuantType.QUInt8,  # the only one that ONNX Runtime convolves by so
        reduce_range=narrow(),
        extra_options={"EnableSubgraph": True},
    )


def integers(graph: Any) -> int:
    """How many layers of a graph and of its sides compute with integers."""
    restored = {name for node in graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    found = 0
    for node in graph.node:
        found += node.op_type in ("ConvInteger", "MatMulInteger")
        found += node.op_type in LAYERS and len(node.input) > 1 and node.input[1] in restored
        found += sum(integers(side) for side in sides(node))
    return found


def _sums(flat: Flat) -> set[str]:
    """Sums of what convolutions give; those of transformers are too wide for 8 bits."""
    graph = flat.model.graph
    convolved = {name for node in graph.node if node.op_type == "Conv" for name in node.output}
    return {n.name for n in graph.node if n.op_type == "Add" and convolved.intersection(n.input)}


class _Quantised:
    """Replaces graphs by quantised ones, inner ones first."""

    def __init__(self, model: Any, flat: Flat, ranges: Mapping[str, Any], sums: set[str]) -> None:
        self.model, self.flat, self.ranges = model, flat, ranges
        deciding = {n.name for n in flat.model.graph.node if n.op_type in LAYERS} - set(flat.layers)
        kinds = {*LAYERS, *BETWEEN, "Add"}
        self.nodes = sums | {
            n.name for n in flat.model.graph.node if n.op_type in kinds - {"Add"} and n.name not in deciding
        }
        self.kinds = sorted(kinds)

    def replace(self, graph: Any, outside: Mapping[str, Any], name: str = "") -> None:
        """Quantise a graph in place.

        Args:
            graph: the graph.
            outside: weights that stand around it, by name.
            name: of a side, to tell its new values from those of others; empty for the outermost graph.
        """
        onnx = need("onnx", "onnx")
        around = {**outside, **{i.name: i for i in graph.initializer}}
        for node in graph.node:
            for i, side in enumerate(sides(node)):
                self.replace(side, around, f"{node.name}.{i}")
        own = {*(i.name for i in graph.initializer), *(n for node in graph.node for n in node.output)}
        own |= {i.name for i in graph.input}
        taken = [n for n in dict.fromkeys(_taken(graph)) if n and n not in own]
        # What sides take has to be there under its name, as the quantizer knows nothing of them.
        given = {o.name for o in graph.output}
        made = {n for node in graph.node for n in node.output}
        shown = [
            n for n in dict.fromkeys(n for node in graph.node for s in sides(node) for n in _taken(s)) if n in made
        ]
        alone = onnx.ModelProto()
        alone.CopyFrom(self.model)
        alone.graph.CopyFrom(graph)
        alone.graph.initializer.extend(outside[n] for n in taken if n in outside)
        alone.graph.input.extend(self.flat.values[n] for n in taken if n not in outside)
        alone.graph.output.extend(self.flat.values[n] for n in shown if n not in given)
        if not self._known(alone.graph):
            return
        result = self._quantise(alone).graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(_ordered(result.node))
        graph.initializer.extend(i for i in result.initializer if i.name not in outside)
        if name:
            _rename(graph, name)

    def _known(self, graph: Any) -> bool:
        """Whether there are layers, and every value that would be quantised has a range."""
        weights = {i.name for i in graph.initializer}
        used = [n for node in graph.node if node.name in self.nodes for n in (*node.input, *node.output)]
        values = [n for n in used if n and n not in weights]
        layers = any(node.name in self.flat.layers for node in graph.node)
        return layers and all(n in self.ranges and _finite(self.ranges[n]) for n in values)

    def _quantise(self, alone: Any) -> Any:
        quantization = need("onnxruntime.quantization", "onnx")
        calibrate = need("onnxruntime.quantization.calibrate", "onnx")
        qdq = need("onnxruntime.quantization.qdq_quantizer", "onnx")
        names = {n for node in alone.graph.node for n in (*node.input, *node.output)}
        known = {n: r for n, r in self.ranges.items() if n in names and _finite(r)}
        return qdq.QDQQuantizer(
            alone,
            True,  # a scale for each channel of the weights
            narrow(),
            quantization.QuantType.QInt8,
            quantization.QuantType.QUInt8,
            calibrate.TensorsData(calibrate.CalibrationMethod.MinMax, known),
            [node.name for node in alone.graph.node if node.name in self.nodes],
            [],
            self.kinds,
            {},
        ).quantize_model()


def _finite(found: Any) -> bool:
    return all(math.isfinite(end.item()) for end in found.range_value)


def _taken(graph: Any) -> Iterator[str]:
    """Names that the nodes of a graph read, with those that their sides take from around them."""
    for node in graph.node:
        yield from _read(node)


def _read(node: Any) -> Iterator[str]:
    yield from node.input
    for side in sides(node):
        inner = {*(i.name for i in side.initializer), *(n for node in side.node for n in node.output)}
        yield from (n for n in _taken(side) if n not in inner)
        yield from (o.name for o in side.output if o.name not in inner)


def _ordered(nodes: Sequence[Any]) -> Iterator[Any]:
    """The nodes in an order in which each reads what is there; the quantizer puts new ones last."""
    makers = {name: i for i, node in enumerate(nodes) for name in node.output}
    before = {i: {makers[name] for name in _read(node) if name in makers} for i, node in enumerate(nodes)}
    return (nodes[i] for i in TopologicalSorter(before).static_order())


def _rename(graph: Any, prefix: str) -> None:
    """Give a side's own values names that no other graph has."""
    own = {*(i.name for i in graph.initializer), *(n for node in graph.node for n in node.output)}
    new = {n: f"{prefix}.{n}" for n in own if n}
    for initializer in graph.initializer:
        initializer.name = new[initializer.name]
    for output in graph.output:
        output.name = new.get(output.name, output.name)
    _reread(graph, new)


def _reread(graph: Any, new: Mapping[str, str]) -> None:
    """Put new names in the place of old ones, in sides too."""
    for node in graph.node:
        node.input[:] = [new.get(n, n) for n in node.input]
        node.output[:] = [new.get(n, n) for n in node.output]
        for side in sides(node):
            _reread(side, new)
