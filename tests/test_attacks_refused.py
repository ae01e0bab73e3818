"""Attacks take floats of every precision, and refuse counts and seeds that are no whole numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import torchpaths as tp
from torchpaths.attacks import Pixels, Plan, Sample, fgsm, pgd
from torchpaths.errors import DataError
from train_toys import ToyNet


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    torch.manual_seed(0)
    return Pixels(tp.route(ToyNet(), tp.GatedBlocks(), example=torch.rand(1, 1, 8, 8)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_images_of_every_precision_are_attacked_alike(pixels: Pixels, dtype: torch.dtype) -> None:
    x, y = (torch.randint(0, 5, (3, 1, 8, 8)) / 4).to(dtype), torch.arange(3)
    for attack in (fgsm, pgd):
        assert torch.equal(attack(pixels, x, y, 0.1), attack(pixels, x.float(), y, 0.1))


@pytest.mark.parametrize("bad", [1.5, True, "2", None, 0], ids=repr)
def test_counts_are_whole_numbers(pixels: Pixels, bad: Any) -> None:
    x, y = torch.rand(2, 1, 8, 8), torch.arange(2)
    for given in ({"steps": bad}, {"draws": bad}):
        with pytest.raises(DataError, match="whole numbers"):
            pgd(pixels, x, y, 0.1, **given)
    for name in ("steps", "mimic_steps", "batch"):
        with pytest.raises(DataError):
            Plan(**{name: bad})


@pytest.mark.parametrize("bad", [2**70, -1, 0.5, True, None], ids=repr)
def test_seeds_are_whole_numbers(pixels: Pixels, bad: Any) -> None:
    with pytest.raises(DataError, match="seed"):
        fgsm(pixels, torch.rand(2, 1, 8, 8), torch.arange(2), 0.1, seed=bad)
    with pytest.raises(DataError, match="seed"):
        Plan(seed=bad)


def test_no_images_are_not_attacked() -> None:
    empty = Sample(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.long))
    with pytest.raises(DataError, match="no images"):
        empty.attacked(lambda x, y, number: x, 4)
