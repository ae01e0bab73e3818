"""Kill training at seeded moments, with every method, and compare what comes out with a run that was left alone.

Each run of a tiny network on scikit-learn's digits is killed (SIGKILL) a number of times, each time a drawn while after
a drawn checkpoint, and resumed by the same command. At the end final weights and all losses must be bitwise those of a
run that was never killed. A row for each method goes to ``--out``.

    python benchmarks/kills.py --kills 25 --out records/kills/results.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pathlib
import random
import signal
import tempfile
import time
from typing import Any

import torch
from safetensors.torch import load_file

import torchpaths as tp
from torchpaths.data import Augment
from torchpaths.methods import Together
from torchpaths.train.metrics import read_metrics
from torchpaths.train.recipe import Recipe
from torchpaths.train.run import train

METHODS: dict[str, tuple[str, Any]] = {
    "GatedBlocks": ("cifar_resnet14", tp.GatedBlocks()),
    "AdaptiveDepth": ("cifar_resnet14", tp.AdaptiveDepth()),
    "CodedPaths": ("resnext20_10x4d", tp.CodedPaths(classes=10)),
    "GatedFilters": ("cifar_resnet14", tp.GatedFilters()),
    "all but codes": (
        "cifar_resnet14",
        Together((tp.AdaptiveDepth(), tp.GatedBlocks(), tp.GatedFilters())),
    ),
}
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torchpaths.train.run", "torch._dynamo", "sklearn.datasets"])


def recipe(name: str) -> Recipe:
    """Two epochs of 12 steps, with all that could carry state from step to step, and a checkpoint every other step."""
    model, method = METHODS[name]
    return Recipe(
        model=model,
        data="digits",
        method=method,
        epochs=2,
        batch=128,
        accumulate=2,
        ema=0.9,
        augment=Augment(pad=1, erase=0.5),
        schedule="cosine",
        threads=1,
        checkpoint_steps=2,
        log_every=3,
        eval_every=1,
    )


def work(name: str, out: pathlib.Path) -> None:
    """One process of a run."""
    torch.set_num_threads(1)
    train(recipe(name), out, quiet=True)


def saved(out: pathlib.Path) -> int:
    """The step of the last checkpoint, 0 for none."""
    index = out / "checkpoints" / "index.json"
    return int(json.loads(index.read_text())["last"].partition("-")[2]) if index.is_file() else 0


def killed(name: str, out: pathlib.Path, kills: int, chance: random.Random) -> int:
    """A run that is killed so many times, if it lives long enough, and then left to end; how many times it was."""
    done = 0
    while True:
        process = CONTEXT.Process(target=work, args=(name, out))
        process.start()
        assert process.pid is not None
        # From the last checkpoint on or one further: kills must not stand still, nor the run end before they are done.
        target, delay = saved(out) + chance.choice((0, 0, 2)), chance.uniform(0, 1.0)
        while done < kills and process.is_alive() and saved(out) < target:
            time.sleep(0.002)
        process.join(delay if done < kills else None)
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        if process.exitcode == -signal.SIGKILL:
            done += 1
        elif process.exitcode == 0:
            return done
        else:
            raise SystemExit(f"{name}: a resumed run ended with {process.exitcode} after {done} kills")


def rows(out: pathlib.Path) -> list[dict[str, Any]]:
    """All that was written down but times."""
    timed = ("seconds", "images_per_second")
    return [{k: v for k, v in row.items() if k not in timed} for row in read_metrics(out / "metrics.jsonl")]


def same(a: pathlib.Path, b: pathlib.Path) -> bool:
    """Whether two runs ended at the same weights, averages and losses, bit for bit."""
    for file in ("weights.safetensors", "ema.safetensors"):
        ours, theirs = load_file(a / file), load_file(b / file)
        if ours.keys() != theirs.keys() or not all(torch.equal(ours[k], theirs[k]) for k in ours):
            return False
    return rows(a) == rows(b)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=25, help="in all, shared among the methods")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=None)
    options = parser.parse_args()
    chance, found = random.Random(options.seed), []
    each = -(-options.kills // len(METHODS))
    with tempfile.TemporaryDirectory() as folder:
        for name in METHODS:
            straight, broken = pathlib.Path(folder, name, "straight"), pathlib.Path(folder, name, "killed")
            began = time.monotonic()
            killed(name, straight, 0, chance)
            done = killed(name, broken, each, chance)
            row = {"method": name, "kills": done, "bitwise": same(straight, broken)}
            found.append(row)
            print(json.dumps(row), f"{time.monotonic() - began:.0f} s", flush=True)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(
            json.dumps({"seed": options.seed, "torch": torch.__version__, "rows": found}, indent=1) + "\n"
        )
    if not all(row["bitwise"] for row in found) or sum(int(row["kills"]) for row in found) < options.kills:
        raise SystemExit("a run that was killed came out otherwise, or ended before all kills were done")


if __name__ == "__main__":
    main()
