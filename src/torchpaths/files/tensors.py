"""Tensors in safetensors files that carry a digest of themselves, so that damage is found wherever they are copied to.

The digest is the SHA-256 of the whole file, header too, with the digest's own 64 places filled with zeros. It stands in
the header's metadata, which every reader of safetensors passes over. A file without one, as older versions and other
programs write, opens with a `DigestWarning`.
"""

from __future__ import annotations

import hashlib
import itertools
import pathlib
import re
import sys
import warnings
from collections.abc import Mapping

import safetensors.torch
from torch import Tensor

from torchpaths.errors import DigestWarning
from torchpaths.files.disk import inside, read_bytes
from torchpaths.schema import MalformedError, reading

_NONE = "0" * 64
_PLACE = re.compile(rb'"sha256":"([0-9a-f]{64})"')
_HEADER = 512
"""Bytes from the beginning among which the digest stands: metadata come first in a header."""


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """As a safetensors file with its digest. Tensors are copied to contiguous CPU memory, whatever their layout, tied
    or not."""
    plain = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    data = safetensors.torch.save(plain, metadata={"sha256": _NONE})
    found = _PLACE.search(data, 0, _HEADER)
    assert found is not None, "safetensors writes metadata first"
    return b"".join([data[: found.start(1)], hashlib.sha256(data).hexdigest().encode(), data[found.end(1) :]])


def digest(data: bytes) -> bool | None:
    """Whether a file's digest is that of its contents; None if it has none."""
    found = _PLACE.search(data, 0, _HEADER)
    if found is None:
        return False if b"sha256" in data[:_HEADER] else None  # written, and no longer as it was written
    view, whole = memoryview(data), hashlib.sha256()
    for part in (view[: found.start(1)], _NONE.encode(), view[found.end(1) :]):
        whole.update(part)
    return whole.hexdigest() == found[1].decode()


def read_tensors(
    file: pathlib.Path, error: type[Exception], remedy: str, sha256: str | None = None, *, own: bool = True
) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Args:
        file: the file.
        error: the class to raise.
        remedy: what to do about a damaged file, for errors.
        sha256: of the whole file, where another file tells it; None if only its own digest can.
        own: written by this library, in a folder of its own. One that the caller names may be a link to elsewhere, and
            that it has no digest is nothing to speak of.

    Raises:
        error: for a file that cannot be read, is truncated, changed or no safetensors file.
    """
    with reading(file, error, remedy):
        try:
            data = read_bytes(inside(file.parent, file.name) if own else file)
        except OSError as fault:
            raise MalformedError(f"cannot be read ({fault.strerror})") from fault
        return decoded(data, file, sha256, own)


def decoded(data: bytes, file: pathlib.Path, sha256: str | None = None, own: bool = True) -> dict[str, Tensor]:
    """The tensors of a file's contents. Raises `MalformedError` for what is damaged, see `read_tensors`."""
    whole = digest(data)
    if whole is False or (sha256 is not None and hashlib.sha256(data).hexdigest() != sha256):
        raise MalformedError(f"truncated or corrupt, its SHA-256 is not the one written with it ({len(data):,} bytes)")
    try:
        tensors = safetensors.torch.load(data)
    except Exception as fault:  # SafetensorError, and what torch says to a header that lies
        raise MalformedError(f"truncated or corrupt, no safetensors file ({fault})") from fault
    if own and whole is None and sha256 is None:
        told = f"{file} has no digest, as older versions and other programs write: damage to it would go unnoticed."
        warnings.warn(told, DigestWarning, stacklevel=_level())
    return tensors


def _level() -> int:
    """How far up whoever called the library is, for a warning that shows where."""
    for level in itertools.count(1):
        try:
            module = sys._getframe(level).f_globals.get("__name__", "")
        except ValueError:
            return level
        if module.partition(".")[0] not in ("torchpaths", "contextlib"):
            return level
    raise AssertionError
