"""OpenVINO: its own file format, by way of ONNX.

OpenVINO reads torch.export's graphs directly too, but not those in which images are gathered inside a branch.
"""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.export import ExportedProgram

from torchpaths.errors import RouteError, reason
from torchpaths.exports import onnx
from torchpaths.exports.formats import Format, Run
from torchpaths.optional import need


class OpenVino(Format):
    """``.xml`` with its weights in ``.bin``, run by OpenVINO."""

    title = "OpenVINO"
    name = "openvino"

    def check(self) -> None:
        for package in ("openvino", "onnx", "onnxscript"):
            need(package, "openvino")

    def files(self, file: pathlib.Path) -> tuple[pathlib.Path, ...]:
        return file, file.with_suffix(".bin")

    def write(self, program: ExportedProgram, file: pathlib.Path) -> None:
        openvino = need("openvino", "openvino")
        with tempfile.TemporaryDirectory() as folder:
            between = pathlib.Path(folder) / "net.onnx"
            onnx.write(program, between)
            try:
                model = openvino.convert_model(between)
                # Half precision would save half the file and lose the agreement to 1e-5.
                openvino.save_model(model, file, compress_to_fp16=False)
            except Exception as error:
                raise RouteError(
                    f"OpenVINO does not take this network ({reason(error)}); write it as ONNX, or fix the site "
                    "that holds the operator: export(..., path=path)."
                ) from error

    def open(self, file: pathlib.Path) -> Run:
        openvino = need("openvino", "openvino")
        # Without the hint it computes in bfloat16 where the processor can.
        compiled = openvino.Core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

        def run(x: Tensor) -> Sequence[Tensor]:
            found = compiled(x.numpy())
            return [torch.from_numpy(found[i].copy()) for i in range(len(compiled.outputs))]

        return run
