"""What a run folder keeps about its surroundings: versions, commit, machine."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

import torch

from torchpaths.meter.allocator import allocator
from torchpaths.train.distributed import World
from torchpaths.train.recipe import Json

_PACKAGES = ("torchpaths", "torch", "torchvision", "timm", "numpy", "safetensors", "pyarrow", "scikit-learn")


def describe(world: World) -> Json:
    """Versions, commit, device, threads, allocator and number of processes, as JSON values."""
    device = world.device
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "commit": commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "allocator": allocator(),
        "world": world.size,
    }


def emulated(precision: str, device: torch.device) -> bool:
    """Whether arithmetic of this precision is emulated there: bfloat16 on a processor with AVX2 at most, where a ResNet
    trains forty times slower than in float32."""
    return (
        precision == "bf16" and device.type == "cpu" and torch.backends.cpu.get_cpu_capability() in ("DEFAULT", "AVX2")
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def commit(package: Path | None = None) -> str | None:
    """The git commit of torchpaths itself, with ``+changes`` where files differ from it; None for an installed copy.

    Args:
        package: folder of the package; torchpaths' own if None.
    """
    git = ["git", "-C", str(package or Path(__file__).resolve().parents[1])]
    try:
        # A package in a site-packages folder that happens to lie in some repository is not that repository's code.
        subprocess.run([*git, "ls-files", "--error-unmatch", "__init__.py"], check=True, capture_output=True)
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
        changes = subprocess.run(
            [*git, "status", "--porcelain", "."], check=True, capture_output=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head}+changes" if changes.strip() else head
