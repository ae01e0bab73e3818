"""What int8 does for exported networks: ResNet-50 whole, cut and gated, and a trained gated ResNet-56, in ONNX Runtime.

    python benchmarks/int8.py --prepare                                # writes the files, which takes minutes
    python benchmarks/int8.py                                          # times them, batch 1, one thread

The cut closes seven of the twelve blocks of a ResNet-50 that may be closed without a projection, which leaves 63 % of
the MACs. Weights of the ResNet-50 are random, so its times count and what int8 does to its classes does not; the
trained ResNet-56 (``--run``, with ``--data`` CIFAR-10) is there for decisions. All files of a network take turns, so
every ratio is of times from the same rounds.
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnxruntime
import torch
import tyro
from networks import open_network
from torch import Tensor

import torchpaths as tp
from torchpaths.errors import RouteError
from torchpaths.exports.int8 import Int8
from torchpaths.meter.timing import Run, interleave, median_interval, stopwatch

CLOSED = ("layer1.1", "layer1.2", "layer2.1", "layer2.3", "layer3.1", "layer3.3", "layer3.5")
IMAGES = 8
"""That times are over, one by one."""


@dataclass(frozen=True)
class Options:
    """What is measured.

    Attributes:
        run: a gated run folder; its network is measured beside the ResNet-50.
        data: image set of the run.
        seconds: timed work for each file.
        pairs: rounds at least.
        files: folder of the written files.
        out: results, as JSON.
        prepare: write the files and what was found of them, and time nothing.
    """

    run: str | None = None
    data: str | None = None
    seconds: float = 4.0
    pairs: int = 15
    files: pathlib.Path = field(default=pathlib.Path("runs/int8"))
    out: pathlib.Path = field(default=pathlib.Path("runs/int8.json"))
    prepare: bool = False


def main(options: Options) -> None:
    """Write files or time those that are there."""
    networks = ["resnet50", *([] if options.run is None else [options.run])]
    for network in networks:
        folder = options.files / pathlib.Path(network).name
        if options.prepare:
            _write(network, options.data if network == options.run else None, folder)
        else:
            _time(options, folder)


def _write(network: str, data: str | None, folder: pathlib.Path) -> None:
    """Write the files that are missing, with what was found of each and the images that will be timed beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    net, x = open_network(network, "fp32", "contiguous", data)
    torch.save(x[:IMAGES], folder / "images.pt")
    full = tp.Path.full(net)
    cut = tp.Path({site: [site not in CLOSED] for site in net.sites}, net.layout.fingerprint)
    kinds: dict[str, tp.Path | None] = {"plain": full, "cut": cut, "gates": None}
    if network != "resnet50":
        del kinds["cut"]
    for kind, path in kinds.items():
        for int8 in (None, "static", "dynamic"):
            _one(net, x, folder / f"{kind}-{int8 or 'float'}.onnx", path, int8)


def _one(net: tp.Routed, x: Tensor, file: pathlib.Path, path: tp.Path | None, int8: Int8 | None) -> None:
    found = file.with_suffix(".json")
    if found.is_file():
        return
    macs = None if path is None else tp.cost(net, x[:1], path).macs / net.layout.plain.macs
    try:
        told: dict[str, Any] = {"int8": tp.export(net, file, x, path=path, int8=int8).to_json()["int8"]}
    except RouteError as error:
        told = {"refused": str(error)}
    found.write_text(json.dumps({"macs_ratio": macs, **told}))
    print(file, told, flush=True)


def _time(options: Options, folder: pathlib.Path) -> None:
    """Time a network's files in turns, and add the rows to the results."""
    images = torch.split(torch.load(folder / "images.pt"), 1)
    names = ["plain-float", *sorted(f.stem for f in folder.glob("*.onnx") if f.stem != "plain-float")]
    subjects = [[Run(partial(_call(folder / f"{name}.onnx"), x)) for x in images] for name in names]
    times = interleave(
        subjects, seconds=options.seconds * len(subjects), least=options.pairs, timer=stopwatch(torch.device("cpu"))
    )
    told = json.loads(options.out.read_text()) if options.out.is_file() else {}
    told[folder.name] = {
        "setting": {
            "processor": torch.cpu.get_capabilities()["cpu_name"],
            "avx512_vnni": torch.cpu.get_capabilities().get("avx512_vnni", False),
            "onnxruntime": onnxruntime.__version__,
            "threads": 1,
            "batch": 1,
            "rounds": len(times),
        },
        "files": {
            found.stem: {
                **json.loads(found.read_text()),
                **({} if found.stem not in names else _row(times, names.index(found.stem))),
            }
            for found in sorted(folder.glob("*.json"))
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(told, indent=1) + "\n")
    for name, row in told[folder.name]["files"].items():
        print(folder.name, name, row.get("ms"), row.get("time_ratio"), flush=True)


def _row(times: Any, i: int) -> dict[str, Any]:
    return {"ms": float(np.median(times[:, i])) * 1e3, "time_ratio": asdict(median_interval(times[:, i] / times[:, 0]))}


def _call(file: pathlib.Path) -> Any:
    """A file on one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"x": x.numpy()})


if __name__ == "__main__":
    main(tyro.cli(Options))
