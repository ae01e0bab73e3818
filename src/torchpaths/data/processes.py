"""Batches prepared ahead in processes of torch's ``DataLoader``: for transforms that no thread may run, and images of
which every epoch decodes all anew, where Python's own lock would hold threads up."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from torchpaths.data import decode
from torchpaths.errors import DataError, RunError

_AHEAD = 2  # batches that each process prepares ahead


class Prepares(Protocol):
    """What prepares a batch, anywhere."""

    def prepare(self, epoch: int, draws: NDArray[np.int64]) -> tuple[Tensor, Tensor]: ...


class _Parts(Dataset[Any]):
    """A batch by what it is to hold. An error of the library is given back as a value: torch would wrap it."""

    def __init__(self, by: Prepares, epoch: int) -> None:
        self.by, self.epoch = by, epoch

    def __getitem__(self, draws: Any) -> Any:
        try:
            return self.by.prepare(self.epoch, draws)
        except (DataError, RunError) as error:
            return error


def prepared(
    by: Prepares, epoch: int, wanted: Sequence[NDArray[np.int64]], workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches ``by.prepare(epoch, draws)`` for all wanted, in order.

    Args:
        by: copied into each process.
        epoch: from 0.
        wanted: what each batch is to hold.
        workers: processes, from 1.

    Raises:
        DataError: as ``by.prepare``; and where a process ended, as one does that finds no memory.
    """
    if not wanted:
        return
    loader: DataLoader[Any] = DataLoader(
        _Parts(by, epoch),
        sampler=wanted,
        batch_size=None,
        num_workers=min(workers, len(wanted)),
        collate_fn=_as_it_is,
        prefetch_factor=_AHEAD,
        worker_init_fn=_begin,
        # torch would draw a seed for its processes from the generator that the gates' noise comes from.
        generator=torch.Generator(),
    )
    found = iter(loader)
    while True:
        try:
            batch = next(found, None)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise DataError(
                f"a process that prepares images ended ({str(error).splitlines()[0]}), as happens where memory is "
                "short, shared memory too; take fewer workers, or workers=0 to see the error itself."
            ) from error
        if batch is None:
            return
        if isinstance(batch, Exception):
            raise batch
        yield batch


def _as_it_is(batch: Any) -> Any:
    return batch


def _begin(worker: int) -> None:
    """In each process: Ctrl-C is for the main one, which ends these."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    decode.alone()
