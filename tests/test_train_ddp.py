"""Two processes equal one process with the whole batch: losses, gradients, and the weights they lead to.

In double precision, on a network without batch normalisation: its statistics are those of each process's own images by
design (SyncBatchNorm would change that), so with it two processes are a different, equally valid run.
"""

from __future__ import annotations

import datetime
import multiprocessing
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from torchpaths import Method
from torchpaths.errors import RunError
from torchpaths.methods.together import Together
from torchpaths.train import distributed
from torchpaths.train.distributed import World, agree, alone, joined, mean_over_ranks, share_buffers
from torchpaths.train.loop import Hooks, Loop
from torchpaths.train.run import train
from torchpaths.train.state import State
from train_toys import Labelled, Level, Softly, Twice, batch, tiny, toy

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torchpaths.train.run", "torch._dynamo", "sklearn.datasets", "train_toys", "pytest"])
STEPS = 3
METHODS: dict[str, Method] = {
    "a term": Level(),
    "two passes that ask for one name": Twice(),
    "heads": Together((Softly(), Labelled())),
}


class Shares:
    """This rank's slices of the same global batches."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __len__(self) -> int:
        return STEPS

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        for step in range(start, STEPS):
            x, y = (t.chunk(self.world.size)[self.world.rank] for t in batch(16, seed=step))
            yield x, y


def loop_steps(world: World, out: Path, accumulate: int, name: str) -> None:
    method = METHODS[name]
    recipe = tiny(method=method, batch=16, accumulate=accumulate, nesterov=True, weight_decay=1e-3, lr=0.3)
    state = State.fresh(toy(method), recipe)
    quiet = Hooks(lambda s: None, lambda r: None, lambda s, e: {"accuracy": 0.5}, lambda r: None, lambda s, b: None)
    Loop(recipe, world, state, Shares(world), quiet).run()
    # Weights, losses, and the momentum: running sums of the gradients (and decay) of every step.
    found = state.capture(recipe).tensors
    if world.main:
        save_file({k: v.contiguous() for k, v in found.items()}, out)


def distributed_steps(rank: int, port: int, out: Path, accumulate: int, name: str) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    with joined("cpu") as world:
        loop_steps(world, out, accumulate, name)


def distributed_helpers(rank: int, port: int, out: Path) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with joined("cpu") as world:
        norm = torch.nn.BatchNorm1d(2)
        norm.running_mean.fill_(rank + 1.0)  # type: ignore[union-attr]
        share_buffers(norm)
        mean = mean_over_ranks(torch.tensor([1.0 + rank, 5.0]))
        agreed = agree(rank == 0, world.device)
        refused = ""
        try:
            train(tiny(batch=255), out.parent / "uneven", quiet=True)
        except RunError as error:
            refused = str(error)
        shared = norm.running_mean.tolist()[0]  # type: ignore[union-attr]
        out.with_name(f"rank{rank}").write_text(f"{mean.tolist()} {agreed} {shared} {refused}")


def together(target: Any, out: Path, *more: Any) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [CONTEXT.Process(target=target, args=(rank, port, out, *more)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


@pytest.mark.parametrize(
    ("name", "accumulate"),
    [("a term", 1), ("two passes that ask for one name", 2), ("heads", 1), ("heads", 2)],
)
def test_two_processes_equal_one_process_with_the_whole_batch(tmp_path: Path, name: str, accumulate: int) -> None:
    loop_steps(World(), tmp_path / "one", 1, name)
    together(distributed_steps, tmp_path / "two", accumulate, name)
    one, two = load_file(tmp_path / "one"), load_file(tmp_path / "two")
    assert one.keys() == two.keys()
    assert any(key.startswith("optimizer.") for key in one)
    assert any(key.startswith("heads.") for key in one) == METHODS[name].headed
    for key, value in one.items():
        if key.endswith("asked"):  # each micro-batch asks once
            assert two[key] == accumulate * value
            continue
        tolerance = 1e-6 if key == "losses" else 1e-9  # losses are kept in single precision
        torch.testing.assert_close(two[key], value, rtol=tolerance, atol=tolerance, msg=key)


def test_ranks_agree_on_means_decisions_statistics_and_refusals(tmp_path: Path) -> None:
    together(distributed_helpers, tmp_path / "out")
    for rank in (0, 1):
        said = (tmp_path / f"rank{rank}").read_text()
        assert said.startswith("[1.5, 5.0] True 1.0 ")
        assert "batch 255 does not split evenly over 2 processes with accumulate=1; choose a multiple of 2" in said


def long_alone(rank: int, port: int, out: Path, how: str) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.TIMEOUT, distributed.BEAT = datetime.timedelta(seconds=3), 0.3
    said = "nothing"
    try:
        with joined("cpu") as world:
            with alone(world.main):
                if world.main and how == "works":
                    time.sleep(5)
                if world.main and how == "fails":
                    raise RunError("a bad epoch")
            if rank == 1 and how == "ends":
                os._exit(0)
            if rank == 1 and how == "says nothing":
                time.sleep(6)
            mean_over_ranks(torch.tensor(1.0))
    except RunError as error:
        said = str(error)
    out.with_name(f"rank{rank}").write_text(said)


@pytest.mark.parametrize(
    ("how", "first", "second"),
    [
        ("works", "nothing", "nothing"),
        ("fails", "a bad epoch", "rank 0 failed while the others waited"),
        ("ends", "rank 0 of 2 lost another, which ended", None),
        ("says nothing", "rank 0 of 2 lost another, which ended or says nothing", "rank 1 of 2 lost another"),
    ],
)
def test_a_long_evaluation_is_waited_for_and_a_process_that_is_gone_is_told_in_a_line(
    tmp_path: Path, how: str, first: str, second: str | None
) -> None:
    together(long_alone, tmp_path / "out", how)
    for rank, words in enumerate((first, second)):
        if words is not None:
            said = (tmp_path / f"rank{rank}").read_text()
            assert words in said
            assert "\n" not in said
