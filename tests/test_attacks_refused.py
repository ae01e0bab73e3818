"""Attacks take floats of every precision, and refuse counts and seeds that are no whole numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import torchpaths as tp
from torchpaths.attacks import Pixels, Plan, Sample, attack_report, fgsm, pgd
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


def test_a_network_of_one_score_is_no_classifier_and_says_how_to_make_it_one() -> None:
    torch.manual_seed(0)
    one = tp.models.cifar_resnet(14, classes=1, channels=1).eval()
    x, y = torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.long)
    net = tp.route(one, example=x)
    asked: list[Callable[[Tensor], Any]] = [
        lambda y: fgsm(Pixels(net), x, y, 0.1),
        lambda y: pgd(Pixels(net), x, y, 0.1),
        lambda y: attack_report(net, Sample(x, y), Sample(x, y), (0.0,), (1.0,)),
        lambda y: tp.survey(net, [(x, y)]),
        lambda y: tp.front(net, [(x, y)], seconds=0.001),
    ]
    for ask in asked:
        for labels in (y, torch.tensor([0, 1, 0, 1])):
            with pytest.raises(DataError, match=r"one an image.*torch\.cat\(\[-z, z\], 1\) / 2"):
                ask(labels)


def test_the_network_that_the_error_names_is_attacked_as_by_the_binary_loss() -> None:
    torch.manual_seed(0)
    one = tp.models.cifar_resnet(14, classes=1, channels=1).eval()

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = one

        def forward(self, x: Tensor) -> Tensor:
            z = self.one(x)
            return torch.cat([-z, z], 1) / 2

    x, y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])
    leaf = x.clone().requires_grad_()
    loss = functional.binary_cross_entropy_with_logits(one(leaf)[:, 0], y.float(), reduction="sum")
    (slope,) = torch.autograd.grad(loss, leaf)
    attacked = fgsm(Pixels(tp.route(Two().eval(), example=x)), x, y, 0.1)
    assert torch.equal(attacked, (x + 0.1 * slope.sign()).clamp(0, 1))
    assert not torch.equal(attacked, x)
