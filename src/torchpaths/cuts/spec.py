"""``Spec``: what is known of a cut network on disk, as versioned JSON beside its weights."""

from __future__ import annotations

import dataclasses
import json
import math
import pathlib
from dataclasses import dataclass
from typing import Any

from torchpaths.errors import DataError
from torchpaths.files.disk import inside
from torchpaths.files.document import read_document
from torchpaths.files.encode import decode, encode
from torchpaths.layout import Cost
from torchpaths.methods.base import Method
from torchpaths.models import Source
from torchpaths.path import Path
from torchpaths.schema import MOST, Count, MalformedError, Positive, Side, Strict, reading

SCHEMA = "torchpaths.cut/2"
SPEC, WEIGHTS, LOADER = "spec.json", "weights.safetensors", "load.py"


@dataclass(frozen=True)
class Spec:
    """What is known of a cut network.

    Attributes:
        source: how the original network is made.
        network: its class.
        path: what was kept of it.
        method: with which it was routed, so that its units are those of the path; None for one block each.
        build: the expression with which load.py makes the network; with ``edits``, the original to be edited.
        edits: whether load.py takes the original apart; otherwise the library itself makes the network.
        shape: of one image, ``(C, H, W)``.
        dtype: of the weights, "float32" or another of torch's.
        mean: per channel, to be subtracted from images of 0 to 1; empty where not known.
        std: per channel, to divide by after that.
        classes: names by label; empty where not known.
        cut: MACs of one image and parameters.
        plain: those of the original network.
        sha256: of the weights file.
        kept: numbers, in the original, of the classes whose scores are kept; None for all.
        data: the image set that the original was trained on, by name or folder; None where not known.
        crop: share of the shorter side that is left of an image that is scaled.
        bicubic: whether it is scaled with bicubic weights, otherwise bilinear.
        resize: pixels to which its shorter side is scaled before the centre is cut out, in place of ``crop``.
    """

    source: Source
    network: str
    path: Path
    build: str
    edits: bool
    shape: tuple[int, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    cut: Cost
    plain: Cost
    sha256: str
    method: Method | None = None
    kept: tuple[int, ...] | None = None
    data: str | None = None
    crop: float = 1.0
    bicubic: bool = False
    resize: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "schema": SCHEMA,
            "source": dataclasses.asdict(self.source),
            "network": self.network,
            "build": self.build,
            "edits": self.edits,
            "path": json.loads(self.path.to_json()),
            "method": encode(self.method),
            "input": {
                "shape": self.shape,
                "dtype": self.dtype,
                "mean": self.mean,
                "std": self.std,
                "crop": self.crop,
                "bicubic": self.bicubic,
                **({} if self.resize is None else {"resize": self.resize}),
            },
            "classes": self.classes,
            **({} if self.kept is None else {"kept": list(self.kept)}),
            **({} if self.data is None else {"data": self.data}),
            "cut": dataclasses.asdict(self.cut),
            "plain": dataclasses.asdict(self.plain),
            "weights": {"file": WEIGHTS, "sha256": self.sha256},
        }

    @classmethod
    def read(cls, folder: pathlib.Path | str) -> Spec:
        """The description in a folder that `save_cut` wrote.

        Raises:
            DataError: if there is none, or it was edited or cut short.
        """
        file = pathlib.Path(folder) / SPEC
        with reading(file, DataError, "the file was edited, cut the network again"):
            file = inside(file.parent, SPEC)
            data: _Document = read_document(file, SCHEMA, "cut network", "torchpaths cut RUN --out DIR", _Document)
            method = decode(data.method, "method")
            if not isinstance(method, Method | None):
                raise MalformedError(f"method: {method!r} is no method")
            return cls(
                source=Source(data.source.library, data.source.name, data.source.kwargs),
                network=data.network,
                path=Path.from_data(data.path),
                build=data.build,
                edits=data.edits,
                shape=data.input.shape,
                dtype=data.input.dtype,
                mean=data.input.mean,
                std=data.input.std,
                classes=data.classes,
                cut=data.cut,
                plain=data.plain,
                sha256=data.weights.sha256,
                method=method,
                kept=data.kept,
                data=data.data,
                crop=data.input.crop,
                bicubic=data.input.bicubic,
                resize=data.input.resize,
            )


class _Source(Strict, frozen=True):
    library: str
    name: str
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class _Input:
    shape: tuple[Side, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    crop: float = 1.0
    bicubic: bool = False
    resize: Side | None = None

    def __post_init__(self) -> None:
        if not 0 < self.crop <= 1:
            raise ValueError(f"a crop of {self.crop}, which is no share of an image")
        if self.resize is not None and self.resize < max(self.shape[1:], default=0):
            raise ValueError(f"images scaled to {self.resize}, of which no {self.shape} can be cut out")
        if not self.shape or math.prod(self.shape) > MOST:
            raise ValueError(f"inputs of shape {self.shape}, which hold none or more than {MOST:,} numbers")


@dataclass(frozen=True)
class _Weights:
    sha256: str


class _Document(Strict, frozen=True):
    """A description as `Spec.to_json` writes it."""

    schema: str
    source: _Source
    network: str
    build: str
    edits: bool
    path: dict[str, Any]
    method: Any
    input: _Input
    classes: tuple[str, ...]
    cut: Cost
    plain: Cost
    weights: _Weights
    kept: tuple[Count, ...] | None = None
    data: str | None = None
