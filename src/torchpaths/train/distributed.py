"""Under torchrun the same command trains with DDP: gloo on a CPU, NCCL on GPUs. Without it, one process of one rank.

torchrun tells each process its place through the environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT);
nothing else is configured.

A process that dies or stops must not leave the others waiting for ever, and one that works on alone for long, as rank 0
does while it evaluates, must not be taken for one that did. So collectives time out after `TIMEOUT`, and who works
alone says every `BEAT` seconds that it is still there, see `alone`.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from torchpaths.errors import RunError, clip

TIMEOUT = datetime.timedelta(minutes=10)
"""How long a process waits for another that says nothing."""
BEAT = 10.0
"""Seconds between two signs of life of a process that works alone."""

_WORKING, _DONE, _FAILED = range(3)


@dataclass(frozen=True)
class World:
    """This process's place among all.

    Attributes:
        rank: its number, from 0; rank 0 writes the run folder.
        size: how many there are.
        device: where it computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0


@contextlib.contextmanager
def joined(device: str | None = None) -> Iterator[World]:
    """The world of this process, for the length of a run; leaves the process group again if it made it.

    Args:
        device: "cpu" or "cuda"; None takes the GPU where there is one.

    Raises:
        RunError: if torchrun's variables are incomplete, the device is absent, the processes do not find each other, or
            one of them is gone.
    """
    rank, size, local = (
        _number(name, default) for name, default in (("RANK", 0), ("WORLD_SIZE", 1), ("LOCAL_RANK", 0))
    )
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if kind not in ("cpu", "cuda"):
        raise RunError(f"device {kind!r} is unknown; choose 'cpu' or 'cuda', or leave it out.")
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise RunError("device 'cuda' was asked for and torch sees no GPU; leave device out to train on the CPU.")
        if local >= torch.cuda.device_count():
            raise RunError(
                f"local rank {local} has no GPU: {torch.cuda.device_count()} in sight; lower --nproc-per-node."
            )
        torch.cuda.set_device(local)
    world = World(rank, size, torch.device(kind, local) if kind == "cuda" else torch.device(kind))
    if size == 1 or dist.is_initialized():
        yield world
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise RunError(f"WORLD_SIZE is {size} and {', '.join(missing)} not set; start the processes with torchrun.")
    try:
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=TIMEOUT)
    except (dist.DistError, RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RunError(f"rank {rank} of {size} could not join the others at {where}: {error}") from error
    try:
        yield world
    except RuntimeError as error:
        if not _of_collectives(error):
            raise
        first = clip(str(error).strip().splitlines()[0], 150)
        raise RunError(
            f"rank {rank} of {size} lost another, which ended or says nothing ({first}). See what the others wrote, "
            "and start all again to go on from the last checkpoint."
        ) from None
    finally:
        dist.destroy_process_group()


def _of_collectives(error: RuntimeError) -> bool:
    """Whether an error is of waiting for other processes: gloo raises plain ones, which only their words tell."""
    words = ("gloo", "connection closed by peer", "connection reset by peer", "timed out", "nccl")
    return isinstance(error, dist.DistError) or (
        type(error) is RuntimeError and any(word in str(error).lower() for word in words)
    )


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise RunError(f"environment variable {name} is {text!r}, not a number; unset it, or start with torchrun.")
    return int(text)


def ranks() -> int:
    """Processes that train together; 1 outside a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean_over_ranks(value: Tensor) -> Tensor:
    """The mean of ``value`` over all ranks, without gradient; ``value`` itself, detached, where there is one rank.

    Every rank must call it with the same shape, in the same order.
    """
    value = value.detach()
    count = ranks()
    if count == 1:
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total / count


def barrier() -> None:
    """Waits until every rank is here."""
    if ranks() > 1:
        dist.barrier()


@contextlib.contextmanager
def alone(main: bool) -> Iterator[None]:
    """Rank 0 does what is inside by itself, however long it takes; the others wait at the end of it.

    What is inside must call no collective.

    Args:
        main: whether this is rank 0.

    Raises:
        RunError: on the others, if rank 0 failed.
    """
    if ranks() == 1:
        yield
        return
    group = dist.new_group(backend="gloo", timeout=TIMEOUT)
    assert isinstance(group, dist.ProcessGroup)  # every rank is of it
    try:
        if main:
            with _signs_of_life(group):
                yield
        else:
            yield
            said = torch.tensor(_WORKING)
            while said == _WORKING:
                dist.broadcast(said, 0, group=group)
            if said == _FAILED:
                raise RunError("rank 0 failed while the others waited for it; see what it wrote.")
    finally:
        dist.destroy_process_group(group)


@contextlib.contextmanager
def _signs_of_life(group: dist.ProcessGroup) -> Iterator[None]:
    """Tells the others every few seconds that this process works, and how it ended."""
    ended, how = threading.Event(), _FAILED

    def tell() -> None:
        with contextlib.suppress(RuntimeError):  # the others are gone: the next collective says so
            while not ended.wait(BEAT):
                dist.broadcast(torch.tensor(_WORKING), 0, group=group)
            dist.broadcast(torch.tensor(how), 0, group=group)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
        how = _DONE
    finally:
        ended.set()
        thread.join()


def agree(value: bool, device: torch.device) -> bool:
    """Rank 0's answer, on every rank."""
    if ranks() == 1:
        return value
    flag = torch.tensor(int(value), device=device)
    dist.broadcast(flag, 0)
    return bool(flag.item())


def share_buffers(net: nn.Module) -> None:
    """Gives every rank rank 0's buffers (running statistics), so that all evaluate the network rank 0 will save."""
    if ranks() > 1:
        for buffer in net.buffers():
            dist.broadcast(buffer, 0)
