"""What a recipe's fields may be, each by itself and between each other; every error names the field and the remedy."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

from torchpaths.errors import RunError, near
from torchpaths.methods.base import Method
from torchpaths.models.create import tagged
from torchpaths.train.distil import START

Recipe: TypeAlias = Any
"""A `torchpaths.train.recipe.Recipe`, whose module imports this one."""

_KINDS: dict[str, tuple[str, ...]] = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("step", "cosine"),
    "schedule_by": ("step", "epoch"),
    "precision": ("fp32", "bf16", "fp16"),
    "device": ("cpu", "cuda"),
}


def check(recipe: Recipe) -> None:
    """Raises `RunError` for a value out of range."""
    _alone(recipe)
    _start(recipe)
    _rates(recipe)
    _images(recipe)
    _averages(recipe)


def _alone(r: Recipe) -> None:
    for f in ("epochs", "batch", "accumulate", "eval_every", "log_every", "workers", "repeats", "ema_every"):
        _whole(r, f, 1)
    for f in ("checkpoint_steps", "steps", "size", "threads", "resize", "train_size"):
        if getattr(r, f) is not None:
            _whole(r, f, 1)
    for f in ("seed", "update_bn", "holdout_seed"):
        _whole(r, f, 0)
    for f in ("lr", "gamma", "gate_lr"):
        _number(r, f, above=0)
    for f in ("weight_decay", "warmup", "final_lr", "cooldown", "ema_hold", "mixup", "cutmix"):
        _number(r, f)
    for f in ("momentum", "smoothing", "warmup_from"):
        _number(r, f, below=1)
    for f, low, high in (
        ("holdout", 0, 1),
        ("ema", 0, 1),
        ("checkpoint_minutes", 0, math.inf),
        ("clip", 0, math.inf),
        ("gate_decay", None, math.inf),
    ):
        if getattr(r, f) is not None:
            _number(r, f, above=low, below=high)
    if r.crop is not None and not (_is_number(r.crop) and 0 < r.crop <= 1):
        raise RunError(f"crop={r.crop!r}: the share of the shorter side that is left, above 0 and up to 1.")
    if r.channels not in (None, 1, 3):
        raise RunError(f"channels={r.channels!r}: images can be read with 1 (grey) or 3 (RGB) channels.")
    for f, kinds in _KINDS.items():
        value = getattr(r, f)
        if value not in kinds and not (f == "device" and value is None):
            raise RunError(f"{f}={value!r} is unknown. {near(str(value), kinds)}")
    if r.method is not None and not isinstance(r.method, Method):
        raise RunError(
            f"method {r.method!r} is no Method; give an instance, e.g. GatedBlocks(budget=Budget(open=0.6))."
        )


def _start(r: Recipe) -> None:
    """What training starts from, and who teaches."""
    if r.start is not None and (r.weights is not None or r.twin):
        raise RunError(
            "start takes a run's network, weights and all, which has no plain twin; leave out weights and twin."
        )
    trained = r.weights is not None or r.start is not None or r.finetune or tagged(r.model)
    if r.distil is not None and r.distil.teacher == START and not trained:
        raise RunError(
            "distil learns from the network that training starts from, which here has random weights; give weights "
            "or start, or the folder of a run for a teacher."
        )
    if r.finetune and r.start is not None:
        raise RunError("start takes a run's network, weights and all; leave out finetune (--no-finetune).")
    if r.twin and r.method is None:
        raise RunError(
            "twin=True trains the plain network beside a routed one, but method is None: this is the plain one."
        )
    if r.method is None and (r.gate_lr != 1 or r.gate_decay is not None or "gates" in r.no_decay):
        raise RunError(
            "gate_lr, gate_decay and no_decay 'gates' are for the deciders of a method, and method is None; leave them "
            "out."
        )


def _rates(r: Recipe) -> None:
    """The optimizer and its learning rate."""
    if r.batch % r.accumulate:
        raise RunError(f"batch {r.batch} does not split into accumulate={r.accumulate} micro-batches of equal size.")
    if list(r.milestones) != sorted(r.milestones) or any(m <= 0 for m in r.milestones):
        raise RunError(f"milestones {r.milestones} must ascend, in epochs above 0.")
    if r.milestones and r.schedule != "step":
        raise RunError(f"milestones {r.milestones} belong to schedule 'step', not {r.schedule!r}; leave them out.")
    for f in ("final_lr", "cooldown"):
        if getattr(r, f) and r.schedule != "cosine":
            raise RunError(
                f"{f}={getattr(r, f):g} belongs to schedule 'cosine'; the step schedule ends where gamma leads."
            )
    if r.final_lr > r.lr:
        raise RunError(f"final_lr={r.final_lr:g} is above lr={r.lr:g}.")
    if r.warmup >= r.epochs:
        raise RunError(
            f"warmup of {r.warmup:g} epochs fills all {r.epochs}; make it shorter, or leave it out with "
            "--warmup 0 (warmup=0 in Python)."
        )
    if r.warmup + r.cooldown >= r.epochs:
        raise RunError(
            f"warmup of {r.warmup:g} and cooldown of {r.cooldown:g} epochs fill all {r.epochs}; make them shorter."
        )
    if r.warmup_from and not r.warmup:
        raise RunError(f"warmup_from={r.warmup_from:g} is where a warm-up begins, and warmup is 0; give its epochs.")
    if r.warmup_within and not (r.warmup and r.schedule == "cosine"):
        raise RunError("warmup_within=True is about a cosine with a warm-up; give warmup and schedule='cosine'.")
    if r.schedule_by == "epoch" and r.warmup and not r.warmup_from:
        raise RunError(
            "schedule_by='epoch' with warmup_from=0 would train the first epoch at a rate of 0; say where the warm-up "
            "begins, e.g. warmup_from=0.01."
        )
    if r.nesterov and (r.optimizer != "sgd" or r.momentum == 0):
        raise RunError("nesterov needs optimizer 'sgd' with a momentum above 0.")


def _images(r: Recipe) -> None:
    """Sizes, normalisation and what makes soft labels."""
    if r.resize is not None and r.crop is not None:
        raise RunError(f"resize={r.resize} and crop={r.crop:g} both say what is cut off; leave out one of the two.")
    if r.resize is not None and (r.size is None or r.resize < r.size):
        raise RunError(
            f"resize={r.resize} is what the shorter side is scaled to before the centre of size={r.size} is cut out; "
            "give a size that is not above it."
        )
    if r.train_size is not None and (r.augment.crop is None or r.size is None):
        raise RunError(
            f"train_size={r.train_size} is the side of training crops beside size, that of evaluation; give size, and "
            "augment.crop, e.g. (0.08, 1.0)."
        )
    if r.augment.whole and r.size is None:
        raise RunError(
            "augment.whole takes crops of images as they are stored, of any size; give size to bring them to."
        )
    if (r.mean is None) != (r.std is None):
        raise RunError("mean and std override the data set's normalisation together; give both or neither.")
    if r.mean is not None and r.std is not None and (len(r.mean) != len(r.std) or min(r.std) <= 0):
        raise RunError(f"mean {r.mean} and std {r.std} need one number per channel, std above 0, scale 0 to 1.")


def _averages(r: Recipe) -> None:
    """The average of the weights."""
    if r.update_bn and r.ema is not None:
        raise RunError("update_bn measures the network, not the average of its weights; leave out one of the two.")
    for f, off in (("ema_every", 1), ("ema_hold", 0), ("ema_ramp", True)):
        if r.ema is None and getattr(r, f) != off:
            raise RunError(
                f"{f}={getattr(r, f)!r} is about the average of the weights; give its decay, e.g. ema=0.999."
            )
    if r.ema_hold >= r.epochs:
        raise RunError(
            f"ema_hold of {r.ema_hold:g} epochs fills all {r.epochs}, so nothing is averaged; make it shorter."
        )


def _whole(recipe: Recipe, name: str, least: int) -> None:
    value = getattr(recipe, name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise RunError(f"{name}={value!r}: a whole number of at least {least}, below 2**63.")


def _number(recipe: Recipe, name: str, above: float | None = None, below: float = math.inf) -> None:
    value = getattr(recipe, name)
    good = _is_number(value) and value < below
    if not good or (value < 0 if above is None else value <= above):
        least = "at least 0" if above is None else f"above {above:g}"
        raise RunError(f"{name}={value!r}: a number {least}{'' if below == math.inf else f' and below {below:g}'}.")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
