"""CIFAR's own folders: read as they are handed out, and nothing in them is run."""

from __future__ import annotations

import contextlib
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchpaths.data import open_data
from torchpaths.errors import DataError

NAMES = [b"cat", b"dog"]


def write(file: Path, value: Any) -> None:
    """As the authors did, who had Python 2: keys and texts are bytes."""
    file.write_bytes(pickle.dumps(value, protocol=2))


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """CIFAR-10's folder with two images a file."""
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    write(root / "batches.meta", {b"label_names": NAMES, b"num_vis": 3072})
    rng = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        data = rng.integers(0, 256, (2, 3072), dtype=np.uint8)
        write(root / name, {b"data": data, b"labels": [0, 1], b"batch_label": b"x", b"filenames": [b"a", b"b"]})
    return root


def test_images_labels_and_names_are_those_of_the_files(ten: Path) -> None:
    images = open_data(ten, "train")
    assert (len(images), images.shape, images.classes) == (10, (32, 32, 3), ("cat", "dog"))
    assert images.labels.tolist() == [0, 1] * 5
    second = pickle.loads((ten / "data_batch_2").read_bytes())[b"data"][1]
    assert np.array_equal(images.read([3])[0], second.reshape(3, 32, 32).transpose(1, 2, 0))
    assert len(open_data(ten, "test")) == 2
    assert open_data(ten, "test", size=16, channels=1).shape == (16, 16, 1)
    with pytest.raises(DataError, match="no split 'validation': CIFAR has train and test"):
        open_data(ten, "validation")


def test_of_cifar_100_the_fine_classes_are_read(tmp_path: Path) -> None:
    root = tmp_path / "cifar-100-python"
    root.mkdir()
    write(root / "meta", {b"fine_label_names": NAMES, b"coarse_label_names": [b"pet"]})
    for name in ("train", "test"):
        data = np.zeros((1, 3072), np.uint8)
        write(root / name, {b"data": data, b"fine_labels": [1], b"coarse_labels": [0]})
    assert open_data(root, "test").labels.tolist() == [1]
    assert open_data(root, "train").classes == ("cat", "dog")


class Harm:
    """What runs when a pickle of it is opened as usual."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_what_else_a_file_holds_is_refused_and_not_run(ten: Path, tmp_path: Path) -> None:
    whole = (ten / "test_batch").read_bytes()
    mark = tmp_path / "harm"
    wrong: list[tuple[bytes, str]] = [
        (pickle.dumps({b"data": Harm(mark)}, protocol=2), r"names posix\.mkdir"),
        (whole[: len(whole) // 2], "is no file of CIFAR"),
        (b"", "is no file of CIFAR"),
        (pickle.dumps([1], protocol=2), "no table of names and values"),
        (pickle.dumps({b"data": 3, b"labels": [0]}, protocol=2), "no array 'data'"),
        (pickle.dumps({b"labels": []}, protocol=2), "no list 'labels'"),
    ]
    for data, labels in (
        (np.zeros((2, 3072), np.float32), [0, 1]),
        (np.zeros((2, 3000), np.uint8), [0, 1]),
        (np.zeros((2, 3072), np.uint8), [0, 7]),
        (np.zeros((2, 3072), np.uint8), [0]),
        (np.array([Harm(mark), 1], dtype=object), [0, 1]),
    ):
        wrong.append((pickle.dumps({b"data": data, b"labels": labels}, protocol=2), "is no file of CIFAR"))
    for given, why in wrong:
        (ten / "test_batch").write_bytes(given)
        with pytest.raises(DataError, match=why):
            open_data(ten, "test")
    assert not mark.exists()
    pickle.loads(wrong[0][0])
    assert mark.exists(), "it does harm where it is opened as usual"
    (ten / "test_batch").unlink()
    with pytest.raises(DataError, match=r"no split 'test'|cannot be read"):
        open_data(ten, "test")


def test_a_damaged_file_is_an_error_of_the_library_wherever_it_is_damaged(ten: Path) -> None:
    whole = (ten / "batches.meta").read_bytes()
    for place in range(len(whole)):
        (ten / "batches.meta").write_bytes(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
        with contextlib.suppress(DataError):  # of a name that has another letter nobody can know
            open_data(ten, "test")


def test_where_a_set_can_be_had_is_said(tmp_path: Path) -> None:
    for name, where in (("cifar10", "kriz/cifar"), ("Oxford-Pets", "vgg/data/pets"), ("imagenet", "image-net.org")):
        with pytest.raises(DataError, match=where):
            open_data(tmp_path / name, "train")
    with pytest.raises(DataError, match="Known by name: digits"):
        open_data(tmp_path / "mine", "train")
