"""Where and how something was timed: ``Setting``. A time without it means nothing; two compare only where it agrees."""

from __future__ import annotations

import dataclasses
import pathlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.errors import MeasureError
from torchpaths.meter.allocator import allocator
from torchpaths.schema import MalformedError, convert


@dataclass(frozen=True)
class Setting:
    """Everything beside the network that its time depends on.

    Attributes:
        device: kind and model, ``"cpu (AMD EPYC)"``, ``"cuda (NVIDIA H200)"``.
        dtype: of the input, ``"float32"``; with ``(autocast)`` where autocast chose it.
        threads: of torch's operators on the CPU.
        batch: samples in a batch.
        input: shape of one sample, ``(3, 224, 224)``.
        memory_format: ``"channels_last"`` if the input's or the weights' layout is (convolutions then run so),
            ``"contiguous"``, or ``"strided"`` for an input that is neither.
        compile: mode of torch.compile; None for eager.
        torch: torch's version.
        allocator: who hands out memory on the CPU, see `torchpaths.meter.allocator`.
    """

    device: str
    dtype: str
    threads: int
    batch: int
    input: tuple[int, ...]
    memory_format: str
    compile: str | None
    torch: str
    allocator: str

    def to_json(self) -> dict[str, Any]:
        """As JSON data."""
        return {**dataclasses.asdict(self), "input": list(self.input)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Setting:
        """The inverse of `to_json`; raises `torchpaths.schema.MalformedError` for what is none."""
        found: Setting = convert(data, cls)
        if more := sorted(data.keys() - {field.name for field in dataclasses.fields(cls)}):
            raise MalformedError(f"setting: {more[0]!r} is no part of one")  # times of another setting than it seems
        return found

    def __str__(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        mode = "eager" if self.compile is None else f"compiled ({self.compile})"
        size = "x".join(map(str, self.input))
        ran = f"{self.dtype}, {self.memory_format}, {mode}, {self.allocator}"
        return f"{self.device}, {threads}, batch {self.batch} of {size}, {ran}"


def setting_of(net: nn.Module, x: Tensor, compile: str | None = None) -> Setting:
    """The setting in which ``net(x)`` would run now."""
    return Setting(
        device=device_name(x.device),
        dtype=_dtype(x),
        threads=torch.get_num_threads(),
        batch=x.shape[0],
        input=tuple(x.shape[1:]),
        memory_format=_memory_format(net, x),
        compile=compile,
        torch=str(torch.__version__),
        allocator=allocator(),
    )


def device_name(device: torch.device) -> str:
    """Kind and model of a device."""
    if device.type == "cpu":
        return f"cpu ({_cpu_model()})"
    model = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return f"{device.type} ({model})"


def devices_here() -> set[str]:
    """Names of the devices of this machine, see `device_name`."""
    here = {device_name(torch.device("cpu"))}
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        count = torch.accelerator.device_count()
        here |= {device_name(torch.device(accelerator.type, index)) for index in range(count)}
    return here


@contextmanager
def using_threads(threads: int | None) -> Iterator[None]:
    """That many threads for torch's operators on the CPU, None for as many as are set; afterwards as many as before.

    Raises:
        MeasureError: for less than one thread.
    """
    if threads is not None and threads < 1:
        raise MeasureError(f"threads={threads}: torch needs at least one thread.")
    before = torch.get_num_threads()
    torch.set_num_threads(before if threads is None else threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cpu_model() -> str:
    """The processor's name: Linux tells it in a file, elsewhere Python may know."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _dtype(x: Tensor) -> str:
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        return f"{str(torch.get_autocast_dtype(kind)).removeprefix('torch.')} (autocast)"
    return str(x.dtype).removeprefix("torch.")


def _memory_format(net: nn.Module, x: Tensor) -> str:
    weights = (p for p in net.parameters() if p.dim() == 4)
    if any(_channels_last(tensor) for tensor in (x, *weights)):
        return "channels_last"
    return "contiguous" if x.is_contiguous() else "strided"


def _channels_last(x: Tensor) -> bool:
    """Whether a tensor is laid out so and not, as with one channel or one pixel, in both ways at once."""
    return x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
