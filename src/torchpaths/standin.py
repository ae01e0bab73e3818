"""``StandIn``: a junction in the place of a module, over the module's own children, parameters and buffers.

It shares the very dictionaries of the module it stands for, so state_dict keys, optimizers, hooks on children and
``net.to(...)`` see the model they know, and the module itself is still there for whoever needs its class.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from torchpaths.junction import Junction, Site


class StandIn(Junction):
    """A junction that keeps the module it replaces.

    Attributes:
        block: that module, not registered: its children are this module's own.
    """

    block: nn.Module

    def __init__(self, block: nn.Module, sites: tuple[Site, ...]) -> None:
        """
        Args:
            block: the module it stands for.
            sites: see `Junction`.
        """
        super().__init__(sites)
        self.__dict__["block"] = block
        self._modules = block._modules
        self._parameters = block._parameters
        self._buffers = block._buffers
        self._non_persistent_buffers_set = block._non_persistent_buffers_set
        self._version = block._version  # of the layout of its entries in state dictionaries

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["block"], name)

    @property
    def training(self) -> bool:
        """Whether it trains: the block's own flag, which methods of the block read."""
        block: nn.Module | None = self.__dict__.get("block")
        return True if block is None else block.training

    @training.setter
    def training(self, mode: bool) -> None:
        if "block" in self.__dict__:
            self.__dict__["block"].training = mode

    def _save_to_state_dict(self, *args: Any) -> None:
        self.block._save_to_state_dict(*args)  # the block's class may have its own way

    def _load_from_state_dict(self, *args: Any) -> None:
        self.block._load_from_state_dict(*args)
