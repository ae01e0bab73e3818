"""``Loader``: batches for training and evaluation, the same whatever the number of ranks and workers.

The order of an epoch is a function of (seed, epoch), an image's augmentation one of (seed, epoch, index). Global batch
b holds the same images for any number of ranks; rank r takes its slice. An epoch can start at any batch, which is how
an interrupted run goes on with the very pixels it would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from torchpaths.data import noise
from torchpaths.data.augment import Augment
from torchpaths.data.images import GROUPS_AT_ONCE, ImageSet
from torchpaths.data.processes import prepared
from torchpaths.errors import DataError

Batch: TypeAlias = tuple[Tensor, Tensor]


def normalised(pixels: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Images uint8 ``[B, H, W, C]`` as a network takes them: float32 ``[B, C, H, W]``, normalised by channel."""
    x = torch.from_numpy(np.array(pixels)) / 255
    return ((x - torch.tensor(mean)) / torch.tensor(std)).movedim(3, 1)


class Loader:
    """Batches ``(x, y)``: float32 ``[B, C, H, W]``, normalised, and int64 ``[B]``.

    Args:
        data: the images.
        batch_size: images of a global batch, over all ranks; a multiple of ``world``.
        augment: random changes to the images; None for none.
        shuffle: a new order every epoch; otherwise the set's own.
        seed: of order and augmentation.
        rank: this process's number.
        world: how many processes share each batch.
        drop_last: leave out the last batch if it is smaller. Without, ranks share it as evenly as possible: their
            parts may differ by one image, or be empty, so training across ranks needs ``drop_last=True``.
        mean: per channel, scale 0 to 1; None takes the set's own. Give the training set's when testing.
        std: as ``mean``.
        workers: that prepare batches ahead; 0 prepares each when it is asked for. They are threads, or processes where
            the augmentation asks for it: transforms that draw from global generators, and images read anew every time.
        side: pixels to which resized crops of the images are brought; None for the size of the images.
        repeats: how often each image that an epoch sees is in it, each time augmented otherwise; an epoch has as many
            images as the set all the same (Hoffer et al., "Augment your batch", 2020). Copies of an image go to
            different ranks, as in timm and torchvision.

    Raises:
        DataError: for a batch size that ``world`` does not divide or that leaves no batch, a rank out of range, a mean
            or std that does not fit the channels.
    """

    def __init__(
        self,
        data: ImageSet,
        batch_size: int,
        *,
        augment: Augment | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        workers: int = 1,
        side: int | None = None,
        repeats: int = 1,
    ) -> None:
        if not 0 <= rank < world:
            raise DataError(f"rank {rank} of {world}: ranks go from 0 to {world - 1}.")
        if batch_size < 1 or batch_size % world:
            raise DataError(
                f"a batch of {batch_size} cannot be shared equally by {world} ranks; choose a multiple of {world}."
            )
        if drop_last and batch_size > len(data):
            raise DataError(
                f"{data.name} has {len(data)} images, less than one batch of {batch_size}; choose a smaller batch_size."
            )
        if workers < 0:
            raise DataError(f"workers={workers}: give zero or more.")
        if repeats < 1:
            raise DataError(f"repeats={repeats}: every image is in an epoch once, or more often.")
        self.data = data
        self.batch_size = batch_size
        self.augment = augment
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world = world
        self.drop_last = drop_last
        self.mean = tuple(data.mean if mean is None else mean)
        self.std = tuple(data.std if std is None else std)
        self.workers = workers
        self.side = side
        self.repeats = repeats
        self._epoch = 0
        self._levels = _levels(self.mean, self.std, data.shape[2])

    def __len__(self) -> int:
        """Batches of an epoch."""
        whole, rest = divmod(len(self.data), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    def set_epoch(self, epoch: int) -> None:
        """The epoch that plain iteration goes through."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[Batch]:
        return self.epoch(self._epoch)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch.

        Args:
            epoch: from 0.
            start: the first batch wanted, from 0; those before it cost nothing.

        Raises:
            DataError: for an epoch below 0, a start beyond the epoch's end, or an image that cannot be read.
        """
        if epoch < 0 or not 0 <= start <= len(self):
            raise DataError(f"epoch {epoch}, batch {start}: epochs count from 0 and have {len(self)} batches here.")
        return self._batches(epoch, start)

    def indices(self, epoch: int) -> list[NDArray[np.int64]]:
        """Which images each of this rank's batches holds, by number in the set."""
        return [draws // self.repeats for draws in self._draws(epoch)]

    def prepare(self, epoch: int, draws: NDArray[np.int64]) -> Batch:
        """One batch.

        Args:
            epoch: from 0.
            draws: ``[B]``, number of an image in the set times ``repeats`` plus which of its copies.
        """
        indices = draws // self.repeats
        augment = self.augment
        if augment is None:
            images = self.data.read(indices)
        else:
            of = self.data.originals(indices) if augment.whole else self.data.read(indices)
            images = augment(of, seed=self.seed, epoch=epoch, indices=draws, side=self.side, mean=self.mean)
        n, height, width, channels = images.shape
        x = np.empty((n, channels, height, width), np.float32)
        for channel in range(channels):
            # A table of the 256 normalised levels: as fast as arithmetic, and bit for bit alike in batches of any size.
            np.take(self._levels[channel], images[..., channel], out=x[:, channel], mode="clip")
        found = torch.from_numpy(x)
        if augment is not None:
            found = augment.after(found, seed=self.seed, epoch=epoch, indices=draws)
        return found, torch.from_numpy(self.data.labels[indices])

    def _draws(self, epoch: int) -> list[NDArray[np.int64]]:
        """This rank's batches, as `prepare` takes them."""
        order = self._order(epoch)
        if self.repeats > 1:
            copies = order[:, None] * self.repeats + np.arange(self.repeats)
            order = copies.reshape(-1)[: len(self.data)]
        batches = [order[b * self.batch_size : (b + 1) * self.batch_size] for b in range(len(self))]
        if self.repeats > 1:
            return [batch[self.rank :: self.world] for batch in batches]
        return [np.array_split(batch, self.world)[self.rank] for batch in batches]

    def some(self, numbers: ArrayLike) -> Batch:
        """Images by number in the set, in that order, as batches give them.

        Raises:
            DataError: for a number out of range, or an image that cannot be read.
        """
        return self.prepare(self._epoch, np.asarray(numbers, np.int64) * self.repeats)

    def _batches(self, epoch: int, start: int) -> Iterator[Batch]:
        wanted = self._draws(epoch)[start:]
        if not self.workers:
            for draws in wanted:
                yield self.prepare(epoch, draws)
            return
        if self.augment is not None and (self.augment.drawn or self.augment.whole):
            yield from prepared(self, epoch, wanted, self.workers)
            return
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="torchpaths-loader")
        ahead: deque[Future[Batch]] = deque()
        try:
            for draws in wanted:
                ahead.append(pool.submit(self.prepare, epoch, draws))
                if len(ahead) > 2 * self.workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # also when the caller leaves the loop early
            pool.shutdown(cancel_futures=True)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        count = len(self.data)
        if not self.shuffle:
            return np.arange(count)
        draws = noise.bits(self.seed, noise.ORDER, epoch, np.arange(count))
        if self.data.groups is None:
            return np.argsort(draws, kind="stable")
        # Reading single rows at random would read a whole row group for each: shuffle groups, then mix a few at a time.
        groups = noise.bits(self.seed, noise.GROUPS, epoch, np.arange(self.data.groups.max() + 1))
        place = np.argsort(np.argsort(groups, kind="stable"))[self.data.groups]
        return np.lexsort((draws, place // GROUPS_AT_ONCE))


def _levels(mean: Sequence[float], std: Sequence[float], channels: int) -> NDArray[np.float32]:
    """float32 ``[channels, 256]``: each pixel value after division by 255 and normalisation, as in torchvision."""
    if len(mean) != channels or len(std) != channels:
        raise DataError(
            f"mean {tuple(mean)} and std {tuple(std)}: the images have {channels} channel(s); give one value for each."
        )
    if min(std) <= 0:
        raise DataError(
            f"std {tuple(std)}: a channel without spread cannot be normalised; give std yourself, e.g. 1.0."
        )
    values = torch.arange(256, dtype=torch.uint8).float() / 255
    return torch.stack([(values - m) / s for m, s in zip(mean, std, strict=True)]).numpy()
