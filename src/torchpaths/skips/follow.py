"""``Followed``: a copy of a network that goes on sharing its tensors when the network gets others.

A parameter written in place is shared by itself. One that is replaced, as ``load_state_dict(..., assign=True)`` does
and ``net.double()`` with every buffer, is another object, of which a copy knows nothing.
"""

from __future__ import annotations

from typing import Any

from torch import nn


class Followed:
    """The tensors of a network and where its copy has the same."""

    def __init__(self, net: nn.Module, copied: nn.Module) -> None:
        """
        Args:
            net: the network.
            copied: a deep copy of it that shares its parameters and buffers, as it was made.
        """
        self._pairs: list[tuple[dict[str, Any], dict[str, Any], str]] = [
            (theirs, own, name)
            for one, other in zip(net.modules(), copied.modules(), strict=True)
            for theirs, own in ((one._parameters, other._parameters), (one._buffers, other._buffers))
            for name in theirs
        ]
        self._last = [theirs[name] for theirs, _, name in self._pairs]

    def follow(self) -> None:
        """Give the copy what the network got since the last time."""
        for i, (theirs, own, name) in enumerate(self._pairs):
            if name in theirs and name in own and theirs[name] is not self._last[i]:
                own[name] = self._last[i] = theirs[name]
