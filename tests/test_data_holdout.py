"""Claims about folders without test images: some of each class are held out, by what they are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from shared import encode, pictures
from torchpaths.data import open_data
from torchpaths.data.holdout import Holdout
from torchpaths.data.sources import class_names, held_out
from torchpaths.errors import DataError

FIFTH = Holdout(0.2)


def fill(root: Path, classes: dict[str, int]) -> Path:
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for i, pixels in enumerate(pictures(count, seed=ord(name[0]))):
            (root / name / f"{i}.png").write_bytes(encode(pixels))
    return root


def test_training_and_test_images_are_a_partition_with_every_class_on_either_side(tmp_path: Path) -> None:
    fill(tmp_path, {"ant": 40, "bee": 2, "cat": 25})
    train, test = (open_data(tmp_path, split, holdout=FIFTH) for split in ("train", "test"))
    assert train.classes == test.classes == ("ant", "bee", "cat") == class_names(tmp_path, FIFTH)
    assert len(train) + len(test) == 67
    assert set(train.labels) == set(test.labels) == {0, 1, 2}
    assert 6 <= len(test) <= 22
    seen = {image.tobytes() for image in train.read(np.arange(len(train)))}
    kept = [image.tobytes() for image in test.read(np.arange(len(test)))]
    assert not seen & set(kept)
    listed = held_out(tmp_path, FIFTH)
    assert listed is not None
    assert [(name.partition("/")[0], (tmp_path / name).is_file()) for name in listed] == [
        (test.classes[label], True) for label in test.labels
    ]


def test_images_that_come_later_move_no_other() -> None:
    names = [f"ant/{i}.png" for i in range(200)]
    labels = np.zeros(200, np.int64)
    before = FIFTH.chosen(names, labels)
    after = FIFTH.chosen([*names[:50], "ant/new.png", *names[50:]], np.zeros(201, np.int64))
    assert np.array_equal(np.delete(after, 50), before)
    assert 20 <= before.sum() <= 60
    assert not np.array_equal(before, Holdout(0.2, seed=1).chosen(names, labels))


def test_one_image_of_a_class_is_for_training() -> None:
    for seed in range(20):
        assert Holdout(0.9, seed).chosen(["a/x.png", "b/1.png", "b/2.png"], np.array([0, 1, 1])).tolist()[0] is False
        assert sum(Holdout(0.9, seed).chosen(["b/1.png", "b/2.png"], np.array([1, 1]))) == 1


def test_a_folder_with_test_images_of_its_own_keeps_them(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"ant": 5, "bee": 5})
    fill(tmp_path / "valid", {"ant": 1, "bee": 2})
    assert [len(open_data(tmp_path, split, holdout=FIFTH)) for split in ("train", "test")] == [10, 3]
    assert held_out(tmp_path, FIFTH) is None


def test_a_folder_of_training_images_alone_is_split(tmp_path: Path) -> None:
    fill(tmp_path / "train", {"ant": 10, "bee": 10})
    assert sum(len(open_data(tmp_path, split, holdout=FIFTH)) for split in ("train", "test")) == 20
    with pytest.raises(DataError, match=r"has no split 'test'.*With holdout=0\.2"):
        open_data(tmp_path, "test")


def test_without_holdout_a_folder_of_classes_is_for_testing(tmp_path: Path) -> None:
    fill(tmp_path, {"ant": 3, "bee": 2})
    assert len(open_data(tmp_path, "test")) == 5
    with pytest.raises(DataError, match=r"has no split 'train'.*With holdout=0\.2"):
        open_data(tmp_path, "train")


@pytest.mark.parametrize("names", [("Train", "Val"), ("training", "dev"), ("TEST", "Training")])
def test_splits_in_another_spelling_are_no_classes(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        fill(tmp_path / name, {"ant": 2, "bee": 2})
    with pytest.raises(DataError, match="looks like a split and not like a class"):
        open_data(tmp_path, "train", holdout=FIFTH)


@pytest.mark.parametrize("inside", ["", "train"])
def test_an_empty_class_is_named(tmp_path: Path, inside: str) -> None:
    fill(tmp_path / inside, {"ant": 3, "bee": 3})
    (tmp_path / inside / "cat").mkdir()
    (tmp_path / inside / "cat" / "notes.txt").write_text("to come")
    with pytest.raises(DataError, match=r"no images in 1 of 3 class folders \('cat'\); fill or remove"):
        open_data(tmp_path, "train", holdout=FIFTH)


@pytest.mark.parametrize("share", [0.0, 1.0, -1, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(DataError, match=r"between 0 and 1, e\.g\. 0\.2"):
        Holdout(share)


def test_images_without_class_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(encode(pictures(1)[0]))
    with pytest.raises(DataError, match="put them into one folder per class"):
        open_data(tmp_path, "train", holdout=FIFTH)
