"""What several tests share: where the real images and weights are, and small image files made on the spot.

Tests that need the real files skip, with the reason, where they are absent.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

SHARED = Path(os.environ.get("TORCHPATHS_SHARED", Path(__file__).resolve().parents[1].parent / "shared"))
"""A folder with ``data/cifar10/test.parquet``, ``data/weights/cifar10_resnet20.safetensors`` and so on."""

needs_shared = pytest.mark.skipif(
    not (SHARED / "data" / "cifar10" / "test.parquet").is_file(),
    reason=f"no real images at {SHARED}; set TORCHPATHS_SHARED to the folder that holds data/cifar10 and data/weights",
)


def pictures(count: int, height: int = 6, width: int = 6, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Random pixels, uint8 ``[count, height, width, channels]``."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def encode(pixels: NDArray[np.uint8], kind: str = "PNG", mode: str | None = None) -> bytes:
    """An image file's bytes, without loss unless ``kind`` loses."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    buffer = io.BytesIO()
    (image.convert(mode) if mode else image).save(buffer, kind)
    return buffer.getvalue()


def write_parquet(
    file: Path,
    images: Sequence[bytes | None],
    labels: Sequence[int | None],
    names: Sequence[str] | None = ("cat", "dog"),
    group: int = 4,
    columns: tuple[str, str] = ("image", "label"),
) -> Path:
    """A Parquet file in the Hugging Face image layout, ``group`` rows in each row group; None is a null."""
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows: list[dict[str, Any]] = [{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)]
    table = pa.table({columns[0]: pa.array(rows, struct), columns[1]: pa.array(labels, pa.int64())})
    if names is not None:
        features = {columns[0]: {"_type": "Image"}, columns[1]: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=group)
    return file
