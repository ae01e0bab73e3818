"""A batch whose images each leave out channels of their own: one by one, where that is faster.

Images of a batch open different filters, so that one convolution cannot leave out what each of them closes. Together
all is computed and masked; one by one only what is open, at the price of a call for each. Which is faster depends on
network, batch and machine, so both are timed when a kind of batch is first met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from torchpaths.differences import difference
from torchpaths.errors import CallError
from torchpaths.path import Path
from torchpaths.trace import Decision, Site, Trace

Answer = tuple[Any, Trace]


class UnlikeError(CallError):
    """Images of a batch whose answers do not go together."""


def same_one_by_one(together: Callable[[], Answer], alone: Callable[[], Answer]) -> bool:
    """Whether images answer by themselves as they do in their batch: not where those of a batch touch each other, or
    where an output is not one of rows of images. Nor where one is no tensor, such as a size or a mean as a number: that
    several are the same once does not make them the batch's."""
    expected = together()
    try:
        got = alone()
    except Exception:  # the model's own: it does not take one image
        return False
    (leaves, form), (wanted, other) = tree_flatten(got[0]), tree_flatten(expected[0])
    if form != other or Path.of(got[1]) != Path.of(expected[1]):
        return False
    if any((a is None) != (b is None) for a, b in zip(leaves, wanted, strict=True)):
        return False
    rows = [b for b in wanted if b is not None]
    tensors = all(isinstance(b, Tensor) for b in rows)
    return tensors and difference([a for a in leaves if a is not None], rows) <= 1


def one_by_one(
    answer: Callable[[Tensor, Path | None], Answer], x: Tensor, path: Path | None, sites: Mapping[str, Site]
) -> Answer:
    """What a network answers to a batch, asked for each image by itself.

    Args:
        answer: ``(image [1, ...], its path) -> (y, trace)``.
        x: a batch of two at least.
        path: of the batch, or of each image; None for none.
        sites: of the network.

    Raises:
        UnlikeError: for outputs that have no row for each image, or of another form for one than for another.
    """
    paths = [path if path is None or path.batch is None else path[i] for i in range(len(x))]
    answers = [answer(image, own) for image, own in zip(torch.split(x, 1), paths, strict=True)]
    flat = [tree_flatten(y) for y, _ in answers]
    if any(form != flat[0][1] for _, form in flat):
        raise UnlikeError("the output of one image is of another form than that of another.")
    leaves = [_joined(parts) for parts in zip(*(leaves for leaves, _ in flat), strict=True)]
    traces = [one for _, one in answers]
    trace: Trace = {}
    for name, site in sites.items():
        made = [one.get(name) for one in traces]
        if any(decision is not None for decision in made):
            asked = path is None or name not in path
            chosen = _is_fixed(site) if asked else not isinstance(path[name], Tensor)  # type: ignore[index]
            trace[name] = _together(made, chosen)
    return tree_unflatten(leaves, flat[0][1]), trace


def _is_fixed(site: Site) -> bool:
    """Whether a site is decided alike for all images where no path decides."""
    return site.decider is None or site.decider.constant is not None


def _joined(parts: Sequence[Any]) -> Any:
    if all(part is None for part in parts):
        return None
    if not all(isinstance(part, Tensor) and part.shape == parts[0].shape and part.shape[:1] == (1,) for part in parts):
        raise UnlikeError("an output of one image is no row of what a batch gives.")
    return torch.cat(list(parts))


def _together(made: Sequence[Decision | None], chosen: bool) -> Decision:
    """The decisions of images as one for their batch.

    Args:
        made: of each image; None for those that did not come.
        chosen: whether it was taken for the whole batch.
    """
    there = [decision for decision in made if decision is not None]
    first = there[0]
    came = [decision is not None and (decision.ran is None or bool(decision.ran[0])) for decision in made]

    def rows(values: Sequence[Tensor | None]) -> Tensor:
        some = next(value for value in values if value is not None)
        return torch.cat([torch.zeros_like(some) if value is None else value for value in values])

    responses = {name for decision in there for name in decision.response}
    return Decision(
        rows([None if decision is None else decision.open for decision in made]),
        rows([None if decision is None else decision.z for decision in made]),
        None if first.score is None else rows([None if decision is None else decision.score for decision in made]),
        first.whole if chosen and all(came) else None,
        {n: rows([None if decision is None else decision.response.get(n) for decision in made]) for n in responses},
        None if all(came) else torch.tensor(came, device=first.open.device),
    )
