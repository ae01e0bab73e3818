"""``open_data``: an image set by name or folder."""

from __future__ import annotations

from pathlib import Path

from torchpaths.data.images import ImageSet, Stored, read_stored
from torchpaths.errors import DataError, near

SPLITS: dict[str, tuple[str, ...]] = {
    "train": ("train",),
    "test": ("test", "validation", "valid", "val"),
    "validation": ("validation", "valid", "val"),
}
"""The splits, and the names files or folders may give them, best first."""


def open_data(
    spec: str | Path,
    split: str,
    skip_corrupt: bool = False,
    size: int | None = None,
    *,
    channels: int | None = None,
    limit: int | None = None,
) -> ImageSet:
    """Open one split of an image set.

    Args:
        spec: ``"digits"``; or a folder with ``train.parquet`` and ``test.parquet`` (or shards ``train-*.parquet``, also
            ``validation``, also under ``data/``) in the Hugging Face image layout; or a folder with ``train/<class>/``
            and ``test/<class>/`` (or ``val/``) of image files; or one Parquet file, which is a test split.
        split: "train", "test" (falls back on a validation split where there is no other) or "validation".
        skip_corrupt: leave images out that cannot be decoded, and warn with their number, instead of raising.
        size: scale the shorter side to so many pixels and crop the centre; needed where sizes differ.
        channels: 1 or 3 reads every image as grey or RGB; None finds out, grey only if all are.
        limit: bytes that decoded images may take before they are read on demand; None: half of the free memory.

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
    if spec == "digits":
        from torchpaths.data.digits import digits

        return digits(split, size=size, channels=channels)
    return read_stored(
        _stored(Path(spec), split), split, size=size, channels=channels, skip_corrupt=skip_corrupt, limit=limit
    )


def _stored(root: Path, split: str) -> Stored:
    from torchpaths.data.parquet import ParquetImages, find_shards

    if root.is_file():
        if split == "train":
            raise DataError(
                f"{root} is one file, which serves for testing; "
                "for training give a folder with train.parquet and test.parquet."
            )
        return ParquetImages(root.name, [root])
    if not root.is_dir():
        beside = [p.name for p in root.parent.iterdir()] if root.parent.is_dir() else []
        raise DataError(
            f"there is no image set {str(root)!r}: neither 'digits' nor a folder. "
            f"{near(root.name, ['digits', *beside])}"
        )
    shards = find_shards(root, SPLITS[split])
    if shards:
        return ParquetImages(root.name, shards)
    for name in SPLITS[split]:
        if (root / name).is_dir():
            from torchpaths.data.folder import FolderImages

            training = root / "train"
            return FolderImages(root.name, root / name, training if training.is_dir() else root / name)
    names = SPLITS[split]
    raise DataError(
        f"{root} has no split {split!r}: looked for {names[0]}.parquet, {names[0]}-*.parquet "
        f"and {names[0]}/<class>/<image>"
        f"{' (and ' + ', '.join(names[1:]) + ' likewise)' if names[1:] else ''}; it holds {_listing(root)}."
    )


def _listing(root: Path, most: int = 5) -> str:
    names = sorted(p.name for p in root.iterdir())
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "") if names else "nothing"
