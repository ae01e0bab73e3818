"""Claims about images in Parquet files: every pixel and label as stored, every fault named with file and row."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from shared import SHARED, encode, needs_shared, pictures, write_parquet
from torchpaths.data import Loader, open_data
from torchpaths.errors import DataError

LABELS = [0, 1, 1, 0, 1, 0, 0, 1, 1, 0]


@pytest.fixture
def pixels() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return pictures(10)


def encoded(count: int = 10) -> list[bytes | None]:
    return [encode(p) for p in pictures(count)]


def test_pixels_labels_and_names_are_as_stored(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", encoded(), LABELS)
    data = open_data(tmp_path, "train")
    assert data.in_memory
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == LABELS
    assert np.array_equal(data.read(range(10)), pictures(10))
    assert np.array_equal(data.read([7, 2, 7]), pictures(10)[[7, 2, 7]])


@needs_shared
def test_cifar10_is_the_published_test_set() -> None:
    data = open_data(SHARED / "data" / "cifar10", "test")
    assert data.shape == (32, 32, 3)
    assert data.classes[:4] == ("airplane", "automobile", "bird", "cat")
    assert np.bincount(data.labels).tolist() == [1000] * 10


@needs_shared
def test_photos_of_many_sizes_some_grey_are_read_when_a_size_is_given() -> None:
    file = SHARED / "data" / "imagenet_sample" / "sample.parquet"
    with pytest.raises(DataError, match=r"sample\.parquet, row \d+: \d+ x \d+ pixels in a set of .* give size="):
        open_data(file, "test")
    data = open_data(file, "test", size=32)
    assert (len(data), data.shape, len(data.classes)) == (250, (32, 32, 3), 1000)


def test_a_set_too_large_for_memory_is_read_on_demand_with_the_same_pixels(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", encoded(), LABELS, group=3)
    data = open_data(tmp_path, "train", limit=10)
    assert not data.in_memory
    assert "read on demand" in repr(data)
    order = [9, 0, 4, 4, 1]
    assert np.array_equal(data.read(order), pictures(10)[order])
    whole = open_data(tmp_path, "train")
    assert (data.mean, data.std) == (whole.mean, whole.std)


def test_shards_follow_one_another_and_rows_are_named_within_their_file(tmp_path: Path) -> None:
    first = write_parquet(tmp_path / "data" / "train-00000-of-00002.parquet", encoded()[:6], LABELS[:6])
    images = encoded()[6:]
    images[2] = b"broken"
    write_parquet(tmp_path / "data" / "train-00001-of-00002.parquet", images, LABELS[6:])
    with pytest.raises(DataError, match=r"train-00001-of-00002\.parquet, row 2: the image cannot be decoded"):
        open_data(tmp_path, "train")
    with pytest.warns(UserWarning, match="left out 1 of 10 images"):
        data = open_data(tmp_path, "train", skip_corrupt=True)
    assert np.array_equal(data.read(range(9)), np.delete(pictures(10), 8, 0))
    first.unlink()
    with pytest.raises(DataError, match=r"holds 1 shards of 'train', their names promise 2"):
        open_data(tmp_path, "train")


def test_a_test_split_falls_back_on_validation_but_prefers_its_own(tmp_path: Path) -> None:
    write_parquet(tmp_path / "validation-0.parquet", encoded(4), [0, 0, 1, 1])
    assert len(open_data(tmp_path, "test")) == 4
    write_parquet(tmp_path / "test.parquet", encoded(5), [0, 0, 1, 1, 1])
    assert len(open_data(tmp_path, "test")) == 5
    assert len(open_data(tmp_path, "validation")) == 4


def test_columns_of_other_names_are_found_by_their_description(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", encoded(), LABELS, columns=("img", "fine"))
    assert open_data(tmp_path, "train").labels.tolist() == LABELS


def test_without_a_description_classes_are_numbers(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", encoded(3), [2, 0, 2], names=None)
    assert open_data(tmp_path, "train").classes == ("0", "1", "2")


def test_grey_images_in_a_set_of_colours_become_rgb(tmp_path: Path) -> None:
    grey = pictures(1, channels=1)
    write_parquet(tmp_path / "train.parquet", [encode(grey[0]), *encoded(2)], [0, 1, 1])
    data = open_data(tmp_path, "train")
    assert data.shape == (6, 6, 3)
    assert np.array_equal(data.read([0])[0], np.repeat(grey[0], 3, axis=2))


def test_a_set_of_grey_images_has_one_channel(tmp_path: Path) -> None:
    grey = pictures(3, channels=1)
    write_parquet(tmp_path / "train.parquet", [encode(g) for g in grey], [0, 1, 1])
    assert np.array_equal(open_data(tmp_path, "train").read(range(3)), grey)
    assert open_data(tmp_path, "train", channels=3).shape == (6, 6, 3)


def test_a_colour_image_that_comes_late_in_a_grey_set_is_an_error_which_channels_cure(tmp_path: Path) -> None:
    grey = encode(pictures(1, 2, 2, 1)[0])
    images: list[bytes | None] = [grey] * 600
    images[599] = encode(pictures(1, 2, 2)[0])
    write_parquet(tmp_path / "train.parquet", images, [0] * 600, group=300)
    with pytest.raises(DataError, match=r"row 599: a colour image .* give channels=3"):
        open_data(tmp_path, "train")
    assert open_data(tmp_path, "train", channels=3).shape == (2, 2, 3)
    assert open_data(tmp_path, "train", channels=1).shape == (2, 2, 1)


@pytest.mark.parametrize("mode", ["P", "RGBA", "CMYK", "1", "LA"])
def test_every_mode_of_8_bits_or_less_is_taken(tmp_path: Path, mode: str) -> None:
    kind = "TIFF" if mode == "CMYK" else "PNG"
    write_parquet(tmp_path / "train.parquet", [*encoded(1), encode(pictures(1)[0], kind, mode)], [0, 1])
    assert open_data(tmp_path, "train").shape == (6, 6, 3)


def test_samples_that_have_no_scale_are_refused_with_file_and_row(tmp_path: Path) -> None:
    deep = Image.fromarray(np.full((6, 6), 70000, np.int32))
    file = io.BytesIO()
    deep.save(file, "TIFF")
    write_parquet(tmp_path / "train.parquet", [*encoded(1), file.getvalue()], [0, 1])
    with pytest.raises(DataError, match=r"row 1: samples beyond 16 bits; save the image with 8 or 16"):
        open_data(tmp_path, "train")


def test_another_size_is_an_error_with_file_row_and_remedy_and_a_size_cures_it(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [*encoded(2), encode(pictures(1, 9, 7)[0])], [0, 1, 1])
    with pytest.raises(DataError, match=r"train\.parquet, row 2: 9 x 7 pixels in a set of 6 x 6; give size=.*size=6"):
        open_data(tmp_path, "train", skip_corrupt=True)
    assert open_data(tmp_path, "train", size=5).shape == (5, 5, 3)


@pytest.mark.parametrize("broken", [None, b"", b"\x89PNG\r\n\x1a\nnothing", "cut"])
def test_a_corrupt_row_is_an_error_with_file_and_row_or_left_out_and_counted(
    tmp_path: Path, broken: bytes | str | None
) -> None:
    images = encoded()
    for row in (0, 6):
        whole = images[row]
        assert whole is not None
        images[row] = whole[: len(whole) // 2] if isinstance(broken, str) else broken
    write_parquet(tmp_path / "train.parquet", images, LABELS)
    with pytest.raises(DataError, match=r"train\.parquet, row 0.*skip_corrupt=True"):
        open_data(tmp_path, "train")
    for limit in (None, 10):  # in memory and on demand
        with pytest.warns(UserWarning, match="left out 2 of 10 images"):
            data = open_data(tmp_path, "train", skip_corrupt=True, limit=limit)
        kept = [1, 2, 3, 4, 5, 7, 8, 9]
        assert data.skipped == 2
        assert data.labels.tolist() == [LABELS[i] for i in kept]
        assert np.array_equal(data.read(range(8)), pictures(10)[kept])


def test_a_corrupt_row_that_is_met_on_demand_is_named_and_reaches_the_loop(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [*encoded(9), b"broken"], LABELS)
    data = open_data(tmp_path, "train", limit=10)
    for workers in (0, 2):
        with pytest.raises(DataError, match=r"train\.parquet, row 9"):
            list(Loader(data, 5, mean=[0.5] * 3, std=[0.5] * 3, workers=workers))


def test_a_set_without_a_single_whole_image_is_an_error_also_when_skipping(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", [b"x", None], [0, 1])
    with pytest.raises(DataError, match=r"none of the 2 images looked at can be decoded.*row 0"):
        open_data(tmp_path, "train", skip_corrupt=True)


def test_nothing_is_warned_of_where_nothing_is_skipped(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", encoded(), LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_data(tmp_path, "train", skip_corrupt=True).skipped == 0


@pytest.mark.parametrize("keep", [0, 3, 200, -8])
def test_a_truncated_file_is_an_error_with_its_name(tmp_path: Path, keep: int) -> None:
    file = write_parquet(tmp_path / "train.parquet", encoded(), LABELS)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"train\.parquet is no whole Parquet file.*copy it again"):
        open_data(tmp_path, "train")


def test_a_file_damaged_in_the_middle_is_an_error_with_its_row_group(tmp_path: Path) -> None:
    images = [encode(p) for p in pictures(8, 32, 32)]
    file = write_parquet(tmp_path / "train.parquet", images, LABELS[:8])
    data = bytearray(file.read_bytes())
    start = pq.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    data[start : start + 200] = bytes(200)
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"train\.parquet, row group 1 cannot be read.*copy it again"):
        open_data(tmp_path, "train")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, None, 1], r"train\.parquet, row 1: the label is null \(1 such rows\); label or remove"),
        ([0, 1, 2], r"train\.parquet, row 2: label 2 is out of range \(0 to 1\); correct it"),
        ([0, -1, 1], r"train\.parquet, row 1: label -1 is out of range.*open 'validation'"),
    ],
)
def test_a_label_that_cannot_be_is_an_error_with_file_row_and_remedy(
    tmp_path: Path, labels: list[int | None], message: str
) -> None:
    write_parquet(tmp_path / "train.parquet", encoded(3), labels)
    with pytest.raises(DataError, match=message):
        open_data(tmp_path, "train")


def test_labels_that_are_text_are_refused(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "train.parquet", encoded(2), [0, 1], names=None)
    table = pq.read_table(file)
    pq.write_table(table.set_column(1, "label", pa.array(["cat", "dog"])), file)
    with pytest.raises(DataError, match=r"column 'label' holds string, not integers"):
        open_data(tmp_path, "train")


@pytest.mark.parametrize("missing", ["image", "label"])
def test_a_missing_column_is_named_beside_those_there_are(tmp_path: Path, missing: str) -> None:
    file = write_parquet(tmp_path / "train.parquet", encoded(2), [0, 1], names=None)
    pq.write_table(pq.read_table(file).drop_columns([missing]), file)
    with pytest.raises(DataError, match=rf"has no {missing} column.*its columns are "):
        open_data(tmp_path, "train")


def test_shards_of_different_sets_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train-0.parquet", encoded(2), [0, 1])
    write_parquet(tmp_path / "train-1.parquet", encoded(2), [0, 1], names=("dog", "cat"))
    with pytest.raises(DataError, match=r"train-1\.parquet names other classes than .*train-0\.parquet"):
        open_data(tmp_path, "train")


def test_a_missing_folder_split_or_row_is_an_error_with_what_there_is(tmp_path: Path) -> None:
    (tmp_path / "cifar10").mkdir()
    write_parquet(tmp_path / "cifar10" / "train.parquet", [], [])
    with pytest.raises(DataError, match=r"no image set .*cifar01'.*Did you mean 'cifar10'"):
        open_data(tmp_path / "cifar01", "train")
    with pytest.raises(DataError, match=r"has no split 'test': looked for test\.parquet.*it holds train\.parquet"):
        open_data(tmp_path / "cifar10", "test")
    with pytest.raises(DataError, match="cifar10 holds no images"):
        open_data(tmp_path / "cifar10", "train")


def test_one_file_serves_for_testing_only(tmp_path: Path) -> None:
    file = write_parquet(tmp_path / "photos.parquet", encoded(2), [0, 1])
    assert len(open_data(file, "test")) == 2
    with pytest.raises(DataError, match=r"for training give a folder with train\.parquet"):
        open_data(file, "train")


def test_an_image_number_out_of_range_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "train.parquet", encoded(2), [0, 1])
    with pytest.raises(DataError, match="images 0 to 1; asked for -1 to 0"):
        open_data(tmp_path, "train").read([0, -1])


@pytest.mark.parametrize("label", [2**40, 2**64 - 1])
def test_a_stray_label_makes_no_million_classes(tmp_path: Path, label: int) -> None:
    rows = [{"bytes": data, "path": "x.png"} for data in encoded(2)]
    pq.write_table(pa.table({"image": rows, "label": pa.array([0, label], pa.uint64())}), tmp_path / "a.parquet")
    with pytest.raises(
        DataError, match=rf"row 1: label {label} is out of range \(0 to 1,048,575, without class names\)"
    ):
        open_data(tmp_path / "a.parquet", "test")
