"""``open_data``: an image set by name or folder."""

from __future__ import annotations

from pathlib import Path

from torchpaths.data.holdout import Holdout
from torchpaths.data.images import ImageSet, Stored, read_stored
from torchpaths.data.scaling import Scaling
from torchpaths.errors import DataError, clip, near

FOUND: dict[str, str] = {
    "cifar": "https://www.cs.toronto.edu/~kriz/cifar.html, the Python version, unpacked",
    "pets": "https://www.robots.ox.ac.uk/~vgg/data/pets, sorted into train/CLASS and test/CLASS",
    "flowers": "https://www.robots.ox.ac.uk/~vgg/data/flowers/102, sorted into train/CLASS and test/CLASS",
    "imagenet": "https://www.image-net.org, after registration, sorted into train/CLASS and val/CLASS",
    "imagenette": "https://github.com/fastai/imagenette, unpacked",
    "coco": "https://cocodataset.org, for detection, see docs/detect.md",
}
"""Where data sets that people name can be had: nothing is downloaded here."""

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train",),
    "test": ("test", "validation", "valid", "val"),
    "validation": ("validation", "valid", "val"),
}
"""The splits, and the names files or folders may give them, best first."""

_SPLITS_LIKE = ("train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval")
"""What no class is called, in whatever case: a folder of such folders is one of splits."""


def open_data(
    spec: str | Path,
    split: str,
    skip_corrupt: bool = False,
    size: int | None = None,
    *,
    channels: int | None = None,
    limit: int | None = None,
    crop: float = 1.0,
    bicubic: bool = False,
    resize: int | None = None,
    holdout: Holdout | None = None,
) -> ImageSet:
    """Open one split of an image set.

    Args:
        spec: ``"digits"``; CIFAR's own folder, ``cifar-10-batches-py`` or ``cifar-100-python``; or a folder with
            ``train.parquet`` and ``test.parquet`` (or shards ``train-*.parquet``, also ``validation``, also under
            ``data/``) in the Hugging Face image layout; or a folder with ``train/<class>/`` and ``test/<class>/`` (or
            ``val/``) of image files; or a folder ``<class>/`` of images or one Parquet file, which are test splits.
        split: "train", "test" (falls back on a validation split where there is no other) or "validation".
        skip_corrupt: leave images out that cannot be decoded, and warn with their number, instead of raising.
        size: scale the shorter side to so many pixels and crop the centre; needed where sizes differ.
        channels: 1 or 3 reads every image as grey or RGB; None finds out, grey only if all are.
        limit: bytes that decoded images may take before they are read on demand; None: half of the free memory.
        crop: with ``size``, share of the shorter side that is left around the centre, as timm's ``crop_pct``.
        bicubic: with ``size``, whether to scale with bicubic weights instead of bilinear ones.
        resize: with ``size``, pixels of the shorter side before the centre is cut out, in place of ``crop``.
        holdout: of a folder of image files that has no test split, so many are held out as one.

    Raises:
        DataError: for an unknown set or split, files that are missing, truncated or damaged, an image that cannot be
            decoded or has another size or mode, a label that is null or out of range: with file, row and remedy.
    """
    if split not in SPLITS:
        raise DataError(f"there is no split {split!r}. {near(split, SPLITS)}")
    if size is not None and size < 1:
        raise DataError(f"size={size}: give the side of the images in pixels, at least 1.")
    if channels not in (None, 1, 3):
        raise DataError(f"channels={channels}: images can be read with 1 (grey) or 3 (RGB) channels.")
    if not 0 < crop <= 1:
        raise DataError(f"crop={crop}: give the share of the shorter side that is left, above 0 and up to 1.")
    if resize is not None and (size is None or resize < size):
        raise DataError(f"resize={resize}: pixels of the shorter side before the centre of size={size} is cut out.")
    if spec == "digits":
        from torchpaths.data.digits import digits

        return digits(split, size=size, channels=channels, scaling=Scaling(crop, bicubic, resize))
    if Path(spec).is_dir():
        from torchpaths.data.cifar import cifar, is_cifar

        if is_cifar(Path(spec)):
            return cifar(Path(spec), split, size=size, channels=channels, scaling=Scaling(crop, bicubic, resize))
    return read_stored(
        _stored(Path(spec), split, holdout),
        split,
        size=size,
        channels=channels,
        skip_corrupt=skip_corrupt,
        limit=limit,
        scaling=Scaling(crop, bicubic, resize),
    )


