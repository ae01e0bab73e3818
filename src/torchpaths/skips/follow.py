"""``Followed``: a copy of a network that goes on sharing what the network has when the network gets other.

A parameter written in place is shared by itself. One that is replaced, as ``load_state_dict(..., assign=True)`` does
and ``net.double()`` with every buffer, is another object, of which a copy knows nothing; so is a number such as the
threshold of a decider or the ``eps`` of a norm. What the copy was given itself it keeps until the network gets other.
"""

from __future__ import annotations

import operator
from itertools import repeat
from typing import Any

from torch import nn

from torchpaths.trace import Decider

_PLAIN = (bool, int, float, str, tuple)
_NEVER = object()


class Followed:
    """The tensors and dials of a network and where its copy has the same."""

    def __init__(self, net: nn.Module, copied: nn.Module, before: Followed | None = None) -> None:
        """
        Args:
            net: the network.
            copied: a deep copy of it that shares its parameters and buffers, as it was made.
            before: what the network itself follows; None for nothing.
        """
        self._before = before
        pairs: list[tuple[dict[str, Any], dict[str, Any], str]] = []
        for one, other in zip(net.modules(), copied.modules(), strict=True):
            tables = (one._parameters, other._parameters), (one._buffers, other._buffers)
            pairs += [(theirs, own, name) for theirs, own in tables for name in theirs]
            pairs += [(one.__dict__, other.__dict__, name) for name in _dials(one)]
        self._theirs = [theirs for theirs, _, _ in pairs]
        self._own = [own for _, own, _ in pairs]
        self._names = [name for _, _, name in pairs]
        self._last = self._now()

    def follow(self) -> None:
        """Give the copy what the network got since the last time."""
        if self._before is not None:
            self._before.follow()
        now = self._now()
        if not any(map(operator.is_not, now, self._last)):
            return
        for i, value in enumerate(now):
            if value is not self._last[i] and value is not _NEVER:
                self._own[i][self._names[i]] = self._last[i] = value

    def _now(self) -> list[Any]:
        return list(map(dict.get, self._theirs, self._names, repeat(_NEVER)))


def _dials(module: nn.Module) -> list[str]:
    """What of a module may be turned after it was made and changes what it gives in evaluation: of a decider all plain
    values, of a norm its ``eps``."""
    if isinstance(module, Decider):
        held = [name for name, value in vars(module).items() if isinstance(value, _PLAIN) and name != "training"]
        return list(dict.fromkeys(["threshold", *held]))
    return ["eps"] if isinstance(vars(module).get("eps"), float) else []
