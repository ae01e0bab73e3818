"""``Recipe``: how a detector is trained, as one frozen dataclass. Network and data are given beside it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from torchpaths.data import Augment
from torchpaths.methods.adaptive_depth import AdaptiveDepth
from torchpaths.train.recipe import Recipe as General


@dataclass(frozen=True)
class Recipe:
    """How a detector is trained. Fields are those of `torchpaths.train.recipe.Recipe` that mean something here.

    Raises:
        RunError: for a value out of range, naming the field and the remedy.
    """

    method: AdaptiveDepth | None = None
    """How the network was routed; None for a plain network."""
    epochs: int = 12
    """Passes over the training images."""
    batch: int = 4
    """Images per optimizer step. An incomplete last batch is left out."""
    lr: float = 0.005
    """Learning rate of SGD after warm-up."""
    momentum: float = 0.9
    """SGD's momentum."""
    weight_decay: float = 1e-4
    """On every parameter."""
    schedule: Literal["step", "cosine"] = "step"
    """Step decay at the milestones, or half a cosine down to final_lr."""
    milestones: tuple[float, ...] = ()
    """Epochs at which the step schedule multiplies the learning rate by gamma; ascending."""
    gamma: float = 0.1
    """Factor of the step schedule at a milestone."""
    warmup: float = 0.5
    """Epochs of linear warm-up."""
    final_lr: float = 0.0
    """Where the cosine ends."""
    flip: bool = True
    """Mirror training images left to right, with probability 1/2."""
    seed: int = 0
    """Order, flips and the detector's sampling follow from it; initial weights are the given network's."""
    eval_every: int = 1
    """Epochs between evaluations; each is followed by a checkpoint. The last epoch is always evaluated."""
    checkpoint_steps: int | None = None
    """Steps between further checkpoints; None for none."""
    checkpoint_minutes: float | None = 10.0
    """Minutes after which a further checkpoint is written, at the next log line; None for none."""
    log_every: int = 20
    """Steps per line of metrics."""
    device: Literal["cpu", "cuda"] | None = None
    """Where to train; None takes the GPU where there is one."""

    def __post_init__(self) -> None:
        _ = self.general  # which checks every value

    @property
    def general(self) -> General:
        """The recipe as the parts of training that know nothing of detectors take it: schedule, optimizer, state."""
        shared = {f.name for f in dataclasses.fields(self)} - {"flip"}
        values: dict[str, Any] = {name: getattr(self, name) for name in shared}
        return General(model="detector", data="detection", augment=Augment(flip=self.flip), **values)

    def to_json(self) -> dict[str, Any]:
        """Every field as JSON values; the method names its class."""
        general = self.general.to_json()
        return {f.name: general.get(f.name, getattr(self, f.name)) for f in dataclasses.fields(self)}
