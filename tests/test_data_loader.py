"""Claims about the loader: the same pixels for every batch size, number of ranks and workers, from any batch on."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms.v2 import functional as tv

from shared import encode, pictures, write_parquet
from torchpaths.data import Augment, ImageSet, Loader, open_data
from torchpaths.data.crops import boxes
from torchpaths.errors import DataError

COUNT = 37
AUGMENT = Augment(pad=2, flip=True, erase=0.5)


def images(count: int = COUNT) -> ImageSet:
    # The label tells the image, so that batches can be compared by it.
    return ImageSet("toy", "train", tuple(map(str, range(count))), np.arange(count), pictures(count))


def batches(loader: Loader, epoch: int = 0, start: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(loader.epoch(epoch, start))


def joined(loader: Loader, epoch: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    xs, ys = zip(*batches(loader, epoch), strict=True)
    return torch.cat(xs), torch.cat(ys)


@settings(deadline=None, max_examples=20)
@given(size=st.integers(1, 50), seed=st.integers(0, 99), epoch=st.integers(0, 9), workers=st.integers(0, 3))
def test_pixels_and_order_depend_on_seed_and_epoch_alone(size: int, seed: int, epoch: int, workers: int) -> None:
    one = joined(Loader(images(), 1, augment=AUGMENT, shuffle=True, seed=seed, workers=0), epoch)
    other = joined(Loader(images(), size, augment=AUGMENT, shuffle=True, seed=seed, workers=workers), epoch)
    assert torch.equal(one[1], other[1])
    assert torch.equal(one[0], other[0])


@settings(deadline=None, max_examples=20)
@given(world=st.integers(1, 5), share=st.integers(1, 6), drop_last=st.booleans(), epoch=st.integers(0, 9))
def test_ranks_share_each_global_batch_between_them(world: int, share: int, drop_last: bool, epoch: int) -> None:
    size = world * share

    def loader(rank: int, world: int) -> Loader:
        return Loader(
            images(),
            size,
            augment=AUGMENT,
            shuffle=True,
            seed=5,
            rank=rank,
            world=world,
            drop_last=drop_last,
            workers=0,
        )

    whole = batches(loader(0, 1), epoch)
    parts = [batches(loader(rank, world), epoch) for rank in range(world)]
    assert len(whole) == len(loader(0, world)) == (COUNT // size if drop_last else -(-COUNT // size))
    for b, (x, y) in enumerate(whole):
        assert torch.equal(torch.cat([part[b][1] for part in parts]), y)
        assert torch.equal(torch.cat([part[b][0] for part in parts]), x)
        sizes = {len(part[b][1]) for part in parts}
        assert sizes == {share} if len(y) == size else max(sizes) - min(sizes) <= 1


def test_an_epoch_goes_on_from_any_batch_as_if_never_interrupted() -> None:
    loader = Loader(images(), 8, augment=AUGMENT, shuffle=True, seed=1)
    whole = batches(loader, 3)
    for start in range(len(whole) + 1):
        rest = batches(loader, 3, start)
        assert len(rest) == len(whole) - start
        assert all(
            torch.equal(a, b) for r, w in zip(rest, whole[start:], strict=True) for a, b in zip(r, w, strict=True)
        )


def test_shuffling_shows_every_image_once_in_an_order_of_each_epochs_own() -> None:
    loader = Loader(images(), 8, shuffle=True, seed=1)
    orders = [joined(loader, epoch)[1].tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(COUNT)) for order in orders)
    assert len(set(map(tuple, orders))) == 3
    assert joined(Loader(images(), 8, shuffle=True, seed=2))[1].tolist() != orders[0]


def test_every_image_comes_first_about_as_often() -> None:
    loader = Loader(images(5), 5, shuffle=True, workers=0)
    firsts = np.bincount([loader.indices(epoch)[0][0] for epoch in range(2000)], minlength=5)
    assert np.abs(firsts - 400).max() < 75


def test_plain_iteration_goes_through_the_epoch_that_was_set() -> None:
    loader = Loader(images(), 8, shuffle=True)
    loader.set_epoch(4)
    assert torch.equal(torch.cat([y for _, y in loader]), joined(loader, 4)[1])


def test_without_shuffling_the_sets_own_order_is_kept() -> None:
    assert joined(Loader(images(), 8))[1].tolist() == list(range(COUNT))


def test_pixels_are_normalised_as_torchvision_does_bit_for_bit() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    x, _ = joined(Loader(images(), 8, mean=mean, std=std))
    pixels = torch.from_numpy(pictures(COUNT)).permute(0, 3, 1, 2).float() / 255
    assert torch.equal(x, tv.normalize(pixels, list(mean), list(std)))
    assert x.dtype == torch.float32


def test_by_default_the_sets_own_mean_and_deviation_are_taken_out() -> None:
    x, y = joined(Loader(images(), 8))
    assert x.mean((0, 2, 3)).abs().max() < 1e-5
    assert torch.allclose(x.std((0, 2, 3), unbiased=False), torch.ones(3), atol=1e-5)
    assert y.dtype == torch.int64


def test_the_indices_say_which_images_a_batch_holds() -> None:
    loader = Loader(images(), 8, shuffle=True, rank=1, world=2)
    assert [i.tolist() for i in loader.indices(2)] == [y.tolist() for _, y in loader.epoch(2)]


def test_the_last_smaller_batch_can_be_dropped() -> None:
    assert [len(y) for _, y in Loader(images(), 16)] == [16, 16, 5]
    assert [len(y) for _, y in Loader(images(), 16, drop_last=True)] == [16, 16]


def test_leaving_an_epoch_early_leaves_no_thread_behind() -> None:
    epoch = Loader(images(), 2, workers=2).epoch(0)
    next(epoch)
    assert any("torchpaths-loader" in t.name for t in threading.enumerate())
    epoch.close()  # type: ignore[attr-defined]
    assert not any("torchpaths-loader" in t.name for t in threading.enumerate())


def test_a_set_on_disk_is_shuffled_by_row_groups_and_seen_whole(tmp_path: Path) -> None:
    count = 120
    write_parquet(
        tmp_path / "train.parquet", [encode(p) for p in pictures(count, 2, 2)], list(range(count)), names=None, group=4
    )
    data = open_data(tmp_path, "train", limit=10)
    loader = Loader(data, 32, shuffle=True, mean=(0, 0, 0), std=(1, 1, 1))
    x, y = joined(loader)
    assert sorted(y.tolist()) == list(range(count))
    assert len({label // 4 for label in y[:32].tolist()}) == 8  # eight groups of four, mixed, before any other
    assert y.tolist() != joined(loader, 1)[1].tolist()
    assert np.array_equal((x * 255).round().permute(0, 2, 3, 1).numpy(), pictures(count, 2, 2)[y.numpy()])


def test_cropped_and_flipped_cifar_images_come_faster_than_20000_a_second() -> None:
    data = ImageSet("toy", "train", ("a",), np.zeros(4096, np.int64), pictures(4096, 32, 32))
    loader = Loader(data, 128, augment=Augment(pad=4, flip=True), shuffle=True, workers=0)
    best = float("inf")
    for epoch in range(3):
        start = time.process_time()  # of this process, so that others on the machine do not count
        for _ in loader.epoch(epoch):
            pass
        best = min(best, time.process_time() - start)
    assert 4096 / best > 20_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 6, "world": 4}, "cannot be shared equally by 4 ranks; choose a multiple of 4"),
        ({"batch_size": 0}, "a batch of 0"),
        ({"batch_size": 8, "world": 2, "rank": 2}, "ranks go from 0 to 1"),
        ({"batch_size": 64, "drop_last": True}, "37 images, less than one batch of 64; choose a smaller"),
        ({"batch_size": 8, "mean": (0.5,)}, r"the images have 3 channel\(s\)"),
        ({"batch_size": 8, "std": (0.5, 0.0, 0.5)}, "without spread cannot be normalised; give std yourself"),
        ({"batch_size": 8, "workers": -1}, "workers=-1"),
    ],
)
def test_values_that_cannot_be_are_refused_with_the_remedy(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Loader(images(), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("epoch", "start"), [(-1, 0), (0, -1), (0, 6)])
def test_an_epoch_or_batch_that_does_not_exist_is_refused_at_once(epoch: int, start: int) -> None:
    with pytest.raises(DataError, match="have 5 batches here"):
        Loader(images(), 8).epoch(epoch, start)


DRAWN = Augment(crop=(0.3, 1.0), whole=True, policy="rand-m9-mstd0.5", erase=0.5, erase_fill="normal", flip=0.5)


def photos(root: Path, count: int = 10) -> ImageSet:
    """Images of many sizes, read anew every time; the label tells the image."""
    names = [str(i) for i in range(count)]
    shapes = [(20 + 3 * i, 40 - 2 * i) for i in range(count)]
    data = [encode(pictures(1, *shape, seed=i)[0]) for i, shape in enumerate(shapes)]
    write_parquet(root / "train.parquet", data, list(range(count)), names)
    return open_data(root, "train", size=12, limit=0)


def test_processes_prepare_the_very_batches_that_none_would_and_disturb_nobodys_noise(tmp_path: Path) -> None:
    data = photos(tmp_path)
    kept = {"augment": DRAWN, "shuffle": True, "seed": 3, "side": 8, "mean": (0.5,) * 3, "std": (0.2,) * 3}
    before = torch.get_rng_state()
    alone, *others = (batches(Loader(data, 4, workers=w, **kept), 1) for w in (0, 1, 3))  # type: ignore[arg-type]
    assert torch.equal(before, torch.get_rng_state())
    for other in others:
        assert all(torch.equal(a, b) for x, y in zip(alone, other, strict=True) for a, b in zip(x, y, strict=True))
    rest = batches(Loader(data, 4, workers=2, **kept), 1, start=2)  # type: ignore[arg-type]
    assert torch.equal(rest[0][0], alone[2][0])
    parts = [batches(Loader(data, 4, rank=r, world=2, workers=1, **kept), 1)[0][0] for r in (0, 1)]  # type: ignore[arg-type]
    assert torch.equal(torch.cat(parts), alone[0][0])


def test_an_image_that_cannot_be_read_is_the_same_error_from_a_process(tmp_path: Path) -> None:
    data = photos(tmp_path)
    broken = [encode(pictures(1)[0])] * 9 + [b"no image"]
    write_parquet(tmp_path / "train.parquet", broken, list(range(10)), [str(i) for i in range(10)])
    data = open_data(tmp_path, "train", size=12, limit=0)
    said = []
    for workers in (0, 2):
        with pytest.raises(DataError, match=r"train.parquet, row 9: the image cannot be decoded") as error:
            batches(Loader(data, 5, augment=DRAWN, side=8, workers=workers, mean=(0.5,) * 3, std=(1.0,) * 3))
        said.append(str(error.value))
    assert said[0] == said[1]


def test_whole_crops_are_boxes_of_the_images_as_they_are_stored(tmp_path: Path) -> None:
    data = photos(tmp_path)
    whole = Augment(crop=(1.0, 1.0), whole=True)
    x, y = batches(Loader(data, 10, augment=whole, side=12, mean=(0.0,) * 3, std=(1.0,) * 3, workers=0))[0]
    for image, label in zip(x, y.tolist(), strict=True):
        [stored] = data.originals(np.array([label]))
        assert stored.shape == (20 + 3 * label, 40 - 2 * label, 3)
        top, left, tall, wide = (
            int(v[0]) for v in boxes(*stored.shape[:2], (1.0, 1.0), seed=0, epoch=0, indices=np.array([label]))
        )
        cut = tv.resized_crop(Image.fromarray(stored), top, left, tall, wide, [12, 12])
        assert np.array_equal((image * 255).round().numpy().astype(np.uint8).transpose(1, 2, 0), np.asarray(cut))


def test_repeats_show_each_image_so_often_each_time_otherwise_and_on_other_ranks() -> None:
    kept = {"augment": Augment(pad=2), "shuffle": True, "repeats": 3}
    loader = Loader(images(), 6, workers=0, **kept)  # type: ignore[arg-type]
    assert len(loader) == len(Loader(images(), 6))
    x, y = joined(loader)
    assert len(y) == COUNT
    counts = torch.bincount(y, minlength=COUNT)
    assert sorted(counts.tolist())[-12:] == [3] * 12
    first = x[y == y[0]]
    assert len({image.numpy().tobytes() for image in first}) == 3
    parts = [batches(Loader(images(), 6, rank=r, world=3, workers=0, **kept))[0] for r in range(3)]  # type: ignore[arg-type]
    assert all(torch.equal(part[1], parts[0][1]) for part in parts), "each rank has a copy of the same images"
    assert not torch.equal(parts[0][0], parts[1][0])
    ranks = {image.numpy().tobytes() for part in parts for image in part[0]}
    assert ranks == {image.numpy().tobytes() for image in batches(loader)[0][0]}
