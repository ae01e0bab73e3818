"""Killed at any moment, alone or in company, a run resumes to bitwise the same weights.

Processes come from a fork server that has imported torch already and computed nothing, so each starts at once and is as
good as fresh.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from torchpaths import Budget, GatedBlocks
from torchpaths.data import Augment
from torchpaths.errors import RouteError, RunError
from torchpaths.methods.together import Together
from torchpaths.train import checkpoint
from torchpaths.train.lock import held
from torchpaths.train.metrics import read_metrics
from torchpaths.train.recipe import Recipe
from torchpaths.train.run import train
from train_toys import Labelled, tiny

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torchpaths.train.run", "torch._dynamo", "sklearn.datasets", "train_toys", "pytest"])

# All that could carry state from step to step: noise, heads, order, augmentation, momentum, an average, accumulation.
RECIPE: dict[str, Any] = dict(  # noqa: C408
    method=Together((GatedBlocks(budget=Budget(open=0.6)), Labelled())),
    epochs=3,
    batch=128,
    accumulate=2,
    ema=0.9,
    augment=Augment(pad=1, erase=0.5),
    schedule="cosine",
    checkpoint_steps=2,
    log_every=3,
    eval_every=1,
)


def work(recipe: Recipe, out: Path, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    train(recipe, out, quiet=True)


def start(recipe: Recipe, out: Path, world: int = 1) -> list[BaseProcess]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes: list[BaseProcess] = []
    for rank in range(world):
        places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_PORT": port}
        environment = {k: str(v) for k, v in places.items()} | {"MASTER_ADDR": "127.0.0.1"}
        processes.append(CONTEXT.Process(target=work, args=(recipe, out, environment if world > 1 else {})))
        processes[-1].start()
    return processes


def finish(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.join(120)
        assert process.exitcode == 0


def saved(out: Path) -> int:
    """The step of the last checkpoint, 0 for none; -1 before the run has written anything."""
    index = out / "checkpoints" / "index.json"
    if index.is_file():
        return int(json.loads(index.read_text())["last"].partition("-")[2])
    return 0 if (out / "metrics.jsonl").is_file() else -1


def kill_at(processes: list[BaseProcess], out: Path, step: int, delay: float) -> None:
    """Kills with SIGKILL a while after the checkpoint of a step was written."""
    limit = time.monotonic() + 100
    while saved(out) < step:
        assert time.monotonic() < limit
        assert all(p.exitcode is None for p in processes), "ended before it could be killed"
        time.sleep(0.002)
    time.sleep(delay)
    for process in processes:
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    for process in processes:
        process.join(20)
        assert process.exitcode == -signal.SIGKILL, "ended before it could be killed"


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def assert_same_run(a: Path, b: Path) -> None:
    for name in ("weights.safetensors", "ema.safetensors"):
        ours, theirs = load_file(a / name), load_file(b / name)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[k], theirs[k]) for k in ours)
    last = [checkpoint.load(folder / "checkpoints") for folder in (a, b)]
    assert last[0] is not None
    assert last[1] is not None
    assert all(torch.equal(t, last[1].tensors[n]) for n, t in last[0].tensors.items())
    assert any(name.startswith("heads.") for name in last[0].tensors)
    rows = [without_times(read_metrics(folder / "metrics.jsonl")) for folder in (a, b)]
    assert rows[0] == rows[1]
    steps = [(r["first"], r["step"]) for r in rows[0] if r["kind"] == "steps"]
    assert [s[0] for s in steps] == [0, *(s[1] for s in steps[:-1])], "a step is missing or there twice"


def test_a_run_killed_at_five_moments_resumes_to_bitwise_the_same_weights(tmp_path: Path) -> None:
    recipe = tiny(**RECIPE)
    straight, out = tmp_path / "straight", tmp_path / "killed"
    whole = start(recipe, straight)
    chance = random.Random(2018)
    for step in [0, *sorted(chance.sample(range(2, 29), 4))]:
        kill_at(start(recipe, out), out, step, chance.uniform(0, 0.25))
    finish(start(recipe, out))
    finish(whole)
    assert_same_run(out, straight)


def test_two_processes_killed_together_resume_to_bitwise_the_same_weights(tmp_path: Path) -> None:
    recipe = tiny(**{**RECIPE, "epochs": 1})
    straight, out = tmp_path / "straight", tmp_path / "killed"
    finish(start(recipe, straight, world=2))
    kill_at(start(recipe, out, world=2), out, 4, 0.02)
    finish(start(recipe, out, world=2))
    assert_same_run(out, straight)


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    """So that the comparisons above can fail."""
    for seed in (0, 1):
        train(tiny(epochs=1, seed=seed), tmp_path / str(seed), quiet=True)
    a, b = (load_file(tmp_path / str(seed) / "weights.safetensors") for seed in (0, 1))
    assert not torch.equal(a["model.conv1.weight"], b["model.conv1.weight"])


@pytest.mark.skipif(sys.platform != "linux", reason="torchrun with gloo is tested on Linux")
def test_the_same_script_trains_with_two_processes_under_torchrun(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import json, os, pathlib, sys\n"
        "from torchpaths.train.recipes import resolve\n"
        "from torchpaths.train.run import train\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "recipe = resolve('digits', {'epochs': 1, 'warmup': 0, 'device': 'cpu'})\n"
        "summary = train(recipe, out, quiet=True)\n"
        "(out.parent / ('rank' + os.environ['RANK'])).write_text(json.dumps(summary))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    path = os.pathsep.join(p for p in sys.path if p)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path / "run")], env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    summaries = [json.loads((tmp_path / f"rank{rank}").read_text()) for rank in (0, 1)]
    assert summaries[0] == summaries[1] == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summaries[0]["accuracy"] > 0.2
    assert json.loads((tmp_path / "run" / "run.json").read_text())["world"] == 2
    assert saved(tmp_path / "run" / "plain") == 22


def test_a_second_process_in_a_run_folder_is_told_who_holds_it_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    recipe, out = tiny(epochs=400, checkpoint_steps=2), tmp_path / "run"
    first = start(recipe, out)
    try:
        while saved(out) < 2:
            assert first[0].exitcode is None
            time.sleep(0.02)
        with pytest.raises(RunError, match=rf"is being trained into by process {first[0].pid} on .*another folder"):
            train(recipe, out, quiet=True)
    finally:
        first[0].kill()
        first[0].join()
    before = saved(out)
    with held(out):  # nothing in the way
        assert before >= 2


def test_a_start_that_failed_leaves_nothing_that_blocks_the_corrected_command(tmp_path: Path) -> None:
    out = tmp_path / "run"
    wrong = tiny(method=GatedBlocks(sites=("nowhere",)), epochs=1)
    with pytest.raises(RouteError, match="nowhere"):
        train(wrong, out, quiet=True)
    for recipe in (tiny(epochs=1), tiny(epochs=1)):  # again: it is that run's folder now
        assert train(recipe, out, quiet=True)["epochs"] == 1
    with pytest.raises(RunError, match=r"another recipe|differ"):
        train(tiny(epochs=2), out, quiet=True)
