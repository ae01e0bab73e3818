"""Under torchrun the same command trains with DDP: gloo on a CPU, NCCL on GPUs. Without it, one process of one rank.

torchrun tells each process its place through the environment (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT);
nothing else is configured.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from torchpaths.errors import RunError


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
        RunError: if torchrun's variables are incomplete, the device is absent or the processes do not find each other.
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
        dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    except (dist.DistError, RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RunError(f"rank {rank} of {size} could not join the others at {where}: {error}") from error
    try:
        yield world
    finally:
        dist.destroy_process_group()


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
