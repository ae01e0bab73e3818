"""The head of a classifier: the layer whose outputs are the scores, and the same with only some of its rows.

A binary classifier of Coded ResNeXt is the branches of a class *and one row* of the last layer (section 4.3). Which
layer that is is seen by running the network: the one whose output is what the network returns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from torchpaths.errors import RouteError
from torchpaths.places.channels.layer import smaller
from torchpaths.places.channels.spans import is_mixing


def head_of(model: nn.Module, run: Callable[[], Any]) -> str:
    """The name of the layer that gives a model's scores.

    Args:
        model: a classifier.
        run: runs it and gives its output, ``[batch, class]``.

    Raises:
        RouteError: if its output is not that of one linear layer, or 1x1 convolution.
    """
    given: dict[str, Tensor] = {}

    def note(layer: nn.Module, inputs: Any, y: Tensor, name: str) -> None:
        given[name] = y

    layers = [(name, layer) for name, layer in model.named_modules() if is_mixing(layer)]
    handles = [layer.register_forward_hook(partial(note, name=name)) for name, layer in layers]
    try:
        y = run()
    finally:
        for handle in handles:
            handle.remove()
    if isinstance(y, Tensor) and y.dim() == 2:
        # A convolution's output is returned as a view without the pixel.
        same = [n for n, own in given.items() if own.data_ptr() == y.data_ptr() and own.numel() == y.numel()]
        if len(same) == 1:
            return same[0]
    raise RouteError(
        f"the scores of {type(model).__name__} are not the output of one linear layer, so no rows of it can be kept; "
        "leave out classes=, all scores are kept then."
    )


def with_rows(model: nn.Module, name: str, classes: Sequence[int]) -> nn.Module:
    """Replace the head by one of some classes, in their order, and give it.

    Args:
        model: is changed.
        name: of the head.
        classes: rows to keep.

    Raises:
        RouteError: for no class, one given twice, or one that there is not.
    """
    made = smaller(model.get_submodule(name), check_rows(model, name, classes), 0)
    model.set_submodule(name, made)
    return made


def check_rows(model: nn.Module, name: str, classes: Sequence[int]) -> list[int]:
    """Numbers of classes as they are. Arguments and errors as `with_rows`."""
    weight: Any = model.get_submodule(name).weight
    count, wanted = len(weight), list(classes)
    wrong = [k for k in wanted if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k < count]
    if wrong or not wanted or len(set(wanted)) < len(wanted):
        raise RouteError(
            f"classes={wanted!r}: give numbers of classes, each once; the head {name!r} has rows 0 to {count - 1}."
        )
    return wanted
