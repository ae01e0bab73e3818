"""Networks filled from files: all tensors fit, or none is taken.

A last layer of other classes may be left out, where that is asked for. Files of the papers' authors, whose names are
others, fill a network routed with that paper's method; see `torchpaths.models.authors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from torchpaths.errors import RunError
from torchpaths.models.authors import translated
from torchpaths.models.authors.layout import DECIDERS, WORDS, Translated
from torchpaths.models.checkpoints import Weights, open_weights, unwrapped
from torchpaths.models.positions import resized
from torchpaths.routed import Routed


@dataclass(frozen=True)
class Head:
    """A last layer that starts anew.

    Attributes:
        name: of the layer, or of several with commas between.
        was: classes of the weights; None where they have no such layer.
        now: classes of the network.
    """

    name: str
    was: int | None
    now: int


@dataclass(frozen=True)
class Loaded:
    """What came of filling a network; as text a line for a reader.

    Attributes:
        tensors: how many were taken.
        where: from where.
        head: the last layer, where it stayed as it was.
        remarks: what a reader should know: whose weights they are, and what else the file holds.
    """

    tensors: int
    where: str
    head: Head | None = None
    remarks: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join((f"{self.where}: {self.tensors} tensors", *self.remarks))


def load_weights(model: nn.Module, path: Path | str, new_head: bool = False, entry: str | None = None) -> Loaded:
    """Fill ``model`` from a file, strictly: every tensor has its place and every place its tensor.

    Batch normalisation's ``num_batches_tracked`` may be absent: older files have none, and with a fixed momentum it has
    no effect.

    Args:
        model: changed only if everything fits. A file of a paper's authors is for a network routed with its method.
        path: the file, see above.
        new_head: a last layer of another number of classes, or that the file lacks, stays as it is in ``model``.
        entry: see `torchpaths.models.read_weights`.

    Returns:
        What was taken: whose weights, the last layer where it stayed as it was. As text a line.

    Raises:
        RunError: for a file that is missing, truncated or changed, that only running code in it would read, or that
            belongs to another network.
    """
    return fill(model, open_weights(path, entry), new_head)


def fill(model: nn.Module, weights: Weights, new_head: bool = False) -> Loaded:
    """Fill ``model`` from tensors by name. The rest as `load_weights`."""
    wanted = model.state_dict()
    found = unwrapped(dict(weights.tensors), wanted)
    theirs = translated(found, wanted)
    if theirs is not None:
        found = placed(theirs.tensors, model)
    found = resized(model, found)
    head = _head(model, found) if new_head else None
    if head is not None:
        own = tuple(f"{name}." for name in head.name.split(", "))
        found = {name: value for name, value in found.items() if not name.startswith(own)}
        wanted = {name: value for name, value in wanted.items() if not name.startswith(own)}
    problems = [
        *_some("absent from the file", [k for k in wanted if k not in found and not k.endswith("num_batches_tracked")]),
        *_some("unknown to the model", [_called(k, theirs) for k in found if k not in wanted]),
        *_some(
            "of another shape",
            [
                f"{_called(k, theirs)} {_shape(found[k])} for {_shape(v)}"
                for k, v in wanted.items()
                if k in found and found[k].shape != v.shape
            ],
        ),
        *([] if theirs is None else [*_some("given twice", list(theirs.twice)), *_other_words(model, theirs)]),
    ]
    if problems:
        raise RunError(_refusal(model, weights, theirs, problems) + f"{_only_head(model, found, new_head)}.")
    with torch.no_grad():
        for name, value in found.items():
            wanted[name].copy_(value)
    return Loaded(len(found), weights.where, head, _remarks(weights, theirs))


def of_authors(weights: Weights, model: nn.Module) -> Translated | None:
    """Weights under our names, where a paper's authors named them and the network has other names."""
    wanted = model.state_dict()
    return translated(unwrapped(dict(weights.tensors), wanted), wanted)


