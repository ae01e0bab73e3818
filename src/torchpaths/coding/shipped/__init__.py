"""Schemes that take seconds to find, kept as a file: one hexadecimal number for each codeword.

``schemes.json`` is made by ``recipes/codes.py``, which finds the same words again. Its keys are
``classes-units-active``; the first unit is the highest bit, and the numbers stand side by side, padded with zeros to
one length.
"""

from __future__ import annotations

import importlib.resources
import json

import numpy as np

from torchpaths.coding.bits import Words

FILE = "schemes.json"


def key(classes: int, units: int, active: int) -> str:
    """A scheme's name in the file."""
    return f"{classes}-{units}-{active}"


def write(words: Words) -> str:
    """Bool ``[classes, units]`` as text."""
    return "".join(row.tobytes().hex() for row in np.packbits(words, axis=1))


def read(text: str, units: int) -> Words:
    """The inverse of `write`."""
    octets = np.frombuffer(bytes.fromhex(text), np.uint8).reshape(-1, -(-units // 8))
    return np.unpackbits(octets, axis=1, count=units).astype(bool)


def shipped(classes: int, units: int, active: int) -> Words | None:
    """The scheme from the file, or None if it is not there."""
    schemes: dict[str, str] = json.loads(importlib.resources.files(__name__).joinpath(FILE).read_text())
    text = schemes.get(key(classes, units, active))
    return None if text is None else read(text, units)
