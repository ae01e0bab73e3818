"""The scale of the loss in fp16, whose small gradients would vanish otherwise: torch's ``GradScaler`` with a state that
comes back bitwise from a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from torchpaths.errors import RunError


class Scaler:
    """A loss's scale on one device.

    Args:
        device: a GPU; for tests also a CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._scaler = torch.amp.GradScaler(device.type)
        self._scaler.scale(torch.zeros((), device=device))  # which makes its state

    @classmethod
    def on(cls, device: torch.device) -> Scaler:
        """The scale for training on a device.

        Raises:
            RunError: for a CPU.
        """
        if device.type != "cuda":
            raise RunError(
                "precision='fp16' needs a GPU, and training runs on the CPU; take precision='bf16', or 'fp32' where "
                "the processor has no bf16."
            )
        return cls(device)

    def scaled(self, loss: Tensor) -> Tensor:
        """A loss times the scale."""
        found: Tensor = self._scaler.scale(loss)
        return found

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """The gradients of an optimizer's parameters as they are without the scale."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimizer's step, left out where a gradient is not finite, and the next step's scale."""
        self._scaler.step(optimizer)
        self._scaler.update()

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The state: scale, and steps since it last changed."""
        state = self._scaler.state_dict()
        return {
            "scale": torch.tensor(float(state["scale"]), dtype=torch.float64),
            "growth": torch.tensor(int(state["_growth_tracker"]), dtype=torch.int64),
        }

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Becomes the state that `tensors` gave."""
        state = self._scaler.state_dict()
        state["scale"], state["_growth_tracker"] = float(tensors["scale"]), int(tensors["growth"])
        self._scaler.load_state_dict(state)
