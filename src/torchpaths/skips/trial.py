"""``trial``: what is only tried leaves nothing behind; and ``apart``: whether that each image of a batch answers by
itself can be relied on for other batches too.

That four images answered one by one as they did together tells nothing of the next four: a forward may divide by the
largest pixel of the batch only where that is above a limit. So it is looked for, on the masked network, whether the
model's code reads values (``if x.max() > 1``), which decides what runs, and whether what is done to some images changes
the answers of others, whatever that is: large, small, nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from torchpaths.places.untouched import Untouched

LARGE = 1e4, 1e18
"""How many times as large as their batch images are made that others should not notice. Squares of the second are still
numbers."""

_GIVING = "tolist", "numpy", "__array__", "__dlpack__", "data_ptr"
_READING = torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape


@contextmanager
def trial(model: nn.Module, device: torch.device) -> Iterator[Untouched]:
    """What runs inside is no work of the network's: no mode sees it, and chance and all that the model holds, such as a
    counter, are put back; gives the model as it was."""
    kept = Untouched(model)
    devices = [] if device.type == "cpu" else [device]
    with _disable_current_modes(), torch.random.fork_rng(devices, device_type=device.type if devices else "cuda"):
        try:
            yield kept
        finally:
            kept.restore()


def apart(answer: Callable[[Tensor], Any], x: Tensor, kept: Untouched) -> bool:
    """Whether images answer by themselves whatever the others of their batch are, as far as it can be known.

    Args:
        answer: the output of the masked network for a batch.
        x: a batch of two at least.
        kept: the model as it was before.
    """
    chance = _chance(x.device)
    reads = _Reads()  # type: ignore[no-untyped-call]
    with reads, _Gives(reads):
        leaves = tree_leaves(answer(x))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    rows = all(t.dim() > 0 and len(t) == len(x) for t in tensors)
    if reads.some or not rows or any(leaf is not None and not isinstance(leaf, Tensor) for leaf in leaves):
        return False
    if kept.changed() or not all(map(torch.equal, _chance(x.device), chance)):
        return False
    half = torch.arange(len(x), device=x.device) < len(x) // 2
    if not all(_unmoved(answer, x, tensors, other, own) for other in _others(x) for own in (half, ~half)):
        return False
    for scale, other in _scaled(x):  # what holds of all images may not hold of brighter or darker ones
        base = x * scale
        tensors = [leaf for leaf in tree_leaves(answer(base)) if isinstance(leaf, Tensor)]
        if not all(_unmoved(answer, base, tensors, other, own) for own in (half, ~half)):
            return False
    return True


def _unmoved(answer: Callable[[Tensor], Any], x: Tensor, was: list[Tensor], other: Tensor, own: Tensor) -> bool:
    """Whether images (bool ``[batch]``) answer as they did with ``other`` in the places of the rest."""
    mixed = torch.where(own.view(-1, *(1,) * (x.dim() - 1)), x, other)
    try:
        leaves = [leaf for leaf in tree_leaves(answer(mixed)) if isinstance(leaf, Tensor)]
    except Exception:  # the model's own: it looks at values
        return False
    if [leaf.shape for leaf in leaves] != [leaf.shape for leaf in was]:
        return False
    return all(torch.equal(leaf[own], before[own]) for leaf, before in zip(leaves, was, strict=True))  # bit for bit


def _others(x: Tensor) -> Iterator[Tensor]:
    """Batches like ``x`` in nothing but size."""
    yield torch.zeros_like(x)
    if not x.is_floating_point():
        yield x.flip(0)
        return
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, generator=draw).to(x)
    most = torch.finfo(x.dtype).max ** 0.5
    for large in LARGE:
        size = min(large * max(1.0, float(x.abs().max())), most)
        yield torch.full_like(x, size)
        yield torch.full_like(x, -size)
        yield size * noise


def _scaled(x: Tensor) -> Iterator[tuple[float, Tensor]]:
    """Factors for all images, and what others may then be that is like none of them."""
    if x.is_floating_point():
        yield 1 / LARGE[0], torch.full_like(x, max(1.0, float(x.abs().max())))
        yield 100.0, torch.zeros_like(x)


def _chance(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return states if device.type != "cuda" else [*states, torch.cuda.get_rng_state(device)]


class _Reads(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes whether values are read by the program, or decide of what size something is."""

    some = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        sized = func is not torch.ops.aten.index.Tensor or any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        self.some = self.some or (sized and any(tag in func.tags for tag in _READING))
        return func(*args, **(kwargs or {}))


class _Gives(TorchFunctionMode):
    """Notes whether values are given to something that is not torch."""

    def __init__(self, reads: _Reads) -> None:
        self._reads = reads

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._reads.some = self._reads.some or getattr(func, "__name__", "") in _GIVING
        return func(*args, **(kwargs or {}))
