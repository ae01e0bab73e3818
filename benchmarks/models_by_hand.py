"""Residual blocks that are not taken apart automatically, given by hand: architecture -> pattern -> its sums."""

from __future__ import annotations

from torchpaths.find import ByHand

BY_HAND: dict[str, ByHand] = {}
