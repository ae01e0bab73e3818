"""Which back end really skips: exported networks timed beside the same back end's plain network and eager's skipping.

    python benchmarks/backends.py --network resnet50 --prepare      # writes the files, which takes minutes
    python benchmarks/backends.py --network resnet50 --batch 1 --threads 1

Of each network three files are written for each back end, with everything open (plain), with gates that decide (gates)
and along a random path (cut): single images for batch 1, batches of any size for others. A run times all back ends and
eager torch in turns, so every ratio is of times from the same rounds. MACs are those of the units that were opened,
gates included. Rows that are already in the results file are not measured again; the table shows them all.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias

import numpy as np
import onnxruntime
import openvino
import torch
import tyro
from networks import Order, open_network, random_path, read_rows
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.costs import count_macs
from torchpaths.meter.setting import setting_of, using_threads
from torchpaths.meter.timing import Run, interleave, median_interval, stopwatch

BackEnd: TypeAlias = Literal["onnx", "torch", "openvino"]
Call: TypeAlias = Callable[[Tensor], Sequence[Any]]

SUFFIX: dict[BackEnd, str] = {"onnx": ".onnx", "torch": ".pt2", "openvino": ".xml"}
VERSION: dict[BackEnd, str] = {
    "onnx": f"onnxruntime {onnxruntime.__version__}",
    "torch": f"torch {torch.__version__}",
    "openvino": f"openvino {openvino.__version__.partition('-')[0]}",
}
IMAGES = 8
"""That times are over: single ones, or one batch."""


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        network: "resnet50" or a run folder.
        kinds: what runs: gates that decide, or a network cut along a path.
        backends: for which.
        batch: images per call.
        threads: of each back end.
        order: memory format of eager torch; files take contiguous images.
        data: image set to take the images from.
        seconds: timed work for each network.
        pairs: rounds at least.
        files: folder of the written files.
        out: results, one JSON object per line.
        prepare: write the files and measure nothing.
    """

    network: str = "resnet50"
    kinds: tuple[Literal["gates", "cut"], ...] = ("gates", "cut")
    backends: tuple[BackEnd, ...] = ("onnx", "torch", "openvino")
    batch: tuple[int, ...] = (1, 8)
    threads: tuple[int, ...] = (1, 2)
    order: Order = "channels_last"
    data: str | None = None
    seconds: float = 4.0
    pairs: int = 15
    files: pathlib.Path = field(default=pathlib.Path("runs/backends"))
    out: pathlib.Path = field(default=pathlib.Path("runs/backends.jsonl"))
    prepare: bool = False


def main(options: Options) -> None:
    """Measure what is missing and print everything."""
    options.out.parent.mkdir(parents=True, exist_ok=True)
    net, images = open_network(options.network, "fp32", options.order, options.data)
    for kind in options.kinds:
        for batch in options.batch:
            for threads in options.threads:
                done = [row["key"] for row in read_rows(options.out)]
                missing = [b for b in options.backends if _key(options, kind, b, threads, batch) not in done]
                files = {
                    b: [_written(options, net, images, what, b, batch) for what in (kind, "plain")] for b in missing
                }
                if missing and not options.prepare:
                    rows = _measure(options, net, images, kind, threads, batch, files)
                    with options.out.open("a") as file:
                        file.writelines(json.dumps(row) + "\n" for row in rows)
    if not options.prepare:
        _show(read_rows(options.out))


def _key(options: Options, kind: str, backend: BackEnd, threads: int, batch: int) -> list[str | int]:
    return [pathlib.Path(options.network).name, kind, backend, threads, batch]


def _written(options: Options, net: tp.Routed, images: Tensor, kind: str, backend: BackEnd, batch: int) -> pathlib.Path:
    """The file of a network, written if it is not there yet."""
    takes: Literal["one", "any"] = "one" if batch == 1 else "any"
    file = options.files / pathlib.Path(options.network).name / f"{kind}-{takes}{SUFFIX[backend]}"
    if not file.is_file():
        path = {"plain": tp.Path.full(net), "cut": random_path(net), "gates": None}[kind]
        made = tp.export(net, file, images[:IMAGES], path=path, batch=takes)
        print(f"wrote {file}; differs by {made.difference:.1e}", flush=True)
    return file


def _opened(file: pathlib.Path, backend: BackEnd, threads: int) -> Call:
    """A file, ready to run with so many threads."""
    match backend:
        case "onnx":
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            options.intra_op_num_threads = threads
            # Threads that wait by spinning would slow down whoever runs next in the same round.
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
            return lambda x: session.run(None, {"x": x.numpy()})
        case "openvino":
            how = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
            compiled = openvino.Core().compile_model(file, "CPU", how)
            return lambda x: list(compiled(x.numpy()).values())
        case "torch":
            module = torch.export.load(file).module()

            def run(x: Tensor) -> Sequence[Tensor]:
                y = module(x)
                return y if isinstance(y, tuple) else (y,)

            return run


