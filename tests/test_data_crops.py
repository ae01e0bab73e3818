"""Claims about resized crops: boxes as torchvision draws them, each a function of (seed, epoch, index) alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from shared import encode, pictures
from torchpaths.data import Augment, Loader, open_data
from torchpaths.data.crops import boxes, random_crops
from torchpaths.data.decode import Form
from torchpaths.data.images import ImageSet
from torchpaths.data.scaling import Scaling
from torchpaths.errors import DataError

AREA = (0.3, 1.0)
MANY = np.arange(4000)


def test_a_crop_is_torchvisions_of_that_box() -> None:
    image = pictures(1, 20, 30)[0]
    top, left, tall, wide = (int(v[0]) for v in boxes(20, 30, AREA, seed=3, epoch=2, indices=np.array([7])))
    [got] = random_crops(image[None], AREA, 16, seed=3, epoch=2, indices=np.array([7]))
    expected = tv.resized_crop(Image.fromarray(image), top, left, tall, wide, [16, 16])
    assert np.array_equal(got, np.asarray(expected))


def test_boxes_lie_inside_and_are_as_large_and_wide_as_torchvisions() -> None:
    top, left, tall, wide = boxes(200, 300, AREA, seed=0, epoch=0, indices=MANY)
    assert ((top >= 0) & (left >= 0) & (top + tall <= 200) & (left + wide <= 300)).all()
    params = [v2.RandomResizedCrop(8, scale=AREA).make_params([np.zeros(0), *[_blank()]]) for _ in range(2000)]
    theirs = np.array([[p["height"], p["width"]] for p in params], float)
    for ours, other in (
        (tall * wide / 60000, theirs.prod(1) / 60000),
        (np.log(wide / tall), np.log(theirs[:, 1] / theirs[:, 0])),
    ):
        assert ours.mean() == pytest.approx(other.mean(), abs=4 * other.std() / np.sqrt(2000) + 1e-3)
        assert ours.std() == pytest.approx(other.std(), rel=0.1)


def _blank() -> Image.Image:
    return Image.new("RGB", (300, 200))


def test_where_no_box_fits_it_is_the_centre() -> None:
    top, left, tall, wide = (int(v[0]) for v in boxes(10, 100, (1.0, 1.0), seed=0, epoch=0, indices=MANY[:1]))
    assert (top, left, tall, wide) == (0, 43, 10, 13)


def test_an_image_is_cropped_alike_in_whatever_company_and_otherwise_another_time() -> None:
    images = pictures(8, 12, 12)
    augment = Augment(crop=AREA, flip=True)
    together = augment(images, seed=1, epoch=0, indices=np.arange(8), side=9)
    assert together.shape == (8, 9, 9, 3)
    alone = [augment(images[[i]], seed=1, epoch=0, indices=[i], side=9)[0] for i in range(8)]
    assert np.array_equal(together, alone)
    for seed, epoch in ((2, 0), (1, 1)):
        assert not np.array_equal(together, augment(images, seed=seed, epoch=epoch, indices=np.arange(8), side=9))
    same = np.repeat(images[:1], 16, 0)
    assert len({out.tobytes() for out in augment(same, seed=1, epoch=0, indices=np.arange(16))}) > 8


def test_a_loader_gives_crops_of_the_size_asked_for_whatever_the_number_of_ranks_and_workers() -> None:
    pixels = pictures(8, 12, 12)
    data = ImageSet("x", "train", ("a",), np.zeros(8, np.int64), pixels)
    one, two = ({"augment": Augment(crop=AREA), "side": 8, "mean": (0.5,) * 3, "std": (0.2,) * 3} for _ in range(2))
    whole = next(iter(Loader(data, 4, workers=0, **one)))[0]  # type: ignore[arg-type]
    parts = [next(iter(Loader(data, 4, rank=r, world=2, workers=3, **two)))[0] for r in range(2)]  # type: ignore[arg-type]
    assert whole.shape == (4, 3, 8, 8)
    assert np.array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("area", [(0.0, 1.0), (0.6, 0.5), (0.5, 1.1)])
def test_an_area_out_of_range_is_refused(area: tuple[float, float]) -> None:
    with pytest.raises(DataError, match="least and most of the area"):
        Augment(crop=area)


@pytest.mark.parametrize(("height", "width"), [(40, 60), (80, 41)])
def test_evaluation_resizes_and_crops_the_centre_as_torchvision_does(height: int, width: int) -> None:
    ramp = np.linspace(0, 255, height * width * 3).reshape(height, width, 3).astype(np.uint8)
    image = Image.fromarray(ramp)
    expected = tv.center_crop(tv.resize(image, [32], v2.InterpolationMode.BICUBIC), [28, 28])
    got = Form(28, 28, 3, scale=True, scaling=Scaling(28 / 32, bicubic=True))(image, "x")
    off = np.abs(got.astype(int) - np.asarray(expected, int))
    assert np.median(off) <= 2
    assert not np.array_equal(got, Form(28, 28, 3, scale=True)(image, "x"))


def test_images_of_the_right_size_are_cropped_too(tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("set")
    for name in ("a", "b"):
        (root / "test" / name).mkdir(parents=True)
        (root / "test" / name / "0.png").write_bytes(encode(pictures(1, 16, 16)[0]))
    whole, centre = (open_data(root, "test", size=16, crop=crop).read([0]) for crop in (1.0, 0.5))
    assert whole.shape == centre.shape
    assert not np.array_equal(whole, centre)
