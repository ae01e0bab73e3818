"""``torchpaths measure RUN``: MACs, time, gap and memory of a run's network beside the plain one, on this device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from torchpaths.chosen import OperatingPoint
from torchpaths.cli import OK
from torchpaths.cli.choice import Chosen, OfPath, choose
from torchpaths.cli.options import emit, parse, speaking
from torchpaths.data import Loader
from torchpaths.errors import DataError, MeasureError
from torchpaths.extraction import extract, plain
from torchpaths.meter import Measurement, in_batches, measure_all, table
from torchpaths.meter.allocator import allocator, keep_memory
from torchpaths.meter.compare import Compile
from torchpaths.meter.meter import SECONDS
from torchpaths.models.known import known
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.skips.network import skipping
from torchpaths.terminal import Console
from torchpaths.train.folder import Run

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Options(OfPath):
    """What the verb takes."""

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
        chosen = choose(options, opened)
        nets, against = _networks(opened, chosen, options)
        pool, what = _images(opened, options, max(16, *options.batch))
        rows: list[Measurement] = []
        for threads in options.threads or (None,):
            for batch in options.batch:
                with Console(stderr=True).status(f"measuring {len(nets)} networks, batch {batch}"):
                    rows += measure_all(
                        nets,
                        in_batches(pool, batch),
                        against=against,
                        threads=threads,
                        compile=options.compile,
                        seconds=options.seconds,
                    )
        console.print(table(rows))
        console.print(f"on {what}", soft_wrap=True)
        if chosen is not None:
            console.print(f"path chosen by {chosen.by}", soft_wrap=True)
    if options.json:
        emit({"folder": str(options.run), "images": what, "rows": [row.to_json() for row in rows]})
    return OK


Nets: TypeAlias = dict[str, nn.Module | tuple[nn.Module, Path | OperatingPoint]]


def _networks(opened: Run, chosen: Chosen | None, options: Options) -> tuple[Nets, nn.Module | None]:
    """What to measure, and beside what; None for the original of what decides.

    The masked network and the one that skips, beside the original; of a network that closes the same for every image,
    that cut out; what was chosen, run by skipping and, if it is one path, cut out. Of a cut network itself and what was
    chosen, beside the original that it was cut out of.
    """
    net = opened.net
    path = None if chosen is None else chosen.whole
    # Sites may be left to gates, which cannot be cut out.
    whole = path if path is not None and path.batch is None and set(net.sites) <= set(path) else None
    keep = None if chosen is None else chosen.keep
    same = _same_for_all(net)
    cuts = {"cut": None if same is None else extract(net, same)}
    cuts["path, cut"] = None if whole is None else extract(net, whole, classes=keep)
    against = None if opened.spec is None else known(opened.spec.source).make().to(next(net.parameters()).device)
    for module in filter(None, (net, against, *cuts.values())):
        module.to(dtype=DTYPES[options.dtype])
        module.to(memory_format=FORMATS[options.memory_format])
    fast = skipping(net)
    nets: Nets = {"masked": net, "skipping": fast} if against is None else {"cut network": plain(net)}
    if chosen is not None:
        nets["path, skipping" if path is not None else "point, skipping"] = (fast, chosen.what)
    return {**nets, **{name: cut for name, cut in cuts.items() if cut is not None}}, against


def _same_for_all(net: Routed) -> Path | None:
    """The path that a network takes for every image, if it closes something and asks nobody."""
    decided = {n: (True,) * len(s.units) if s.decider is None else s.decider.constant for n, s in net.sites.items()}
    opened = {name: bools for name, bools in decided.items() if bools is not None}
    some = any(not all(bools) for bools in opened.values())
    return Path(opened) if some and len(opened) == len(decided) else None


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
