"""What a survey is of, beside the layout: digests of the path that was chosen and of the weights, by which surveys of
one layout are told apart before they are merged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import torch
from torch import Tensor

from torchpaths.layout import Layout
from torchpaths.path import Path

FREE = "free"


def along(path: Path | None, layout: Layout) -> str:
    """A digest of a path, `FREE` for none."""
    if not path:
        return FREE
    digest = hashlib.sha256()
    for site in layout.sites:
        if site in path:
            digest.update(f"{site}={torch.as_tensor(path[site]).tolist()};".encode())
    return digest.hexdigest()[:16]


def weights(parameters: Iterable[Tensor]) -> str:
    """A digest of parameters, their order, shapes and types."""
    digest = hashlib.sha256()
    for parameter in parameters:
        values = parameter.detach().cpu().contiguous()
        digest.update(f"{tuple(values.shape)} {values.dtype};".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
