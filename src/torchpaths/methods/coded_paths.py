"""CodedPaths: Avranas and Kountouris, "Towards Disentangling Information Paths with Coded ResNeXt" (NeurIPS 2022).

Before training every class is given a codeword, one bit for each branch of a block. The coding loss (eq. 5) draws the
branches' energies towards the codeword of the image's class, so that the information of a class flows through its own
branches; deeper blocks have codewords with fewer ones. Then the branches of a class are a network by themselves, a
binary classifier, and a block's energies tell the class before the network has finished.

The authors' model is given the label, in evaluation too. Here it is not: energies are noted in the trace, the loss
compares them with the codewords.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.coding.decode import coded_sites, path_of_classes
from torchpaths.coding.schemes import codes
from torchpaths.deciders.code import Code
from torchpaths.errors import CodeError, RouteError
from torchpaths.methods.base import Losses, Mean, Method, running
from torchpaths.path import Path
from torchpaths.places.channels.branches import Branched, Search, find_branches, plan_branches
from torchpaths.places.channels.energy import ENERGIES
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.routed import Routed
from torchpaths.trace import Inputs, Trace

_TABLE_1 = {(3, 10): (1.0, 0.5, 0.3), (3, 20): (1.0, 0.4, 0.2), (4, 32): (1.0, 1.0, 0.5, 0.25)}
"""Stages and branches -> the paper's ratios."""


