"""What timm, torchvision and others call what a recipe has under another name; who knows theirs is told ours."""

from __future__ import annotations

from collections.abc import Sequence

_SIZE = "--size"
_MODEL = "--model"
_NONE = ""

KNOWN: dict[str, tuple[str, str]] = {
    # theirs: ours, and how
    "--arch": (_MODEL, "timm/NAME or torchvision/NAME"),
    "-a": (_MODEL, "timm/NAME or torchvision/NAME"),
    "--network": (_MODEL, "timm/NAME or torchvision/NAME"),
    "--architecture": (_MODEL, "timm/NAME or torchvision/NAME"),
    "--pretrained": (_MODEL, "with a tag, timm/NAME.TAG or torchvision/NAME:TAG; or a file, --weights FILE"),
    "--checkpoint": ("--weights", "FILE"),
    "--initial-checkpoint": ("--weights", "FILE"),
    "--ckpt": ("--weights", "FILE"),
    "--pretrained-path": ("--weights", "FILE"),
    "--img-size": (_SIZE, "PIXELS"),
    "--image-size": (_SIZE, "PIXELS"),
    "--imgsz": (_SIZE, "PIXELS"),
    "--input-size": (_SIZE, "PIXELS"),
    "--train-crop-size": ("--train-size", "PIXELS"),
    "--val-crop-size": (_SIZE, "PIXELS"),
    "--crop-pct": ("--crop", "SHARE"),
    "--val-resize-size": ("--resize", "PIXELS"),
    "--interpolation": ("--bicubic", "or --no-bicubic"),
    "--in-chans": ("--channels", "1 or 3"),
    "--num-classes": (_NONE, "the classes are the folders of --data"),
    "--batch-size": ("--batch", "IMAGES, over all processes"),
    "-b": ("--batch", "IMAGES, over all processes"),
    "--grad-accum-steps": ("--accumulate", "N"),
    "--validation-batch-size": (_NONE, "evaluation takes 256 images at a time"),
    "--learning-rate": ("--lr", "RATE"),
    "--blr": ("--lr", "RATE"),
    "--lr-base": ("--lr", "RATE"),
    "--min-lr": ("--final-lr", "RATE"),
    "--lr-min": ("--final-lr", "RATE"),
    "--warmup-epochs": ("--warmup", "EPOCHS"),
    "--lr-warmup-epochs": ("--warmup", "EPOCHS"),
    "--sched": ("--schedule", "step or cosine"),
    "--lr-scheduler": ("--schedule", "step or cosine"),
    "--decay-milestones": ("--milestones", "EPOCH ..."),
    "--lr-step-size": ("--milestones", "EPOCH ..."),
    "--decay-rate": ("--gamma", "FACTOR"),
    "--lr-gamma": ("--gamma", "FACTOR"),
    "--opt": ("--optimizer", "sgd or adamw"),
    "--wd": ("--weight-decay", "RATE"),
    "--label-smoothing": ("--smoothing", "SHARE"),
    "--num-epochs": ("--epochs", "N"),
    "--data-path": ("--data", "FOLDER"),
    "--data-dir": ("--data", "FOLDER"),
    "--dataset": ("--data", "FOLDER"),
    "--train-dir": ("--data", "FOLDER, that holds train/ and val/"),
    "--val-dir": ("--data", "FOLDER, that holds train/ and val/"),
    "--output": ("--out", "FOLDER"),
    "--output-dir": ("--out", "FOLDER"),
    "-o": ("--out", "FOLDER"),
    "--save-dir": ("--out", "FOLDER"),
    "--experiment": ("--out", "FOLDER"),
    "-j": ("--workers", "N"),
    "--num-workers": ("--workers", "N"),
    "--amp": ("--precision", "bf16"),
    "--amp-dtype": ("--precision", "fp32, bf16 or fp16"),
    "--fp16": ("--precision", "fp16"),
    "--bf16": ("--precision", "bf16"),
    "--torchcompile": ("--compile", ""),
    "--model-ema": ("--ema", "DECAY, e.g. 0.999"),
    "--model-ema-decay": ("--ema", "DECAY, e.g. 0.999"),
    "--model-ema-steps": ("--ema-every", "STEPS"),
    "--model-ema-warmup": ("--ema-ramp", ""),
    "--hflip": ("--augment.flip", "PROBABILITY"),
    "--hflip-prob": ("--augment.flip", "PROBABILITY"),
    "--scale": ("--augment.crop", "LEAST MOST, of the area"),
    "--train-interpolation": ("--augment.interpolation", "bilinear, bicubic or random"),
    "--aa": ("--augment.policy", "POLICY, as rand-m9-mstd0.5 or ta_wide"),
    "--auto-augment": ("--augment.policy", "POLICY, as rand-m9-mstd0.5 or ta_wide"),
    "--color-jitter": ("--augment.jitter", "SHARE"),
    "--reprob": ("--augment.erase", "PROBABILITY, with --augment.erase-fill"),
    "--random-erase": ("--augment.erase", "PROBABILITY, with --augment.erase-fill"),
    "--recount": ("--augment.erase-count", "BOXES, with --augment.erase-fill normal"),
    "--aug-repeats": ("--repeats", "N"),
    "--ra-sampler": ("--repeats", "N"),
    "--ra-reps": ("--repeats", "N"),
    "--clip-grad": ("--clip", "NORM"),
    "--clip-grad-norm": ("--clip", "NORM"),
    "--mixup-alpha": ("--mixup", "ALPHA"),
    "--cutmix-alpha": ("--cutmix", "ALPHA"),
    "--cooldown-epochs": ("--cooldown", "EPOCHS, among --epochs"),
    "--warmup-lr": ("--warmup-from", "SHARE of --lr"),
    "--lr-warmup-decay": ("--warmup-from", "SHARE of --lr"),
    "--norm-weight-decay": ("--no-decay", "norms"),
    "--bias-weight-decay": ("--no-decay", "biases"),
    "--transformer-embedding-decay": ("--no-decay", "embeddings"),
    "--log-interval": ("--log-every", "STEPS"),
    "--print-freq": ("--log-every", "STEPS"),
    "--checkpoint-hist": (_NONE, "the last two checkpoints and the best are kept"),
    "--kd-model-name": ("--distil.teacher", "start or RUN"),
    "--val-split": ("--holdout", "SHARE"),
    **dict.fromkeys(
        ("--method.budget.macs", "--method.budget.ms", "--budget-macs", "--budget-ms"),
        (
            _NONE,
            "training is towards a share of open units, --method.budget.open 0.6; MACs and ms are for shrink and front",
        ),
    ),
    "--freeze": (_NONE, "every layer is trained; a small --lr leaves weights nearly where they are"),
}
"""Names of timm's and torchvision's training scripts, and of others that many know."""


def translated(arguments: Sequence[str]) -> str | None:
    """What to say of arguments under other libraries' names, all of them at once; None where there is none."""
    found: dict[str, str] = {}
    for argument in arguments:
        given = argument.partition("=")[0]
        name = given.replace("_", "-") if given.startswith("--") else given
        if name in KNOWN:
            ours, how = KNOWN[name]
            found[given] = f"did you mean {ours}{' ' if how else ''}{how}?" if ours else f"there is none; {how}."
    return " ".join(f"{given}: {said}" for given, said in found.items()) or None