def _measure(
    options: Options,
    net: tp.Routed,
    images: Tensor,
    kind: str,
    threads: int,
    batch: int,
    files: dict[BackEnd, list[pathlib.Path]],
) -> list[dict[str, Any]]:
    """A row for each back end, all from the same rounds."""
    batches = torch.split(images[: max(batch, IMAGES)], batch)
    given = [x.contiguous() for x in batches]
    plain = tp.plain(net).eval()
    eager: nn.Module = tp.skipping(net) if kind == "gates" else tp.extract(net, random_path(net)).eval()
    with using_threads(threads), torch.no_grad():
        calls = {b: [_opened(file, b, threads) for file in both] for b, both in files.items()}
        opened = [_path(net, eager, kind, x) for x in batches]
        for backend, (run, _) in calls.items():
            _check(backend, run, given, eager, batches, opened if kind == "gates" else None)
        subjects = [[Run(partial(module, x)) for x in batches] for module in (plain, eager)]
        subjects += [[Run(partial(call, x)) for x in given] for both in calls.values() for call in both]
        times = interleave(
            subjects, seconds=options.seconds * len(subjects), least=options.pairs, timer=stopwatch(images.device)
        )
        setting = setting_of(net, batches[0])
        macs = _macs(net, opened, kind)
        # The second count: the first one may have timed what gathering costs.
        eager_macs = [count_macs(partial(eager, x)) for _ in range(2) for x in batches][len(batches) :]
    plain_macs = net.layout.plain.macs
    rows = []
    for i, backend in enumerate(files):
        own, base = times[:, 2 + 2 * i], times[:, 3 + 2 * i]
        ratio = median_interval(own / base)
        against = median_interval(own / times[:, 1])
        rows.append(
            {
                "key": _key(options, kind, backend, threads, batch),
                "backend": VERSION[backend],
                **setting.to_json(),
                "memory_format": "contiguous",
                "eager_memory_format": setting.memory_format,
                "macs_ratio": macs / plain_macs,
                "ms": _ms(own),
                "plain_ms": _ms(base),
                "time_ratio": asdict(ratio),
                "gap": asdict(ratio / (macs / plain_macs)),
                "eager_ms": _ms(times[:, 1]),
                "eager_plain_ms": _ms(times[:, 0]),
                "eager_macs_ratio": sum(eager_macs) / len(images[: max(batch, IMAGES)]) / plain_macs,
                "against_eager": asdict(against),
                "plain_against_eager": asdict(median_interval(base / times[:, 0])),
                "pairs": len(times),
            }
        )
    return rows


def _path(net: tp.Routed, eager: nn.Module, kind: str, x: Tensor) -> tp.Path:
    """What eager torch opens for a batch."""
    return tp.Path.of(eager(x)[1]) if kind == "gates" else random_path(net)


def _check(
    backend: BackEnd,
    run: Call,
    given: Sequence[Tensor],
    eager: nn.Module,
    batches: Sequence[Tensor],
    opened: Sequence[tp.Path] | None,
) -> None:
    """Stop if a file does not do what eager torch does on the images that are timed."""
    for i, x in enumerate(given):
        y = eager(batches[i])
        found = run(x)
        expected = y if opened is None else y[0]
        off = float((torch.as_tensor(found[0]) - expected).abs().max() / expected.abs().max())
        if opened is not None:
            units = torch.cat([torch.as_tensor(opened[i][site]) for site in opened[i]], 1)
            if not torch.equal(torch.as_tensor(found[1]), units):
                raise SystemExit(f"{backend} opens other units than eager torch.")
        if off > 1e-4:
            raise SystemExit(f"{backend} differs from eager torch by {off:.1e}.")


def _macs(net: tp.Routed, opened: Sequence[tp.Path], kind: str) -> float:
    """Of one image, the mean; gates included where the network has them."""
    if kind == "gates":
        return float(torch.cat([path.macs(net) for path in opened]).mean())
    return float(tp.cost(net, torch.zeros(1, *net.example_shape), opened[0]).macs)


def _ms(times: NDArray[np.float64]) -> float:
    return float(np.median(times)) * 1e3


def _show(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(title="Exported networks, paired runs, fp32; 95 % intervals")
    table.add_column("network")
    table.add_column("what")
    table.add_column("back end")
    for column in ("threads", "batch", "plain ms", "ms", "MACs", "time", "gap", "eager ms", "against eager", "pairs"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            *map(str, row["key"]),
            f"{row['plain_ms']:.1f}",
            f"{row['ms']:.1f}",
            f"{row['macs_ratio']:.3f}",
            f"{row['time_ratio']['value']:.3f}",
            _interval(row["gap"]),
            f"{row['eager_ms']:.1f}",
            _interval(row["against_eager"]),
            str(row["pairs"]),
        )
    Console(width=170).print(table)


def _interval(median: dict[str, float]) -> str:
    return f"{median['value']:.2f}, {median['low']:.2f} to {median['high']:.2f}"


if __name__ == "__main__":
    main(tyro.cli(Options))
