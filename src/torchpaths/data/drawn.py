"""Transforms of timm and torchvision as functions of one seed for each image.

They draw from the global generators of Python, numpy and torch. So these are seeded before every image and put back
afterwards: whoever else draws notices nothing, as long as nobody does meanwhile. That is why a loader runs such
transforms in processes and never in threads (`torchpaths.data.loader`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

T = TypeVar("T")
R = TypeVar("R")


@contextmanager
def undisturbed() -> Iterator[None]:
    """The three global generators as they were, after the block."""
    python, numpy, torchs = random.getstate(), np.random.get_state(), torch.default_generator.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.default_generator.set_state(torchs)


def seed_all(seed: int) -> None:
    """Seed Python's, numpy's and torch's CPU generator from 64 bits."""
    random.seed(seed)
    np.random.seed(seed & 0xFFFFFFFF)  # noqa: NPY002
    torch.default_generator.manual_seed(seed & 0x7FFFFFFFFFFFFFFF)


def each(transform: Callable[[T], R], items: list[T], seeds: NDArray[np.uint64]) -> list[R]:
    """``[transform(item) for item in items]``, each drawing from generators seeded by its own seed."""
    found: list[R] = []
    with undisturbed():
        for item, seed in zip(items, seeds.tolist(), strict=True):
            seed_all(seed)
            found.append(transform(item))
    return found
