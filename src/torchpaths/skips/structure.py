"""``Structure``: of what modules a network is made now, whether a norm among them trains, and whether they have hooks.

While a norm trains, images touch each other and every run counts. Looked through before each call, so in few and cheap
steps.
"""

from __future__ import annotations

import operator
from itertools import chain, repeat
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase


class Structure:
    """The modules of a network, also where some are replaced.

    Attributes:
        version: another one whenever they are others, have another forward or another mode.
    """

    def __init__(self, net: nn.Module) -> None:
        """
        Args:
            net: see above.
        """
        self._net = net
        self.version = 0
        self._look()

    def _look(self) -> None:
        modules = list(self._net.modules())
        self._tables = [module._modules for module in modules if module._modules]
        self._own = [module.__dict__ for module in modules]
        self._norms = [module for module in modules if isinstance(module, _NormBase)]
        self._hooks = [hooks for module in modules for hooks in (module._forward_hooks, module._forward_pre_hooks)]
        self._state = self._now()

    def _now(self) -> list[Any]:
        children = chain.from_iterable(map(dict.values, self._tables))
        modes = map(dict.get, self._own, repeat("training"))
        return [*children, *modes, *map(dict.get, self._own, repeat("forward"))]

    def look(self) -> None:
        """See what it is now."""
        now = self._now()
        if len(now) != len(self._state) or any(map(operator.is_not, now, self._state)):
            self._look()
            self.version += 1

    def trains(self) -> bool:
        """Whether a norm is in training mode and sees or writes more than its image."""
        return any(m.training and (isinstance(m, _BatchNorm) or m.running_mean is not None) for m in self._norms)

    def hooked(self) -> bool:
        """Whether one has hooks of its own around its forward; those of all modules, by which MACs are counted, are no
        part of the network."""
        return any(self._hooks)
