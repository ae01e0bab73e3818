"""Claims about augmentation: what each part does, and that it depends on (seed, epoch, index) alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from shared import pictures
from torchpaths.data import Augment, noise
from torchpaths.data.randaugment import OPERATIONS
from torchpaths.errors import DataError

ALL = Augment(pad=2, flip=True, randaugment=(2, 9), erase=0.5)
IMAGES = pictures(40, 8, 8)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(-(2**63), 2**63),
    epoch=st.integers(0, 500),
    indices=st.lists(st.integers(0, 39), min_size=1, max_size=12),
    channels=st.sampled_from([1, 3]),
)
def test_an_image_is_changed_alike_in_whatever_company(
    seed: int, epoch: int, indices: list[int], channels: int
) -> None:
    images = IMAGES[..., :channels]
    together = ALL(images[indices], seed=seed, epoch=epoch, indices=indices)
    alone = [ALL(images[[i]], seed=seed, epoch=epoch, indices=[i])[0] for i in indices]
    assert together.shape == (len(indices), 8, 8, channels)
    assert np.array_equal(together, alone)


@pytest.mark.parametrize(
    "augment", [Augment(pad=2), Augment(flip=True), Augment(randaugment=(1, 15)), Augment(erase=1.0)]
)
def test_another_seed_epoch_or_index_changes_an_image_differently(augment: Augment) -> None:
    images, indices = np.repeat(IMAGES[:1], 32, 0), np.arange(32)
    first = augment(images, seed=0, epoch=0, indices=indices)
    assert not np.array_equal(first, augment(images, seed=1, epoch=0, indices=indices))
    assert not np.array_equal(first, augment(images, seed=0, epoch=1, indices=indices))
    assert len({image.tobytes() for image in first}) > 1


def test_the_images_given_stay_as_they_were() -> None:
    images = IMAGES.copy()
    ALL(images, seed=0, epoch=0, indices=np.arange(40))
    assert np.array_equal(images, IMAGES)


def test_nothing_asked_for_is_nothing_changed() -> None:
    assert np.array_equal(Augment()(IMAGES, seed=0, epoch=0, indices=np.arange(40)), IMAGES)


def test_a_crop_is_a_window_of_the_zero_padded_image_and_every_window_occurs() -> None:
    image = IMAGES[0] | 1
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    windows = {padded[y : y + 8, x : x + 8].tobytes() for y in range(3) for x in range(3)}
    out = Augment(pad=1)(np.repeat(image[None], 200, 0), seed=0, epoch=0, indices=np.arange(200))
    assert {o.tobytes() for o in out} == windows


def test_half_of_the_images_are_mirrored_left_to_right_and_the_rest_untouched() -> None:
    out = Augment(flip=True)(np.repeat(IMAGES[:1], 2000, 0), seed=0, epoch=0, indices=np.arange(2000))
    mirrored = (out == IMAGES[0, :, ::-1]).all((1, 2, 3))
    assert ((out == IMAGES[0]).all((1, 2, 3)) ^ mirrored).all()
    assert abs(mirrored.mean() - 0.5) < 0.04


def test_flipping_does_not_change_where_an_image_is_cropped() -> None:
    images, indices = np.zeros((50, 8, 8, 1), np.uint8), np.arange(50)
    images[:] = np.arange(8)[:, None, None] + 1  # rows: mirroring leaves them alone
    cropped = [Augment(pad=2, flip=flip)(images, seed=3, epoch=1, indices=indices) for flip in (False, True)]
    rows = [image.max((2, 3)) for image in cropped]
    assert np.array_equal(rows[0], rows[1])


def test_erasing_fills_one_box_of_2_to_40_percent_with_random_pixels_as_often_as_asked() -> None:
    images = np.zeros((1500, 32, 32, 3), np.uint8)
    out = Augment(erase=0.4)(images, seed=0, epoch=0, indices=np.arange(1500))
    filled = out.max(3) > 0
    erased = np.flatnonzero(filled.max((1, 2)))
    assert abs(len(erased) / 1500 - 0.4) < 0.04
    shares = []
    for i in erased:
        ys, xs = np.flatnonzero(filled[i].any(1)), np.flatnonzero(filled[i].any(0))
        box = out[i, ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
        assert (box.max(2) > 0).mean() > 0.95
        shares.append(box[..., 0].size / 32**2)
    assert 0.015 < min(shares) < 0.04
    assert 0.36 < max(shares) < 0.42
    values = out[erased][filled[erased]]
    assert values.min() == 0
    assert values.max() == 255
    assert abs(values.mean() - 127.5) < 1


@pytest.mark.parametrize("channels", [1, 3])
def test_randaugments_outcomes_are_those_of_torchvisions_own(channels: int) -> None:
    pixels = pictures(1, 32, 32, channels)[0] // 2 + 40
    image = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
    their_class = transforms.RandAugment(num_ops=1, magnitude=17)
    torch.manual_seed(0)
    theirs = np.unique([np.asarray(their_class(image)).reshape(pixels.shape) for _ in range(700)], axis=0)
    copies = np.repeat(pixels[None], 700, 0)
    ours = np.unique(Augment(randaugment=(1, 17))(copies, seed=0, epoch=0, indices=np.arange(700)), axis=0)
    # 14 operations, 9 of them in two directions; without colours the two of saturation are the identity.
    assert len(ours) == len(theirs) == 23 - 2 * (channels == 1)
    # Their factors are rounded to float32, which may move a pixel by one level.
    apart = np.abs(ours[:, None].astype(int) - theirs[None]).max((2, 3, 4))
    assert ((apart <= 1).sum(0) == 1).all()
    assert ((apart <= 1).sum(1) == 1).all()


def test_magnitude_zero_leaves_the_geometry_alone() -> None:
    drawn = noise.integers(len(OPERATIONS), 0, noise.RANDAUGMENT, 0, np.arange(300), 0, 0)
    moves = [i for i, name in enumerate(OPERATIONS) if name.startswith(("shear", "translate", "rotate"))]
    which = np.flatnonzero(np.isin(drawn, moves))
    images = pictures(len(which), 8, 8)
    assert np.array_equal(Augment(randaugment=(1, 0))(images, seed=0, epoch=0, indices=which), images)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pad": -1}, "pad=-1: give zero or more"),
        ({"erase": 1.5}, "erase=1.5: give a probability"),
        ({"randaugment": (0, 9)}, r"give \(operations from 1, magnitude 0 to 30\)"),
        ({"randaugment": (2, 31)}, r"give \(operations from 1, magnitude 0 to 30\)"),
    ],
)
def test_values_out_of_range_are_refused_with_the_range(values: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Augment(**values)  # type: ignore[arg-type]


def test_images_without_an_index_each_are_refused() -> None:
    with pytest.raises(DataError, match=r"40 images came with indices of shape \[3\]"):
        ALL(IMAGES, seed=0, epoch=0, indices=[0, 1, 2])
