"""``Layout``: how a paper's authors name the tensors of their networks, as rules that give them our names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

Rules: TypeAlias = Sequence[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Pattern -> what takes the place of what it matches, one after the other, each on what the one before left."""

DECIDERS = "deciders."
"""Before the names of what a routed network has beside its model."""

WORDS = ".words"
"""Behind the names of codewords, which are no weights: a network has its own, and they must be the same."""


def _as_it_is(name: str, value: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
    return value


@dataclass(frozen=True)
class Layout:
    """The names and shapes of one kind of network in a repository of authors.

    Attributes:
        whose: "ConvNet-AIG".
        repository: on GitHub, where the names were read.
        mark: a name that only this layout has; it has at least one.
        rules: the rules for a file of this layout.
        network: which of this library's networks takes such weights, in words.
        parts: of the method, in words, from the tensors: "54 gates".
        value: a tensor in this library's shape; from its name there, itself, and all tensors of the file.
    """

    whose: str
    repository: str
    mark: str
    rules: Callable[[Mapping[str, Tensor]], Rules]
    network: str
    parts: Callable[[Mapping[str, Tensor]], str]
    value: Callable[[str, Tensor, Mapping[str, Tensor]], Tensor] = _as_it_is


@dataclass(frozen=True)
class Translated:
    """Tensors of authors under this library's names.

    Attributes:
        layout: whose they are.
        tensors: by name: of the plain network, ``X.skipped.weight`` for second norms, ``deciders.SITE...`` for gates.
            What no rule knows has its own name still.
        theirs: this library's name -> theirs.
        words: codewords of coded blocks, bool ``[class, branch]``, by the name of the buffer that holds the network's.
        twice: their names for what another of their names stands for already.
        remark: whose and what, a line.
    """

    layout: Layout
    tensors: dict[str, Tensor]
    theirs: dict[str, str]
    words: dict[str, Tensor]
    twice: tuple[str, ...]
    remark: str

    @property
    def plain(self) -> dict[str, Tensor]:
        """What belongs to the network without its method."""
        method = re.compile(rf".*\.skipped\.\w+|{re.escape(DECIDERS)}.*")
        return {name: value for name, value in self.tensors.items() if not method.fullmatch(name)}


def translate(layout: Layout, tensors: Mapping[str, Tensor]) -> Translated:
    """The tensors of a file that has a layout; what is left out is named."""
    rules = layout.rules(tensors)
    theirs: dict[str, str] = {}
    twice = []
    for name in tensors:
        new = name
        for pattern, put in rules:
            new = re.sub(pattern, put, new)
        if theirs.setdefault(new, name) != name:
            twice.append(name)
    words = {new: tensors[name].bool() for new, name in theirs.items() if new.endswith(WORDS)}
    return Translated(
        layout,
        {new: layout.value(name, tensors[name], tensors) for new, name in theirs.items() if new not in words},
        theirs,
        # Where all branches work for all classes nothing is coded.
        {name: value for name, value in words.items() if not value.all()},
        tuple(twice),
        f"weights of {layout.whose}'s authors ({layout.repository}), {layout.parts(tensors)}",
    )


def modules(tensors: Mapping[str, Tensor], pattern: str) -> int:
    """How many modules there are whose names match."""
    return len({name.rpartition(".")[0] for name in tensors if re.fullmatch(pattern, name.rpartition(".")[0])})
