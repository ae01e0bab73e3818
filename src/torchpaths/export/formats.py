"""File formats and what runs them: ``Format``, and which one a file name asks for."""

from __future__ import annotations

import importlib
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Literal, TypeAlias

from torch import Tensor
from torch.export import ExportedProgram

from torchpaths.errors import RouteError

Name: TypeAlias = Literal["onnx", "torch", "openvino"]

Run: TypeAlias = Callable[[Tensor], Sequence[Tensor]]
"""A file, opened: a batch -> the outputs, on the CPU."""

SUFFIXES: dict[str, Name] = {".onnx": "onnx", ".pt2": "torch", ".xml": "openvino"}


class Format(ABC):
    """A file format and the back end that runs it.

    Attributes:
        title: the back end's name, for people.
        name: the same in records.
    """

    title: str
    name: Name

    @abstractmethod
    def check(self) -> None:
        """
        Raises:
            RouteError: naming what to install, if a package is missing.
        """

    @abstractmethod
    def write(self, program: ExportedProgram, file: pathlib.Path) -> None:
        """Write a traced network; further files it needs go into the same folder."""

    @abstractmethod
    def open(self, file: pathlib.Path) -> Run:
        """A written file, ready to run."""


def format_of(file: pathlib.Path) -> Format:
    """The format that a file's suffix asks for.

    Raises:
        RouteError: for a suffix that is none of `SUFFIXES`.
    """
    match SUFFIXES.get(file.suffix):
        case "onnx":
            from torchpaths.export.onnx import Onnx

            return Onnx()
        case "openvino":
            from torchpaths.export.openvino import OpenVino

            return OpenVino()
        case "torch":
            from torchpaths.export.program import Torch

            return Torch()
        case None:
            known = ", ".join(f"{suffix} ({name})" for suffix, name in SUFFIXES.items())
            raise RouteError(f"{str(file)!r}: the suffix says which format to write; end it in one of {known}.")


def need(package: str, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        RouteError: naming the extra that brings it.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise RouteError(f"{package} is not installed; install it with: pip install 'torchpaths[{extra}]'.") from error
