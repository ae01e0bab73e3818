"""``Recipe``: everything a training run depends on, as one frozen dataclass; written to and read from JSON.

A run is a pure function of its recipe (and the machine's arithmetic). The run folder keeps it resolved, so two runs can
be compared field by field and a resumed run can be checked against the one it continues.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torchpaths.data import Augment
from torchpaths.data.holdout import Holdout
from torchpaths.errors import RunError, near
from torchpaths.files.encode import decode, encode, public
from torchpaths.methods.base import Method
from torchpaths.models.create import tagged
from torchpaths.models.hub import PREFIX
from torchpaths.schema import checked, convert, reading
from torchpaths.train.distil import START, Distil

Json = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """Everything a training run depends on.

    Raises:
        RunError: for a value out of range, naming the field and the remedy.
    """

    model: str
    """Network by name, as for `torchpaths.models.create_model`: "cifar_resnet56", "timm/resnet50" and so on."""
    data: str
    """Data set: "digits", a folder with train and test Parquet files, or one of image files, train/CLASS/ and
    test/CLASS/ (or val/); with holdout also CLASS/ alone."""
    method: Method | None = None
    """Who decides which parts are open; None trains the plain network."""
    weights: Path | None = None
    """File of the plain network's weights to start from: safetensors, .pth or .pth.tar. None starts from those that
    the model's name stands for, as timm/resnet34.a1_in1k and torchvision/resnet18:DEFAULT do, or from scratch."""
    start: Path | None = None
    """Run folder whose network this run starts from, with its deciders and, if it was narrowed, as narrow; None for a
    network of its own."""
    finetune: bool = False
    """Start from trained weights, with a last layer of its own where they tell other classes apart; what of size, crop,
    bicubic, mean and std is not given is the weights' own. See `torchpaths.train.finetune`."""
    size: int | None = None
    """Side in pixels to which images are brought; None leaves them as they are."""
    crop: float | None = None
    """With size, the share of the shorter side that is left around the centre, as timm's crop_pct; None leaves all."""
    bicubic: bool | None = None
    """With size, whether images are scaled with bicubic weights; otherwise bilinear."""
    channels: Literal[1, 3] | None = None
    """1 or 3 reads every image as grey or RGB; None finds out."""
    holdout: float | None = None
    """Share of the images kept for testing, of a folder of classes without test images; see holdout_seed."""
    holdout_seed: int = 0
    """Which images are held out follows from it and from what they are called."""
    workers: int = 1
    """Threads that read and augment images ahead of training; they change nothing else."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, with a warning; otherwise one is an error, with its file and row."""
    epochs: int = 30
    """Passes over the training images."""
    batch: int = 128
    """Images per optimizer step, over all processes and micro-batches. An incomplete last batch is left out."""
    accumulate: int = 1
    """Micro-batches per step and process; the losses stay exact, memory falls, time grows by up to a forward pass."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """SGD with momentum, or AdamW."""
    lr: float = 0.1
    """Learning rate after warm-up, for the global batch as it stands: it is never rescaled behind your back."""
    momentum: float = 0.9
    """SGD's momentum; AdamW's first beta."""
    nesterov: bool = False
    """Nesterov's form of the momentum (SGD only)."""
    weight_decay: float = 5e-4
    """On every parameter, gates and norms included, as in the papers."""
    schedule: Literal["step", "cosine"] = "step"
    """Step decay at the milestones, or half a cosine down to final_lr."""
    milestones: tuple[float, ...] = ()
    """Epochs at which the step schedule multiplies the learning rate by gamma; ascending."""
    gamma: float = 0.1
    """Factor of the step schedule at a milestone."""
    warmup: float = 0.0
    """Epochs of linear warm-up."""
    final_lr: float = 0.0
    """Where the cosine ends."""
    smoothing: float = 0.0
    """Label smoothing."""
    distil: Distil | None = None
    """Another network to learn from, beside the labels; None for labels alone."""
    ema: float | None = None
    """Decay per step of an exponential moving average of the weights, e.g. 0.999; None for none."""
    update_bn: int = 0
    """After the last epoch, measure the batch norms' statistics anew on so many batches of training images, with
    decisions as in evaluation; 0 keeps those of training, as the papers do. See `torchpaths.update_bn`."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the forward pass; bf16 is autocast, weights stay fp32."""
    channels_last: bool = False
    """Memory format of images and weights; faster for most convolutions."""
    compile: bool = False
    """torch.compile the objective: minutes at the start, faster steps after."""
    deterministic: bool = True
    """On a GPU, only kernels that give the same bits every time: resuming is bitwise; False lets cuDNN choose."""
    device: Literal["cpu", "cuda"] | None = None
    """Where to train; None takes the GPU where there is one."""
    threads: int | None = None
    """CPU threads of each process; None leaves torch's own choice. Sums are rounded differently for another number."""
    augment: Augment = field(default_factory=Augment)
    """Augmentation of training images."""
    mean: tuple[float, ...] | None = None
    """Per-channel mean for normalisation, scale 0 to 1; None takes the data set's own."""
    std: tuple[float, ...] | None = None
    """Per-channel standard deviation for normalisation; None takes the data set's own."""
    seed: int = 0
    """Initial weights, order, augmentation and noise follow from it."""
    eval_every: int = 1
    """Epochs between evaluations; each is followed by a checkpoint. The last epoch is always evaluated."""
    checkpoint_steps: int | None = None
    """Steps between further checkpoints; None for none."""
    checkpoint_minutes: float | None = 10.0
    """Minutes after which a further checkpoint is written, at the next log line; None for none."""
    log_every: int = 50
    """Steps per line of metrics."""
    twin: bool = False
    """Also train the plain network by the same recipe, into OUT/plain."""

    def __post_init__(self) -> None:
        for f in ("epochs", "batch", "accumulate", "eval_every", "log_every", "workers"):
            self._whole(f, 1)
        for f in ("checkpoint_steps", "size", "threads"):
            if getattr(self, f) is not None:
                self._whole(f, 1)
        for f in ("seed", "update_bn", "holdout_seed"):
            self._whole(f, 0)
        self._number("lr", above=0)
        self._number("gamma", above=0)
        for f in ("weight_decay", "warmup", "final_lr"):
            self._number(f)
        self._number("momentum", below=1)
        if self.holdout is not None:
            self._number("holdout", above=0, below=1)
        if self.crop is not None and not (self._is_number(self.crop) and 0 < self.crop <= 1):
            raise RunError(f"crop={self.crop!r}: the share of the shorter side that is left, above 0 and up to 1.")
        if self.channels not in (None, 1, 3):
            raise RunError(f"channels={self.channels!r}: images can be read with 1 (grey) or 3 (RGB) channels.")
        self._number("smoothing", below=1)
        if self.ema is not None:
            self._number("ema", above=0, below=1)
        if self.checkpoint_minutes is not None:
            self._number("checkpoint_minutes", above=0)
        for f, kinds in (
            ("optimizer", ("sgd", "adamw")),
            ("schedule", ("step", "cosine")),
            ("precision", ("fp32", "bf16")),
        ):
            self._one_of(f, kinds)
        if self.device is not None:
            self._one_of("device", ("cpu", "cuda"))
        self._together()

    def _together(self) -> None:
        """What fields must be between each other."""
        if self.method is not None and not isinstance(self.method, Method):
            raise RunError(
                f"method {self.method!r} is no Method; give an instance, e.g. GatedBlocks(budget=Budget(open=0.6))."
            )
        if self.start is not None and (self.weights is not None or self.twin):
            raise RunError(
                "start takes a run's network, weights and all, which has no plain twin; leave out weights and twin."
            )
        trained = self.weights is not None or self.start is not None or self.finetune or tagged(self.model)
        if self.distil is not None and self.distil.teacher == START and not trained:
            raise RunError(
                "distil learns from the network that training starts from, which here has random weights; give weights "
                "or start, or the folder of a run for a teacher."
            )
        if self.update_bn and self.ema is not None:
            raise RunError("update_bn measures the network, not the average of its weights; leave out one of the two.")
        if self.finetune and self.start is not None:
            raise RunError("start takes a run's network, weights and all; leave out finetune (--no-finetune).")
        if self.batch % self.accumulate:
            raise RunError(
                f"batch {self.batch} does not split into accumulate={self.accumulate} micro-batches of equal size."
            )
        if list(self.milestones) != sorted(self.milestones) or any(m <= 0 for m in self.milestones):
            raise RunError(f"milestones {self.milestones} must ascend, in epochs above 0.")
        if self.milestones and self.schedule != "step":
            raise RunError(
                f"milestones {self.milestones} belong to schedule 'step', not {self.schedule!r}; leave them out."
            )
        if self.final_lr and self.schedule != "cosine":
            raise RunError(
                f"final_lr={self.final_lr:g} belongs to schedule 'cosine'; the step schedule ends where gamma leads."
            )
        if self.final_lr > self.lr:
            raise RunError(f"final_lr={self.final_lr:g} is above lr={self.lr:g}.")
        if self.warmup >= self.epochs:
            raise RunError(
                f"warmup of {self.warmup:g} epochs fills all {self.epochs}; make it shorter, or leave it out with "
                "--warmup 0 (warmup=0 in Python)."
            )
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise RunError("nesterov needs optimizer 'sgd' with a momentum above 0.")
        if (self.mean is None) != (self.std is None):
            raise RunError("mean and std override the data set's normalisation together; give both or neither.")
        if self.mean is not None and self.std is not None and (len(self.mean) != len(self.std) or min(self.std) <= 0):
            raise RunError(
                f"mean {self.mean} and std {self.std} need one number per channel, std above 0, scale 0 to 1."
            )
        if self.twin and self.method is None:
            raise RunError(
                "twin=True trains the plain network beside a routed one, but method is None: this is the plain one."
            )

    def _whole(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
            raise RunError(f"{name}={value!r}: a whole number of at least {least}, below 2**63.")

    def _number(self, name: str, above: float | None = None, below: float = math.inf) -> None:
        value = getattr(self, name)
        good = self._is_number(value) and value < below
        if not good or (value < 0 if above is None else value <= above):
            least = "at least 0" if above is None else f"above {above:g}"
            raise RunError(f"{name}={value!r}: a number {least}{'' if below == math.inf else f' and below {below:g}'}.")

    @staticmethod
    def _is_number(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

    def _one_of(self, name: str, kinds: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in kinds:
            raise RunError(f"{name}={value!r} is unknown. {near(str(value), kinds)}")

    @property
    def held(self) -> Holdout | None:
        """Which images are held out."""
        return None if self.holdout is None else Holdout(self.holdout, self.holdout_seed)

    def to_json(self) -> Json:
        """Every field as JSON values; nested dataclasses name their class."""
        return {f.name: encode(getattr(self, f.name)) for f in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """The inverse of `to_json`.

        Raises:
            RunError: for unknown fields or classes, and values out of range.
        """
        names = {f.name for f in dataclasses.fields(cls)}
        for name in data:
            if name not in names:
                raise RunError(f"a recipe has no field {name!r}. {near(name, names)}")
        if str(data.get("model")).startswith(PREFIX):
            raise RunError(f"a recipe from a file names no model of the hub, as {data['model']!r}; nothing is fetched.")
        values = {name: decode(value, name) for name, value in data.items()}
        with reading("not a whole recipe", RunError, "it was edited, or written by another program"):
            values |= {
                name: Path(convert(values[name], str, name))
                for name in ("weights", "start")
                if values.get(name) is not None
            }
            return cls(**checked(cls, values))

    def override(self, changes: Mapping[str, Any]) -> Recipe:
        """This recipe with some fields changed.

        Raises:
            RunError: for unknown fields (with near names) and values out of range.
        """
        names = [f.name for f in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                raise RunError(f"a recipe has no field {name!r}. {near(name, names)}")
        return dataclasses.replace(self, **changes)


def filled(kept: Mapping[str, Any]) -> Json:
    """A recipe in JSON form with the fields that an older version did not write, at their defaults."""
    absent = (f for f in dataclasses.fields(Recipe) if f.name not in kept and f.default is not dataclasses.MISSING)
    return {**kept, **{f.name: encode(f.default) for f in absent}}


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The fields in which two recipes in JSON form differ, as ``"lr: 0.1 -> 0.2"``; nested ones with dots.

    Classes are compared by the names that this version gives them.
    """
    found: list[str] = []
    for name in dict.fromkeys([*a, *b]):
        old, new = (_plain(kept.get(name), name) for kept in (a, b))
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{prefix}{name}.")
        elif old != new:
            found.append(f"{prefix}{name}: {_short(old)} -> {_short(new)}")
    return found


def _plain(value: Any, name: str) -> Any:
    """A value as it is compared: lists of dataclasses by number."""
    if name == "class" and isinstance(value, str):
        return public(value)
    nested = isinstance(value, list) and any(isinstance(v, dict) for v in value)
    return {str(i): v for i, v in enumerate(value)} if nested else value


def _short(value: Any) -> str:
    return str(value["class"]).rpartition(":")[2] if isinstance(value, dict) and "class" in value else repr(value)