def placed(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Tensors by a plain network's names, by those that they have in ``model``, which may be routed."""
    before = "model." if isinstance(model, Routed) else ""
    return {name if name.startswith(DECIDERS) else before + name: value for name, value in tensors.items()}


def _called(name: str, theirs: Translated | None) -> str:
    """What a file calls a tensor of ours."""
    return name if theirs is None else theirs.theirs[name if name in theirs.theirs else name.removeprefix("model.")]


def _other_words(model: nn.Module, theirs: Translated) -> list[str]:
    """Where a network's codewords are others than those of a file."""
    own = {n: b for n, b in model.named_buffers() if n.startswith(DECIDERS) and n.endswith(WORDS)}
    names = [*own, *(name for name in theirs.words if name not in own)]
    other = [
        n for n in names if n not in own or n not in theirs.words or not torch.equal(own[n].cpu(), theirs.words[n])
    ]
    return _some(
        "have other codewords",
        [n.removeprefix(DECIDERS).removesuffix(WORDS).replace("/", ".") for n in other],
        of="blocks",
    )


def _refusal(model: nn.Module, weights: Weights, theirs: Translated | None, problems: list[str]) -> str:
    """What is said where weights do not fit."""
    told = "; ".join(problems)
    if theirs is None:
        return (
            f"{weights.where} holds the weights of another network than this {_kind(model)}: {told}. "
            "Create the network they were made for (depth, shortcut, classes)"
        )
    routed = "routed" if isinstance(model, Routed) else "plain"
    return (
        f"{weights.where} holds {theirs.remark}; they do not fit this {routed} {_kind(model)}: {told}. Nothing was "
        f"loaded. They are for {theirs.layout.network}, and of as many classes"
    )


def _kind(model: nn.Module) -> str:
    return type(model.model if isinstance(model, Routed) else model).__name__


def _remarks(weights: Weights, theirs: Translated | None) -> tuple[str, ...]:
    remarks = [] if theirs is None else [theirs.remark]
    if weights.beside:
        others = ", ".join(map(repr, weights.beside))
        remarks.append(
            f"other weights in the file ({others}) were left; to take those write them by themselves, "
            f"safetensors.torch.save_file(torchpaths.models.read_weights(FILE, entry={weights.beside[0]!r}), "
            "'weights.safetensors')"
        )
    return tuple(remarks)


def _only_head(model: nn.Module, found: Mapping[str, Tensor], new_head: bool) -> str:
    """A remedy more, where nothing but the last layer differs."""
    return "" if new_head or _head(model, found) is None else ", or fine-tune them for these classes (finetune=True)"


def _head(model: nn.Module, found: Mapping[str, Tensor]) -> Head | None:
    """The last layers, if they alone differ from what a file has, and in their classes alone; else None."""
    wanted = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    differ = [k for k, v in wanted.items() if k not in found or found[k].shape != v.shape]
    layers = {name: m for name, m in model.named_modules() if isinstance(m, (nn.Linear, nn.Conv2d))}
    names = list(dict.fromkeys(k.rpartition(".")[0] for k in differ))
    if not names or not set(names) <= layers.keys():
        return None
    absent = [k for k in differ if k not in found]
    other = [k for k in differ if k in found]
    if absent and (other or names != [list(layers)[-1]]):
        return None
    if any(found[k].dim() != wanted[k].dim() or found[k].shape[1:] != wanted[k].shape[1:] for k in other):
        return None
    if len({len(wanted[k]) for k in differ}) != 1 or len({len(found[k]) for k in other}) > 1:
        return None
    return Head(", ".join(names), len(found[other[0]]) if other else None, len(wanted[differ[0]]))


def _some(what: str, names: list[str], most: int = 3, of: str = "tensors") -> list[str]:
    if not names:
        return []
    more = ", ..." if len(names) > most else ""
    return [f"{len(names)} {of} {what} ({', '.join(names[:most])}{more})"]


def _shape(tensor: torch.Tensor) -> str:
    return f"[{', '.join(map(str, tensor.shape))}]"
