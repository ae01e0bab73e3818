"""What a file format is, with the back end that runs it: ``Format``."""

from __future__ import annotations

import pathlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.export import ExportedProgram

Name: TypeAlias = Literal["onnx", "torch", "openvino"]

Run: TypeAlias = Callable[[Tensor], Sequence[Tensor]]
"""A file, opened: a batch -> the outputs, on the CPU."""


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
            RunError: naming what to install, if a package is missing.
        """

    def files(self, file: pathlib.Path) -> tuple[pathlib.Path, ...]:
        """What it writes beside and into ``file``."""
        return (file,)

    @abstractmethod
    def write(self, program: ExportedProgram, file: pathlib.Path) -> None:
        """Write a traced network; further files it needs go into the same folder."""

    @abstractmethod
    def open(self, file: pathlib.Path) -> Run:
        """A written file, ready to run."""


def in_batches(x: Tensor, size: int) -> Iterator[Tensor]:
    """Images ``[n, ...]`` in batches that a file takes, of ``size`` images each; the last may be smaller."""
    return iter(torch.split(x, size))