@dataclass(frozen=True)
class CodedPaths(Method):
    """Coded ResNeXt, on any network whose blocks have branches.

    Attributes:
        classes: of the task, K; None: as many as the network tells apart.
        ratios: share of the branches that work for each class, ``r`` of eq. 4, of each stage that has branches; 1
            leaves a stage as it is. None: the paper's (Table 1) where the network has as many stages and branches; else
            the first half of the stages as it is, and from there 1/2 down to 1/4.
        schemes: codewords of one's own in place of ``ratios``: for each stage a text of 0 and 1 for each class, or
            an array ``[class, branch]``; nothing for a stage that is left as it is. None: those of `torchpaths.codes`.
        branches: into how many each block's channels are grouped; None: as many as its convolution has groups.
        weight: mu of eq. 6, of the sum over blocks; None: the paper's (Table 2), 6 up to 100 classes and 2 above.
        exponent: of eq. 5; 4 in the paper, which tried 2 and 1 as well.
        drop: probability of dropping a branch in training (dropSubNNs).

    Raises:
        RouteError: for values out of range.
        CodeError: for codewords that are none.
    """

    classes: int | None = None
    ratios: tuple[float, ...] | None = None
    schemes: tuple[tuple[str, ...], ...] | None = None
    branches: int | None = None
    weight: float | None = None
    exponent: float = 4.0
    drop: float = 0.1

    def __post_init__(self) -> None:
        for name, value in (("classes", self.classes), ("branches", self.branches)):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 2:
                raise RouteError(f"{name}={value!r}: a whole number of at least 2.")
        for name, number, least in (("weight", self.weight or 0.0, 0), ("exponent", self.exponent, 1)):
            if not _is_number(number) or number < least:
                raise RouteError(f"{name}={number!r}: a number of at least {least}.")
        if not _is_number(self.drop) or not 0 <= self.drop < 1:
            raise RouteError(f"drop={self.drop!r}: the probability of dropping a branch is at least 0 and below 1.")
        for name, several in (("ratios", self.ratios), ("schemes", self.schemes)):
            if several is not None and (isinstance(several, str) or not isinstance(several, Sequence)):
                raise RouteError(f"{name}={several!r}: give one for each stage that has branches, in order.")
        if self.ratios is not None:
            if self.schemes is not None:
                raise RouteError("ratios and schemes both say which branches work; give one of them.")
            if any(not _is_number(r) or not 0 < r <= 1 for r in self.ratios):
                raise RouteError(f"ratios={self.ratios!r}: shares of branches, each above 0 and at most 1.")
            object.__setattr__(self, "ratios", tuple(float(r) for r in self.ratios))
        if self.schemes is not None:
            object.__setattr__(self, "schemes", tuple(_alike([written(words, self.classes) for words in self.schemes])))
        if all(r == 1 for r in self.ratios or (0,)) or not any(self.schemes or (True,)):
            raise RouteError("every stage would stay as it is; give one a ratio below 1, or a scheme.")

    def find(self, model: nn.Module, example: Inputs, residuals: ByHand | None = None) -> list[Plan]:
        """See `Method.find`.

        Raises:
            RouteError: for a model without branches or for another number of classes, and for ratios or schemes that do
                not fit its stages or branches.
            CodeError: where there are no codewords for so many classes.
        """
        search = find_branches(model, example, self.branches)
        plans: list[tuple[Branched, Code]] = []
        run: tuple[Tensor, str] | None = None  # the scheme of the block before, and where its branches are drawn
        for block, words in zip(search.blocks, self._words(search), strict=True):
            if words is None:
                run = None
                continue
            reads = run[1] if run is not None and torch.equal(run[0], words) else None
            plans.append((block, Code(words, self.drop, reads)))
            run = words, reads or block.name
        return plan_branches(model, search, plans)

    def _words(self, search: Search) -> list[Tensor | None]:
        """The codewords for each block, None for one that stays as it is.

        Raises:
            RouteError: if classes, ratios or schemes do not fit.
        """
        blocks = search.blocks
        given_words = next((len(words) for words in self.schemes or () if words), None)
        classes = self.classes or given_words or search.outputs
        if classes is None:
            raise RouteError("the model gives no scores [batch, class], so say CodedPaths(classes=...).")
        if search.outputs not in (None, classes):
            raise RouteError(
                f"the model tells {search.outputs} classes apart, and there would be codewords for {classes}; give "
                f"CodedPaths(classes={search.outputs}), or the model a head of {classes}."
            )
        stages = blocks[-1].stage + 1
        ratios = self.ratios or _ratios(stages, blocks[-1].units)
        given = len(self.schemes or ratios)
        if given != stages:
            first = ", ".join(repr(next(b.name for b in blocks if b.stage == i)) for i in range(stages))
            name = "schemes" if self.schemes else "ratios"
            raise RouteError(
                f"{given} {name} for {stages} stages with branches, which begin at {first}; give one for each."
            )
        if self.schemes:
            return [read(self.schemes[block.stage], block) for block in blocks]
        near = self.ratios is None and (stages, blocks[-1].units) not in _TABLE_1
        actives = [_active(ratios[block.stage], block, near) for block in blocks]
        return [
            None if active == block.units else torch.from_numpy(codes(classes, block.units, active))
            for block, active in zip(blocks, actives, strict=True)
        ]

    def words(self, net: Routed) -> dict[str, Tensor]:
        """The codewords of every coded site, bool ``[class, unit]``."""
        return {name: code.words for name, code in coded_sites(net).items()}

    def labelled(self, net: Routed, heads: nn.Module | None) -> int | None:
        """See `Method.labelled`: as many as there are codewords."""
        return next((len(code.words) for code in coded_sites(net).values()), None)

    def terms(self, net: Routed, trace: Trace, y: Any, mean: Mean, heads: nn.Module | None) -> Losses:
        """``code``: mu times the sum over blocks of eq. 5, means over the images; an image that did not come to a block
        adds nothing."""
        found = []
        classes = 0
        y = y.long()
        counts = y >= 0  # cross-entropy passes over labels of -100
        for name, code in coded_sites(net).items():
            classes = len(code.words)
            if name in trace:
                off = coding_loss(trace[name].response[ENERGIES], code.words[y.clamp(min=0)], self.exponent) * counts
                came = running(net, trace, name)
                found.append((off if came is None else off * came).sum() / counts.sum().clamp(min=1))
        weight = self.weight if self.weight is not None else (6.0 if classes <= 100 else 2.0)
        return {"code": weight * torch.stack(found).sum()} if found else {}

    def path(self, net: Routed, classes: Sequence[int]) -> Path:
        """The branches that work for a class, or for one of several: a binary classifier's (section 4.3).

        Args:
            net: a network routed with this method.
            classes: their numbers.

        Raises:
            PathError: for none, or one that there is not.
        """
        return self.path_of(net, classes)

    def path_of(self, net: Routed, classes: Sequence[int]) -> Path:
        """See `path`."""
        return path_of_classes(self.words(net), net, classes)


