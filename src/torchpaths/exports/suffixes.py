"""Which format a file name asks for."""

from __future__ import annotations

import pathlib

from torchpaths.errors import RouteError
from torchpaths.exports.formats import Format
from torchpaths.exports.onnx import Onnx
from torchpaths.exports.openvino import OpenVino
from torchpaths.exports.program import Torch

SUFFIXES: dict[str, type[Format]] = {".onnx": Onnx, ".pt2": Torch, ".xml": OpenVino}


def format_of(file: pathlib.Path) -> Format:
    """The format that a file's suffix asks for.

    Raises:
        RouteError: for a suffix that is none of `SUFFIXES`.
    """
    kind = SUFFIXES.get(file.suffix)
    if kind is None:
        known = ", ".join(f"{suffix} ({kind.name})" for suffix, kind in SUFFIXES.items())
        raise RouteError(f"{str(file)!r}: the suffix says which format to write; end it in one of {known}.")
    return kind()
