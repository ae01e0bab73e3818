"""A vision model of transformers where people use it: ``uses(family) -> Uses``.

Small configurations of the family's own classes (tests/transformers_toys.py), random weights, nothing fetched. The
original is what the plain model answers, ModelOutput and all.
"""

from __future__ import annotations

import copy
import pathlib
import tempfile
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from models_check import TOLERANCE, relative
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import torchpaths as tp
from transformers_toys import X, make


@dataclass
class Uses:
    """What was found for one family.

    Attributes:
        outcome: "passed" or "failed".
        reason: why not passed.
        kind: the model's class.
        asked: what else it was asked for, with every unit open, equal to the plain model's bit for bit.
        skip: largest difference between `tp.skipping` and the masked network, relative to the output's largest value.
        cut: likewise between what `tp.extract` cuts out and the path; the larger of two cuts, part of a block and all.
        saved: the cut, saved by ``save_pretrained`` and read, answers as the cut does.
        exported: for each kind of file the largest difference from the network, gates deciding, and along a path.
        seconds: spent.
    """

    outcome: str = "passed"
    reason: str = ""
    kind: str = ""
    asked: dict[str, bool] = field(default_factory=dict)
    skip: float = 0.0
    cut: float = 0.0
    saved: bool = False
    exported: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0


@torch.no_grad()
def uses(family: str) -> Uses:
    """Hold a family to what its plain model does."""
    start = time.perf_counter()
    row, broken = Uses(), []
    model = make(family)
    row.kind = type(model).__name__
    for what, check in (("asked", _asked), ("skip", _skip), ("cut", _cut), ("export", _export)):
        try:
            check(row, model, family)
        except (ValueError, RuntimeError) as error:
            broken.append(f"{what}: {str(error).splitlines()[0]}")
    broken += [f"{what} differ from the plain model's" for what, same in row.asked.items() if not same]
    broken += [f"{w} differs by {d:.1e}" for w, d in (("skip", row.skip), ("cut", row.cut)) if not d <= TOLERANCE]
    row.reason = "; ".join(broken)
    row.outcome = "failed" if broken else "passed"
    row.seconds = time.perf_counter() - start
    return row


def _asked(row: Uses, model: nn.Module, family: str) -> None:
    """Hidden states, attentions and labels, where the plain model has them."""
    model = copy.deepcopy(model)
    own: Any = model
    wishes: dict[str, dict[str, Any]] = {"hidden states": {"output_hidden_states": True}}
    if family not in ("convnext", "resnet"):
        own.set_attn_implementation("eager")
        wishes["attentions"] = {"output_attentions": True}
    if family != "clip":
        wishes["labels"] = {"labels": torch.tensor([1, 3])}
    wishes["everything"] = {name: value for wish in wishes.values() for name, value in wish.items()}
    want = {name: model(X, **wish) for name, wish in wishes.items()}
    net = tp.route(model, example={"pixel_values": X})
    full = tp.Path.full(net)
    for name, wish in wishes.items():
        for got in (net(X, full, **wish)[0], net(pixel_values=X, **wish)[0]):
            same = _tensors(got), _tensors(want[name])
            equal = len(same[0]) == len(same[1]) > 0 and all(map(torch.equal, *same))
            row.asked[name] = row.asked.get(name, True) and equal and set(got) == set(want[name])


def _skip(row: Uses, model: nn.Module, family: str) -> None:
    net = tp.route(copy.deepcopy(model), example=X)
    mixed = tp.Path({s: torch.tensor([[i % 2 == 0], [i % 3 == 0]]) for i, s in enumerate(net.sites)})
    row.skip = _off(tp.skipping(net)(X, mixed)[0], net(X, mixed)[0])


def _cut(row: Uses, model: nn.Module, family: str) -> None:
    net = tp.route(copy.deepcopy(model), example=X)
    first, *_, last = net.sites
    block = [name for name, site in net.sites.items() if site.modules == net.sites[last].modules]
    for number, closed in enumerate(([first], [first, *block])):
        path = tp.Path.full(net) & tp.Path({name: [False] for name in closed})
        small: Any = tp.extract(net, path)
        row.cut = max(row.cut, _off(small(X), net(X, path)[0]))
        with tempfile.TemporaryDirectory() as folder:
            small.save_pretrained(folder)
            row.saved = (row.saved or not number) and _off(tp.from_pretrained(folder)(X), small(X)) <= TOLERANCE


def _export(row: Uses, model: nn.Module, family: str) -> None:
    """`tp.export` compares each file with the network and keeps none that differs."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, suffix in (("torch.export", "pt2"), ("ONNX", "onnx")):
            net = tp.route(copy.deepcopy(model), tp.GatedBlocks(), example=X).eval()
            path = tp.Path.full(net) & tp.Path({next(iter(net.sites)): [False]})
            files = [pathlib.Path(folder) / f"{name}.{suffix}" for name in ("gates", "cut")]
            made = [tp.export(net, file, X, path=p) for file, p in zip(files, (None, path), strict=True)]
            row.exported[kind] = [float(one.difference) for one in made]


def _tensors(y: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(y) if isinstance(leaf, Tensor)]


def _off(got: Any, want: Any) -> float:
    """The largest difference of any tensor, relative to its largest value."""
    ours, theirs = _tensors(got), _tensors(want)
    if [y.shape for y in ours] != [y.shape for y in theirs]:
        return float("inf")
    return max(relative(a, b) for a, b in zip(ours, theirs, strict=True))