def coding_loss(energies: Tensor, words: Tensor, exponent: float = 4.0) -> Tensor:
    """Eq. 5 for each image, ``mean over n of |r e_n - w_n|^exponent``.

    Args:
        energies: normalised, ``[B, N]``, see eq. 3.
        words: of the images' classes, ``[B, N]``, with as many ones in each.
        exponent: 4 in the paper.

    Returns:
        ``[B]``.
    """
    wanted = words.to(energies.dtype)
    return (wanted.mean(1, keepdim=True) * energies - wanted).abs().pow(exponent).mean(1)


def _alike(schemes: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Schemes, if all have words for as many classes.

    Raises:
        CodeError: if they have not.
    """
    counts = sorted({len(words) for words in schemes if words})
    if len(counts) > 1:
        raise CodeError(f"schemes of {counts[0]} and of {counts[-1]} codewords; give one for each class in all.")
    return schemes


def written(words: Any, classes: int | None) -> tuple[str, ...]:
    """Codewords as texts of 0 and 1; nothing for nothing.

    Args:
        words: texts, or an array ``[class, unit]`` of bools or of 0 and 1.
        classes: how many there are to be; None: as many as are given.

    Raises:
        CodeError: if they are not, or differ in length or in their number of ones.
    """
    rows = words.tolist() if hasattr(words, "tolist") else words
    try:
        texts = tuple(row if isinstance(row, str) else "".join(str(int(bit)) for bit in row) for row in rows)
    except (TypeError, ValueError) as error:
        raise CodeError(
            f"{words!r}: a scheme is a text of 0 and 1 for each class, or an array [class, branch]."
        ) from error
    if not texts:
        return ()
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        i, j = [number for number, text in enumerate(texts) if text == twice][:2]
        raise CodeError(f"classes {i} and {j} have one codeword, {twice[:40]!r}; give each class its own.")
    if classes not in (None, len(texts)):
        raise CodeError(f"a scheme of {len(texts)} codewords for {classes} classes; give one for each.")
    for text in texts:
        if set(text) - {"0", "1"} or len(text) != len(texts[0]):
            raise CodeError(f"codeword {text[:40]!r}: a 0 or 1 for each branch, as many in each codeword.")
        if text.count("1") != texts[0].count("1") or not 0 < text.count("1") < len(text):
            raise CodeError(
                f"codeword {text[:40]!r} has {text.count('1')} ones of {len(text)}, the first {texts[0].count('1')}; "
                "as many in each codeword, some and not all (rule A; Coded ResNeXt, section 3.2.1)."
            )
    return texts


def read(texts: tuple[str, ...], block: Branched) -> Tensor | None:
    """The inverse of `written`, for a block; None for no words.

    Raises:
        CodeError: for another number of branches.
    """
    if texts and len(texts[0]) != block.units:
        raise CodeError(
            f"codewords of {len(texts[0])} branches for {block.name!r}, which has {block.units}; give "
            f"codes(classes={len(texts)}, units={block.units}, active=...), or CodedPaths(branches={len(texts[0])})."
        )
    return torch.tensor([[bit == "1" for bit in text] for text in texts]) if texts else None


def _ratios(stages: int, units: int) -> tuple[float, ...]:
    """The paper's, or such as follow its rule: none in the first stages, and fewer the deeper a block lies."""
    if (stages, units) in _TABLE_1:
        return _TABLE_1[stages, units]
    count = math.ceil(stages / 2)
    return (*(1.0,) * (stages - count), *(0.5 - 0.25 * i / max(count - 1, 1) for i in range(count)))


def _active(ratio: float, block: Branched, near: bool) -> int:
    """How many branches of a block work for a class.

    Args:
        ratio: of eq. 4.
        block: see above.
        near: the nearest number does; otherwise it is to be a whole one.
    """
    share = ratio * block.units
    nearest = max(1, round(share))
    if not near and abs(share - nearest) > 1e-6:
        raise RouteError(
            f"ratio {ratio:g} of the {block.units} branches of {block.name!r} is {share:g}; {nearest} branches are "
            f"nearest, a ratio of {nearest / block.units:.6g}."
        )
    return nearest


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
