"""``Part``: one of several equal parts of an image set, for processes that share it.

Images are dealt out as a `Loader` deals its batches to ranks, so that every image is in exactly one part.
"""

from __future__ import annotations

from dataclasses import dataclass

from torchpaths.errors import DataError
from torchpaths.whole import is_whole


@dataclass(frozen=True)
class Part:
    """One of several equal parts of an image set.

    Attributes:
        number: which of them, from 1.
        of: how many there are.

    Raises:
        DataError: for a part that there is not.
    """

    number: int
    of: int

    def __post_init__(self) -> None:
        if not (is_whole(self.of, 1) and is_whole(self.number, 1) and self.number <= self.of):
            raise DataError(f"part {self.number}/{self.of}: give 1/{self.of} to {self.of}/{self.of}, such as 1/2, 2/2.")

    @classmethod
    def parse(cls, text: str) -> Part:
        """From what people write, ``1/2``.

        Raises:
            DataError: for anything else.
        """
        number, _, of = text.partition("/")
        if not all(each.isascii() and each.isdigit() and len(each) < 10 for each in (number, of)):
            raise DataError(f"part {text!r}: which of how many parts of the images, such as 1/2.")
        return cls(int(number), int(of))


WHOLE = Part(1, 1)
"""All images."""
