"""Claims about scikit-learn's digits as an image set."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from torchpaths.data import open_data
from torchpaths.errors import DataError


def test_digits_need_no_files_and_keep_every_scan_in_one_split() -> None:
    train, test = open_data("digits", "train"), open_data("digits", "test")
    assert (len(train), len(test)) == (1442, 355)
    assert train.shape == test.shape == (8, 8, 1)
    assert train.classes == test.classes == tuple("0123456789")
    both = np.concatenate([train.read(range(1442)), test.read(range(355))])[..., 0]
    scans = np.asarray(load_digits().images)
    levels = np.round(both / 255 * 16)
    assert sorted(map(bytes, levels.astype(np.uint8))) == sorted(map(bytes, scans.astype(np.uint8)))


def test_every_digit_has_a_fifth_of_its_scans_in_the_test_split() -> None:
    counts = [np.bincount(open_data("digits", split).labels) for split in ("train", "test")]
    assert np.abs(counts[1] / (counts[0] + counts[1]) - 0.2).max() < 0.005


def test_pixels_belong_to_their_labels() -> None:
    data, scans = open_data("digits", "test"), load_digits()
    pixels = np.round(data.read(range(355))[..., 0] / 255 * 16)
    for pixel, label in zip(pixels[:50], data.labels, strict=False):
        assert label in scans.target[(scans.images == pixel).all((1, 2))]


def test_digits_can_be_larger_and_have_three_channels() -> None:
    data = open_data("digits", "test", size=16, channels=3)
    image = data.read([0])[0]
    assert image.shape == (16, 16, 3)
    assert np.array_equal(image[..., 0], image[..., 2])


@pytest.mark.parametrize(
    ("split", "options", "message"),
    [
        ("tset", {}, "no split 'tset'. Did you mean 'test'"),
        ("test", {"size": 0}, "size=0: give the side"),
        ("test", {"channels": 2}, "channels=2: images can be read with 1"),
    ],
)
def test_what_cannot_be_given_is_named_with_what_can(split: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_data("digits", split, size=options.get("size"), channels=options.get("channels"))


def test_an_unknown_set_is_answered_with_near_ones() -> None:
    with pytest.raises(DataError, match=r"no image set 'digit'.*Did you mean 'digits'"):
        open_data("digit", "train")
