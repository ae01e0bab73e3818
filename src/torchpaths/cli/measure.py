"""``torchpaths measure RUN``: MACs, time, gap and memory of a run's network beside the plain one, on this device."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from torchpaths.cli import OK
from torchpaths.cli.options import OfRun, emit, parse, read_path, speaking
from torchpaths.data import Loader
from torchpaths.errors import DataError, MeasureError
from torchpaths.extraction import extract
from torchpaths.meter import Measurement, in_batches, measure_all, table
from torchpaths.meter.allocator import allocator, keep_memory
from torchpaths.meter.compare import Compile
from torchpaths.meter.meter import SECONDS
from torchpaths.path import Path
from torchpaths.skips.network import skipping
from torchpaths.terminal import Console
from torchpaths.train.folder import Run

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Options(OfRun):
    """What the verb takes."""

    path: pathlib.Path | None = None
    """A path, as JSON; measured as it is run and cut out, beside what the network decides itself."""
    batch: tuple[int, ...] = (1, 32)
    """Images in a batch, one number or several."""
    threads: tuple[int, ...] = ()
    """Threads on the CPU, one number or several; as many as torch chooses by default."""
    dtype: Literal["fp32", "bf16"] = "fp32"
    """Precision of weights and images."""
    memory_format: Literal["contiguous", "channels_last"] = "contiguous"
    """Layout of weights and images."""
    compile: Compile | None = None
    """Compile both networks with torch.compile in this mode."""
    keep_memory: bool = False
    """Let the C library keep freed memory, as a tuned server would; see docs/measure.md."""
    seconds: float = SECONDS
    """Timed work for each row."""


def run(arguments: list[str]) -> int:
    """Measure and print. Returns the exit status, see `torchpaths.cli.main`."""
    about = "MACs, time, gap and peak memory of a run's network beside the plain one, in paired runs on this device."
    options = parse(Options, arguments, "measure", about)
    if min(options.batch, default=0) < 1:
        raise MeasureError(f"--batch {' '.join(map(str, options.batch))}: give batches of at least one image.")
    with speaking(options.json) as console:
        if options.keep_memory and not keep_memory():
            raise MeasureError(
                f"--keep-memory changes what glibc does; memory comes from {allocator()} here, leave it out."
            )
        opened = options.open()
        path = None if options.path is None else read_path(options.path)
        nets = _networks(opened, path, options)
        pool, what = _images(opened, options, max(16, *options.batch))
        rows: list[Measurement] = []
        for threads in options.threads or (None,):
            for batch in options.batch:
                with Console(stderr=True).status(f"measuring {len(nets)} networks, batch {batch}"):
                    rows += measure_all(
                        nets, in_batches(pool, batch), threads=threads, compile=options.compile, seconds=options.seconds
                    )
        console.print(table(rows))
        console.print(f"on {what}")
    if options.json:
        emit({"folder": str(options.run), "images": what, "rows": [row.to_json() for row in rows]})
    return OK


def _networks(opened: Run, path: Path | None, options: Options) -> dict[str, nn.Module | tuple[nn.Module, Path]]:
    """What to measure: the masked network, the one that skips; with a path also that, skipped and cut out."""
    net = opened.net
    whole = path is not None and path.batch is None and set(net.sites) <= set(path)
    cut = extract(net, path) if path is not None and whole else None
    for module in (net, cut) if cut is not None else (net,):
        module.to(dtype=DTYPES[options.dtype])
        module.to(memory_format=FORMATS[options.memory_format])
    fast = skipping(net)
    nets: dict[str, nn.Module | tuple[nn.Module, Path]] = {"masked": net, "skipping": fast}
    if path is not None:
        nets["path, skipping"] = (fast, path)
    if cut is not None:
        nets["path, cut"] = cut
    return nets


def _images(opened: Run, options: Options, count: int) -> tuple[Tensor, str]:
    """So many of the run's images where they can be opened, else noise of their size; and what they are, in words."""
    net = opened.net
    parameter = next(net.parameters())
    try:
        found = options.images(opened)
    except DataError:
        if options.data is not None:
            raise
        noise = torch.Generator().manual_seed(0)
        x = torch.randn(count, *net.example_shape, generator=noise)
        what = f"noise: the run's images ({opened.recipe.data}) are not here, gates may open otherwise than for images"
    else:
        loader = Loader(found, min(count, len(found)), shuffle=True, mean=opened.mean, std=opened.std, workers=0)
        x, _ = next(iter(loader))
        what = f"images of {found.name}, {options.split} split"
    return x.to(parameter.device, parameter.dtype, memory_format=FORMATS[options.memory_format]), what
