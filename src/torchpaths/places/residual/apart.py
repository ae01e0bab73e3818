"""Which axis of a block's input is the batch, and whether images pass the block without touching each other.

One example cannot tell: a sequence may be as long as the batch is large, and batch normalisation without running
statistics looks like any other. So the model runs with another number of images, all different; the axis that follows
is the batch, and where each image alone gives what it gives among the others, it can be decided by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.costs import evaluating
from torchpaths.inputs import Given, call
from torchpaths.places.untouched import Untouched
from torchpaths.trace import Inputs

_TOLERANCE = 1e-3
"""Of the largest value: rounding differs with the size of a batch."""


class Together:
    """What a run with another number of images tells.

    Attributes:
        elsewhere: blocks whose input or output does not have the batch for its first axis.
        apart: blocks that the images of a batch pass without touching each other. Where the model takes no other number
            of images than the example's, nothing can be known: then all if that number is one, else none.
    """

    def __init__(self, model: nn.Module, example: Inputs, blocks: Sequence[str]) -> None:
        """
        Args:
            model: the model, which is put into evaluation mode for the run.
            example: a batch it takes.
            blocks: names of modules that ran once for the example, none of them inside another.
        """
        self.elsewhere: set[str] = set()
        self.apart: set[str] = set()
        self._count = 3 if len(example) == 2 else 2
        self._inputs: dict[str, tuple[Tensor, Untouched]] = {}
        if not blocks:
            return
        handles = []
        for name in blocks:
            module = model.get_submodule(name)
            handles.append(module.register_forward_pre_hook(self._catch(name), with_kwargs=True))
            handles.append(module.register_forward_hook(self._compare(name), with_kwargs=True, prepend=True))
        try:
            with torch.no_grad(), evaluating(model):
                call(model, _images(example, self._count))
        except Exception:  # the model's own: it insists on the example's number
            self.apart = set(blocks) if len(example) == 1 else set()
        finally:
            for handle in handles:
                handle.remove()

    def _catch(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else next(iter(kwargs.values()))
            self._inputs[name] = x.clone(), Untouched(module)

        return hook

    def _compare(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            x, before = self._inputs.pop(name)
            output = output[0] if isinstance(output, (tuple, list)) else output
            if len(x) != self._count or len(output) != self._count:
                self.elsewhere.add(name)
                return
            after = Untouched(module) if before.changed() else before
            given = [x, *args[1:]], kwargs if args else {**kwargs, next(iter(kwargs)): x}
            alone = []
            for i in range(2):
                before.restore()
                own = [of_one(v, i, self._count) for v in given[0]]
                named = {k: of_one(v, i, self._count) for k, v in given[1].items()}
                alone.append(_forward(module, own if args else own[1:], named))
            after.restore()
            if all(part is not None and _alike(part[0], output[i]) for i, part in enumerate(alone)):
                self.apart.add(name)

        return hook


def of_one(value: Any, i: int, count: int) -> Any:
    """What one image of a batch has of an argument."""
    batched = isinstance(value, Tensor) and value.dim() > 0 and len(value) == count
    return value[i : i + 1].clone() if batched else value


def _forward(module: nn.Module, args: list[Any], kwargs: dict[str, Any]) -> Tensor | None:
    """A block's own forward, without hooks, which have changed its arguments already; None where it fails."""
    try:
        found = module.forward(*args, **kwargs)
    except Exception:  # its own: it does not take one image
        return None
    first: Tensor = found[0] if isinstance(found, (tuple, list)) else found
    return first


def _images(example: Inputs, count: int) -> Inputs:
    """The first image of a batch, and others of another brightness and contrast that are like it in nothing."""
    if isinstance(example, Given):  # what has no pixels, such as a label, is the first image's for all
        return example.changed(
            lambda v: _images(v, count) if v.is_floating_point() and v.dim() > 1 else v[:1].repeat_interleave(count, 0)
        )
    first = example[0]
    made = [first]
    draw = torch.Generator().manual_seed(0)
    for number in range(1, count):
        other = first.flip(-1)
        if first.is_floating_point():
            scale = first.float().std(correction=0).nan_to_num().item() or 1.0
            noise = torch.randn(first.shape, generator=draw).to(first)
            other = other / (number + 1) + number * scale * (noise + 0.5)
        made.append(other)
    return torch.stack(made) if isinstance(example, Tensor) else made


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether two values are the same but for rounding."""
    if a.shape != b.shape:
        return False
    if not a.is_floating_point():
        return torch.equal(a, b)
    largest = b.double().abs().nan_to_num().max() if b.numel() else torch.zeros(())
    limit = max(_TOLERANCE, 8 * torch.finfo(b.dtype).eps) * largest
    return bool(((a.double() - b.double()).nan_to_num().abs() <= limit).all())