def class_names(spec: str | Path, holdout: Holdout | None = None) -> tuple[str, ...]:
    """Names of the classes of an image set for training, without its images. Arguments and errors as of `open_data`."""
    return open_data(spec, "train").classes if spec == "digits" else _stored(Path(spec), "train", holdout).classes


def held_out(spec: str | Path, holdout: Holdout) -> list[str] | None:
    """The files that are held out of a folder; None where it has test images of its own. Errors as of `open_data`."""
    if spec == "digits":
        return None
    from torchpaths.data.folder import FolderImages

    stored = _stored(Path(spec), "test", holdout)
    return stored.names if isinstance(stored, FolderImages) and stored.holdout is not None else None


def _stored(root: Path, split: str, holdout: Holdout | None) -> Stored:
    from torchpaths.data.parquet import ParquetImages, find_shards

    if root.is_file():
        if split == "train":
            raise DataError(
                f"{root} is one file, which serves for testing; "
                "for training give a folder with train.parquet and test.parquet, or with a folder of images per class."
            )
        return ParquetImages(root.name, [root])
    if not root.is_dir():
        beside = [p.name for p in root.parent.iterdir()] if root.parent.is_dir() else []
        raise DataError(
            f"there is no image set {str(root)!r}: neither 'digits' nor a folder. "
            f"{near(root.name, ['digits', *beside])} {_where(root.name)}"
        )
    shards = find_shards(root, SPLITS[split])
    if shards:
        return ParquetImages(root.name, shards)
    # torchvision takes a second to import, which the sets above do without.
    from torchpaths.data.folder import SUFFIXES, FolderImages

    training, test = root / "train", split != "train"
    tests = [root / name for name in SPLITS["test"] if (root / name).is_dir()]
    own = root if not training.is_dir() and not tests and _has_classes(root) else None
    if holdout is not None and not tests and (own or training.is_dir()):
        whole = own or training
        return FolderImages(root.name, whole, whole, test, holdout)
    if own is not None and test:
        return FolderImages(root.name, own, own, test)
    for name in SPLITS[split]:
        if (root / name).is_dir():
            return FolderImages(root.name, root / name, training if training.is_dir() else root / name, test)
    names = SPLITS[split]
    if any(p.suffix.lower() in SUFFIXES for p in root.iterdir() if p.is_file()):
        raise DataError(f"{root} holds images, and no folders of them; put them into one folder per class.")
    raise DataError(
        f"{root} has no split {split!r}: looked for {names[0]}.parquet, {names[0]}-*.parquet "
        f"and {names[0]}/<class>/<image>"
        f"{' (and ' + ', '.join(names[1:]) + ' likewise)' if names[1:] else ''}; it holds {_listing(root)}."
        f"{' With holdout=0.2 a fifth of the images would serve for testing.' if own or training.is_dir() else ''}"
    )


def _has_classes(root: Path) -> bool:
    """Whether a folder holds folders of images, as classes are.

    Raises:
        DataError: where their names say that they are splits, in another spelling than is read.
    """
    from torchpaths.data.folder import SUFFIXES

    names = [p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")]
    splits = [name for name in names if name.lower() in _SPLITS_LIKE]
    if splits:
        raise DataError(
            f"{root} holds the folders {clip(', '.join(sorted(names)), 100)}: {splits[0]!r} looks like a split and not "
            "like a class; call splits train, and test or val."
        )
    return any(file.name.lower().endswith(SUFFIXES) for name in names for file in (root / name).rglob("*"))


def _where(name: str) -> str:
    """Where a set of that name can be had, or all that are known."""
    plain = "".join(c for c in name.lower() if c.isalpha())
    fits = [known for known in FOUND if known in plain]
    if fits:
        return f"It can be had at {FOUND[max(fits, key=len)]}; give that folder."
    return f"Known by name: digits; to be downloaded first: {', '.join(FOUND)}; folders of your own by their path."


def _listing(root: Path, most: int = 5) -> str:
    names = sorted(p.name for p in root.iterdir())
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "") if names else "nothing"
