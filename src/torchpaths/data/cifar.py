"""CIFAR-10 and CIFAR-100 as their authors hand them out, "the Python version": folders of pickled arrays.

A pickle may run anything when it is opened. These are read by an unpickler that knows no class or function but
stand-ins for the array and its type, which are taken apart and checked here: what else a file names is an error.
"""

from __future__ import annotations

import io
import pathlib
import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from torchpaths.data.decode import Form
from torchpaths.data.images import ImageSet
from torchpaths.data.scaling import UNCUT, Scaling
from torchpaths.errors import DataError, clip
from torchpaths.files.disk import read_bytes

SIDE, CHANNELS = 32, 3
_PIXELS = SIDE * SIDE * CHANNELS
MOST = 2**29
"""Bytes of a file; the largest of them has 155 million."""

_TEN = tuple(f"data_batch_{i}" for i in range(1, 6))
_FOLDERS: tuple[tuple[str, dict[str, tuple[str, ...]], bytes, bytes], ...] = (
    ("batches.meta", {"train": _TEN, "test": ("test_batch",)}, b"labels", b"label_names"),
    ("meta", {"train": ("train",), "test": ("test",)}, b"fine_labels", b"fine_label_names"),
)
"""The file of names, the files of each split, and the keys of labels and names."""


class _Type:
    """In place of numpy's dtype: its code, of which only bytes are taken."""

    def __init__(self, *given: Any) -> None:
        self.code = given[0] if given else None

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which bytes have not."""


class _Array:
    """In place of numpy's array: what its pickle says of it."""

    state: Any = None

    def __init__(self, *given: Any) -> None:
        """Class, shape and code of an array that is filled afterwards."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def pixels(self) -> NDArray[np.uint8]:
        """The bytes as uint8 ``[image, 3072]``.

        Raises:
            ValueError: for any other array.
        """
        _, shape, kind, fortran, raw = self.state
        if getattr(kind, "code", None) not in ("u1", b"u1") or fortran or not isinstance(raw, bytes):
            raise ValueError("its data are no bytes in rows")
        return np.frombuffer(raw, np.uint8).reshape(shape)


def _codes(text: str, coding: str) -> bytes:
    """Bytes as pickles of the second protocol spell them."""
    if coding != "latin1":
        raise pickle.UnpicklingError(f"text in {coding!r}")
    return text.encode("latin1")


_KNOWN: dict[tuple[str, str], Any] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _codes,
}


class _Unpickler(pickle.Unpickler):
    """Knows stand-ins only."""

    def find_class(self, module: str, name: str) -> Any:
        """See pickle."""
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it names {clip(f'{module}.{name}', 80)}, which no file of CIFAR does")
        return _KNOWN[module, name]


def is_cifar(root: pathlib.Path) -> bool:
    """Whether a folder is one of the authors'."""
    return any((root / names).is_file() and (root / files["test"][0]).is_file() for names, files, _, _ in _FOLDERS)


def cifar(
    root: pathlib.Path,
    split: str,
    *,
    size: int | None = None,
    channels: int | None = None,
    scaling: Scaling = UNCUT,
) -> ImageSet:
    """A split of CIFAR-10 or CIFAR-100 (of the latter the 100 fine classes).

    Args:
        root: ``cifar-10-batches-py`` or ``cifar-100-python``.
        split: "train" or "test".
        size: scale the images to this side.
        channels: 1 reads them as grey.
        scaling: with ``size``, how they are.

    Raises:
        DataError: for files that are missing, damaged, or hold anything else; or a split that CIFAR has not.
    """
    names, files, labelled, named = next(f for f in _FOLDERS if (root / f[0]).is_file())
    if split not in files:
        raise DataError(f"{root} has no split {split!r}: CIFAR has train and test.")
    classes = tuple(_text(name) for name in _values(_read(root / names), named, root / names))
    pixels, labels = [], []
    for name in files[split]:
        found = _read(root / name)
        own = _values(found, labelled, root / name)
        array = _pixels(found, root / name)
        if not all(type(k) is int and 0 <= k < len(classes) for k in own) or len(own) != len(array):
            raise _damaged(root / name, f"not a label below {len(classes)} for each image")
        pixels.append(array)
        labels += own
    images = np.concatenate(pixels).reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1)
    if size is not None or channels == 1:
        form = Form(size or SIDE, size or SIDE, channels or CHANNELS, size is not None, True, scaling)
        images = np.stack([form(Image.fromarray(image), f"{root}, image {i}") for i, image in enumerate(images)])
    return ImageSet(root.name, split, classes, np.array(labels, np.int64), np.ascontiguousarray(images))


def _read(file: pathlib.Path) -> dict[Any, Any]:
    try:
        if file.stat().st_size > MOST:
            raise _damaged(file, f"more than {MOST:,} bytes")
        data = read_bytes(file)
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror}); unpack CIFAR's archive again.") from error
    try:
        found = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # whatever damaged bytes lead the unpickler to
        raise _damaged(file, str(error) or type(error).__name__) from error
    if not isinstance(found, dict):
        raise _damaged(file, "no table of names and values")
    return found


def _values(found: dict[Any, Any], key: bytes, file: pathlib.Path) -> list[Any]:
    value = found.get(key, found.get(key.decode()))
    if not isinstance(value, list) or not value:
        raise _damaged(file, f"no list {key.decode()!r}")
    return value


def _pixels(found: dict[Any, Any], file: pathlib.Path) -> NDArray[np.uint8]:
    array = found.get(b"data", found.get("data"))
    try:
        if not isinstance(array, _Array):
            raise ValueError("no array 'data'")
        pixels = array.pixels()
    except (TypeError, ValueError) as error:
        raise _damaged(file, str(error)) from error
    if pixels.ndim != 2 or pixels.shape[1] != _PIXELS:
        raise _damaged(file, f"images of shape {pixels.shape[1:]}, not of {_PIXELS} bytes")
    return pixels


def _text(name: Any) -> str:
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else str(name)


def _damaged(file: pathlib.Path, why: str) -> DataError:
    return DataError(f"{file} is no file of CIFAR as its authors hand it out ({clip(why, 150)}); unpack it again.")
