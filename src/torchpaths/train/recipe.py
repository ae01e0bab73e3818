"""``Recipe``: everything a training run depends on, as one frozen dataclass; written to and read from JSON.

A run is a pure function of its recipe (and the machine's arithmetic). The run folder keeps it resolved, so two runs can
be compared field by field and a resumed run can be checked against the one it continues.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torchpaths.data import Augment
from torchpaths.data.holdout import Holdout
from torchpaths.data.scaling import Scaling
from torchpaths.errors import RunError, near
from torchpaths.files.encode import decode, encode, public
from torchpaths.files.encode import filled as filled_value
from torchpaths.methods.base import Method
from torchpaths.models.hub import PREFIX
from torchpaths.schema import checked, convert, reading
from torchpaths.train.distil import Distil
from torchpaths.train.recipe_checks import check

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
    model_args: tuple[tuple[str, int | float], ...] = ()
    """Numbers for the model's own constructor by name, e.g. drop_path_rate 0.1, or img_size 32 for timm's transformers
    of images of 32 pixels; without a point they are whole ones."""
    weights: Path | None = None
    """File of the plain network's weights to start from: safetensors, .pth or .pth.tar; a file of the paper's authors
    has their method's as well (`torchpaths.models.authors`). None starts from those that the model's name stands for,
    as timm/resnet34.a1_in1k and torchvision/resnet18:DEFAULT do, or from scratch."""
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
    resize: int | None = None
    """With size, pixels to which the shorter side is scaled before the centre is cut out: 256 for the usual 256/224;
    it takes crop's place."""
    bicubic: bool | None = None
    """With size, whether images are scaled with bicubic weights; otherwise bilinear. Training crops: augment's own."""
    train_size: int | None = None
    """Side in pixels of training crops (augment.crop), where it is another than size."""
    channels: Literal[1, 3] | None = None
    """1 or 3 reads every image as grey or RGB; None finds out."""
    holdout: float | None = None
    """Share of the images kept for testing, of a folder of classes without test images; see holdout_seed."""
    holdout_seed: int = 0
    """Which images are held out follows from it and from what they are called."""
    workers: int = 1
    """Threads that read and augment images ahead of training, processes where the augmentation needs them; they change
    nothing else."""
    repeats: int = 1
    """Repeated augmentation: how often an image that an epoch sees is in it. The epoch has as many steps all the
    same, and sees fewer images."""
    skip_corrupt: bool = False
    """Leave out images that cannot be decoded, with a warning; otherwise one is an error, with its file and row."""
    epochs: int = 30
    """Passes over the training images."""
    steps: int | None = None
    """Stop after so many optimizer steps in all, to try a recipe out; None for all epochs."""
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
    """On every parameter, gates and norms included, but those of no_decay and gate_decay."""
    no_decay: tuple[str, ...] = ()
    """Parameters without weight decay: "norms", "biases", "embeddings", "gates", or names as the weights file has them,
    regular expressions too. One that matches nothing is an error."""
    gate_lr: float = 1.0
    """Factor of the learning rate for the deciders' parameters."""
    gate_decay: float | None = None
    """Weight decay of the deciders' parameters; None for that of all."""
    clip: float | None = None
    """Norm to which the gradient of all parameters together is clipped; None for no clipping."""
    schedule: Literal["step", "cosine"] = "step"
    """Step decay at the milestones, or half a cosine down to final_lr."""
    schedule_by: Literal["step", "epoch"] = "step"
    """How often warm-up and cosine move: every step, the cosine's last at final_lr; or every epoch, as torchvision and
    timm do, where the cosine comes to final_lr only after the last."""
    milestones: tuple[float, ...] = ()
    """Epochs at which the step schedule multiplies the learning rate by gamma; ascending."""
    gamma: float = 0.1
    """Factor of the step schedule at a milestone."""
    warmup: float = 0.0
    """Epochs of linear warm-up."""
    warmup_from: float = 0.0
    """Share of lr that the warm-up rises from, e.g. 0.01."""
    warmup_within: bool = False
    """The cosine begins with training and the warm-up takes its first epochs' place, as in timm; otherwise it begins
    behind the warm-up."""
    final_lr: float = 0.0
    """Where the cosine ends."""
    cooldown: float = 0.0
    """Of the epochs, so many at the end at final_lr; the cosine ends before them."""
    smoothing: float = 0.0
    """Label smoothing."""
    mixup: float = 0.0
    """Alpha of mixup: images and labels of a batch are blended with those of the batch in reverse, as timm does. 0 for
    none; with cutmix, one of the two is drawn for each batch."""
    cutmix: float = 0.0
    """Alpha of cutmix: a box of each image is another's, and the labels in proportion. 0 for none."""
    distil: Distil | None = None
    """Another network to learn from, beside the labels; None for labels alone."""
    ema: float | None = None
    """Decay per update of an exponential moving average of the weights, e.g. 0.999; None for none."""
    ema_every: int = 1
    """Steps between updates of the average."""
    ema_hold: float = 0.0
    """Epochs during which the average is the weights themselves, as torchvision has it during the warm-up."""
    ema_ramp: bool = True
    """The decay rises to ema as timm's with warm-up, so that a short run is averaged too; otherwise it is ema at once,
    from the first update on, which copies the weights."""
    update_bn: int = 0
    """After the last epoch, measure the batch norms' statistics anew on so many batches of training images, with
    decisions as in evaluation; 0 keeps those of training, as the papers do. See `torchpaths.update_bn`."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the forward pass; bf16 and fp16 are autocast, weights stay fp32. fp16 scales the loss, on GPUs."""
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
        check(self)

    @property
    def scaling(self) -> Scaling:
        """How images are brought to ``size`` for evaluation."""
        return Scaling(self.crop or 1.0, bool(self.bicubic), self.resize)

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
    known = {name: filled_value(value, name) for name, value in kept.items()}
    absent = (f for f in dataclasses.fields(Recipe) if f.name not in kept and f.default is not dataclasses.MISSING)
    return {**known, **{f.name: encode(f.default) for f in absent}}


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
    if name == "flip" and isinstance(value, bool):  # what older versions wrote
        return 0.5 * value
    nested = isinstance(value, list) and any(isinstance(v, dict) for v in value)
    return {str(i): v for i, v in enumerate(value)} if nested else value


def _short(value: Any) -> str:
    return str(value["class"]).rpartition(":")[2] if isinstance(value, dict) and "class" in value else repr(value)
