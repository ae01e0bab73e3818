"""From a trained network and a folder of your images to one small file for a server: five commands, and no JSON.

python examples/monday.py photos timm/resnet34.a1_in1k
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from torchpaths.cli import main as torchpaths


def main(images: Path, model: str, out: Path, macs: float = 0.7, train: str = "", shrink: str = "") -> Path:
    """Fine-tune, shrink, export, evaluate what was cut out, and look at a picture.

    Args:
        images: a folder of each class, or ``train/`` and ``val/`` of such folders.
        model: a name with published weights; with a file of your own, ``train="--weights FILE"``.
        out: where everything goes.
        macs: share of the multiply-accumulates to keep.
        train: more options for ``torchpaths train finetune``.
        shrink: more options for ``torchpaths shrink``.

    Returns:
        The file.
    """
    file = out / "small.onnx"
    photos, plain, small, written = (shlex.quote(str(path)) for path in (images, out / "plain", out / "small", file))
    commands = (
        f"train finetune --data {photos} --model {model} --method none --out {plain} {train}",
        f"shrink {plain} --budget-macs {macs} --out {small} {shrink}",
        f"export {small}/run --out {written} --int8 static --force",
        f"evaluate {small}/cut",
        f"predict {small}/cut {shlex.quote(str(first(images)))}",
    )
    for command in commands:
        print(f"\n$ torchpaths {command}", flush=True)
        if torchpaths(shlex.split(command)) != 0:
            raise SystemExit(f"stopped at: torchpaths {command}")
    return file


def first(images: Path) -> Path:
    """A picture of a folder."""
    return min(path for path in images.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, default=Path("monday"))
    parser.add_argument("--macs", type=float, default=0.7)
    parser.add_argument("--train", default="", help="more options for torchpaths train finetune, in quotes")
    parser.add_argument("--shrink", default="", help="more options for torchpaths shrink, in quotes")
    main(**vars(parser.parse_args()))
