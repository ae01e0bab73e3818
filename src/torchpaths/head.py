"""The head of a classifier: the layer whose outputs are the scores, and the same with only some of its rows.

A binary classifier of Coded ResNeXt is the branches of a class *and one row* of the last layer (section 4.3). Which
layer that is is seen by running the network: the one whose output is what the network returns.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, SupportsIndex

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from torchpaths.errors import PathError, RouteError
from torchpaths.outputs import answer
from torchpaths.places.channels.nodes import is_mixing
from torchpaths.places.channels.weights import smaller


def head_of(model: nn.Module, run: Callable[[], Any]) -> str:
    """The name of the layer that gives a model's scores.

    Args:
        model: a classifier.
        run: runs it and gives its output, ``[batch, class]``, or an output of transformers whose one tensor that is.

    Raises:
        RouteError: if its output is not that of one linear layer, or 1x1 convolution.
    """
    given: dict[str, Tensor] = {}

    def note(layer: nn.Module, inputs: Any, y: Tensor, name: str) -> None:
        given[name] = y

    layers = [(name, layer) for name, layer in model.named_modules() if is_mixing(layer)]
    handles = [layer.register_forward_hook(partial(note, name=name)) for name, layer in layers]
    try:
        output = run()
    finally:
        for handle in handles:
            handle.remove()
    y = answer(output)
    tensors = [value for value in tree_leaves(output) if isinstance(value, Tensor)]
    if len(tensors) > 1:
        raise RouteError(
            f"{type(model).__name__} returns {len(tensors)} tensors, and rows can be kept of scores alone; leave out "
            "classes=, or let the model return nothing else for this example."
        )
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
        PathError: for no class, one given twice, or one that there is not.
    """
    made = smaller(model.get_submodule(name), check_rows(model, name, classes))
    model.set_submodule(name, made)
    return made


def check_rows(model: nn.Module, name: str, classes: Sequence[int]) -> list[int]:
    """Numbers of classes as they are. Arguments and errors as `with_rows`."""
    weight: Any = model.get_submodule(name).weight
    return class_numbers(classes, len(weight))


def class_numbers(classes: Iterable[SupportsIndex], count: int) -> list[int]:
    """Numbers of classes as plain integers.

    Args:
        classes: Python's, NumPy's or torch's integers.
        count: how many classes there are.

    Raises:
        PathError: for none, one given twice, or what is no number of a class.
    """
    try:
        if isinstance(classes, (str, bytes)):
            raise TypeError
        given: list[SupportsIndex] = list(classes)
        numbers = [operator.index(k) for k in given if "bool" not in type(k).__name__]
    except (TypeError, ValueError):
        given, numbers = [], []
    if not numbers or len(numbers) < len(given) or len(set(numbers)) < len(numbers):
        raise PathError(f"classes={classes!r}: give a list of numbers of classes, at least one and each once.")
    wrong = next((k for k in numbers if not 0 <= k < count), None)
    if wrong is not None:
        raise PathError(f"there is no class {wrong}; classes are numbered from 0 to {count - 1}.")
    return numbers
