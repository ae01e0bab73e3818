"""Claims about policies, colours and erasing: timm's and torchvision's own outcomes, each a function of (seed, epoch,
index) alone, whatever else draws."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment, random_erasing
from torchvision import transforms
from torchvision.transforms import v2

from shared import pictures
from torchpaths.data import Augment, noise
from torchpaths.data.drawn import each, seed_all, undisturbed
from torchpaths.errors import DataError

IMAGES = pictures(12, 16, 16) // 2 + 40
ONES = [
    Augment(policy="rand-m9-mstd0.5"),
    Augment(policy="rand-m4-n3-inc1"),
    Augment(policy="ta_wide", interpolation="bicubic"),
    Augment(policy="ra"),
    Augment(policy="augmix-m5-w4-d2"),
    Augment(policy="v0-mstd0.5"),
    Augment(jitter=0.4),
    Augment(policy="rand-m7-n2", jitter=0.2, pad=2, flip=0.5, interpolation="random"),
]


@pytest.mark.parametrize("augment", ONES, ids=lambda a: f"{a.policy} {a.jitter}")
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_changed_alike_in_whatever_company(augment: Augment, channels: int) -> None:
    images = IMAGES[..., :channels]
    together = augment(images, seed=1, epoch=2, indices=np.arange(12))
    assert together.shape == images.shape
    alone = [augment(images[[i]], seed=1, epoch=2, indices=[i])[0] for i in reversed(range(12))][::-1]
    assert np.array_equal(together, alone)
    assert not np.array_equal(together, augment(images, seed=1, epoch=3, indices=np.arange(12)))


def test_whoever_else_draws_notices_nothing() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    with undisturbed():
        seed_all(5)
        expected = draw()
        seed_all(5)
        ONES[-1](IMAGES, seed=0, epoch=0, indices=np.arange(12))
        assert draw() == expected


def test_timms_policies_are_timms_with_the_mean_outside_the_image() -> None:
    mean = (0.485, 0.456, 0.406)
    params = {"translate_const": 7, "img_mean": (124, 116, 104), "interpolation": Image.Resampling.BICUBIC}
    theirs = auto_augment.rand_augment_transform("rand-m9-n2-mstd0.5", params)
    seeds = noise.bits(3, noise.POLICY, 1, np.arange(12))
    expected = each(theirs, [Image.fromarray(image) for image in IMAGES], seeds)
    augment = Augment(policy="rand-m9-n2-mstd0.5", interpolation="bicubic")
    got = augment(IMAGES, seed=3, epoch=1, indices=np.arange(12), mean=mean)
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(got, expected, strict=True))
    assert not np.array_equal(got, augment(IMAGES, seed=3, epoch=1, indices=np.arange(12)))  # another colour outside


@pytest.mark.parametrize(
    ("augment", "theirs", "stream"),
    [
        (Augment(policy="ta_wide"), v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR), noise.POLICY),
        (Augment(jitter=0.4), transforms.ColorJitter(0.4, 0.4, 0.4), noise.JITTER),
    ],
)
def test_torchvisions_transforms_are_torchvisions(augment: Augment, theirs: torch.nn.Module, stream: int) -> None:
    opened = [Image.fromarray(image) for image in IMAGES]
    got = augment(IMAGES, seed=0, epoch=0, indices=np.arange(12))
    if augment.jitter:  # the first generation of torchvision's draws alike, but in another order than the second
        theirs = v2.ColorJitter(0.4, 0.4, 0.4)
    expected = each(theirs, opened, noise.bits(0, stream, 0, np.arange(12)))
    assert all(np.array_equal(a, np.asarray(b)) for a, b in zip(got, expected, strict=True))


def test_erasing_with_zeros_is_torchvisions_and_with_noise_is_timms() -> None:
    x = torch.rand(40, 3, 16, 16) + 1
    seeds = noise.bits(2, noise.ERASE, 0, np.arange(40))
    zero = transforms.RandomErasing(0.5)
    normal = random_erasing.RandomErasing(0.4, mode="pixel", max_count=3, device="cpu")  # type: ignore[no-untyped-call]
    for augment, theirs in (
        (Augment(erase=0.5, erase_fill="zero"), zero),
        (Augment(erase=0.4, erase_fill="normal", erase_count=3), normal),
    ):
        got = augment.after(x.clone(), seed=2, epoch=0, indices=np.arange(40))
        expected = each(theirs, list(x.clone()), seeds)
        assert torch.equal(got, torch.stack(expected))
        erased = (got != x).flatten(1).any(1).float().mean()
        assert 0.2 < float(erased) < 0.75
        assert not augment(IMAGES, seed=0, epoch=0, indices=np.arange(12)).sum() - IMAGES.sum(), "before: untouched"


def test_a_flip_is_a_probability_that_means_what_it_says() -> None:
    copies = np.repeat(IMAGES[:1], 4000, 0)
    for flip, share in ((0.25, 0.25), (0.5, 0.5), (1.0, 1.0), (True, 0.5), (False, 0.0)):
        out = Augment(flip=flip)(copies, seed=0, epoch=0, indices=np.arange(4000))
        assert (out == IMAGES[0, :, ::-1]).all((1, 2, 3)).mean() == pytest.approx(share, abs=0.025)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"policy": "rnd-m9"}, r"policy 'rnd-m9' is known to neither timm nor torchvision. Did you mean .*rand-m9-n2"),
        ({"policy": "tawide"}, r"neither timm nor torchvision. Did you mean 'ta_wide'"),
        ({"policy": "rand-m9-mstd"}, r"'mstd' is no section of timm's rand.*mstdDEVIATION"),
        ({"policy": "rand-9"}, r"'9' is no section"),
        ({"policy": "ta_wide-m9"}, r"neither timm nor torchvision"),
        ({"flip": 1.5}, "flip=1.5: give a probability"),
        ({"jitter": -1}, "jitter=-1: give a share"),
        ({"erase": 0.1, "erase_count": 3}, "erase_fill='normal'"),
        ({"erase_fill": "noise"}, "erase_fill='noise' is unknown"),
        ({"interpolation": "nearest"}, "interpolation='nearest' is unknown"),
        ({"whole": True}, r"crop is None; give it, e.g. \(0.08, 1.0\)"),
    ],
)
def test_values_out_of_range_are_refused_with_a_remedy(values: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Augment(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "remedy",
    [
        {"policy": "rand-m9-n2-mstd0.5"},
        {"policy": "ta_wide"},
        {"erase": 1.0, "erase_count": 3, "erase_fill": "normal"},
        {"whole": True, "crop": (0.08, 0.5)},
    ],
    ids=str,
)
def test_the_remedies_of_those_change_images(remedy: dict[str, object]) -> None:
    augment = Augment(**remedy)  # type: ignore[arg-type]
    changed = torch.from_numpy(augment(IMAGES, seed=0, epoch=0, indices=np.arange(12))) / 255
    after = augment.after(changed.movedim(3, 1), seed=0, epoch=0, indices=np.arange(12))
    assert not torch.equal(after, torch.from_numpy(IMAGES).movedim(3, 1) / 255)
