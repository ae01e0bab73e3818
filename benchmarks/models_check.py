"""One architecture against the laws a routed network keeps: ``check(make, x) -> Row``.

Random weights, no downloads. Layers that start as the special case they were built for (a residual branch scaled by 0
or 1e-6, a head of zeros) are moved off it first: a branch that adds nothing would agree with anything.
"""

from __future__ import annotations

import copy
import pickle
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

import torchpaths as tp
from torchpaths.errors import RouteError
from torchpaths.outputs import answer
from torchpaths.places.residual.find import ByHand, find_residuals

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from untouched_laws import attributes

TOLERANCE = 1e-4
"""Largest difference between leaving work out and multiplying it by 0, relative to the output's largest value."""

VISIBLE = 1e-3
"""A closed path has to move the output by this much, relative; below it the check could not fail."""

MEMORY = 16 * 2**30
"""Bytes of data that an architecture's process may hold; where the gates' backward pass needs more, it is left out."""

NO_SUM = "it holds no sum of two operands that both come from its input"
DROPS = ("DropPath", "StochasticDepth", "Dropout", "Dropout2d")


@dataclass
class Row:
    """What was found for one architecture.

    Attributes:
        outcome: "passed", "failed" (routed, and a law does not hold) or "not routed".
        reason: why not passed.
        sums: residual sums found.
        macs: of the plain network, one image.
        closable: share of them that can be closed.
        open_equals: with every unit open the output is the original's bit for bit, and state_dict keys are unchanged.
        left_out: largest difference between left-out and masked work, relative to the output's largest value.
        moved: how far the closed path moved the output, relative.
        cost_equals: MACs that ran along a path are those its units add up to.
        gates: gates that a gradient reaches, out of all; None where that takes more than `MEMORY`.
        untouched: after a refusal in the last moment the model is bitwise and attribute for attribute as it was.
        copies: deepcopy and pickle give the same output.
        places: where the sums are: module names with numbers as ``N`` -> how many.
        refused: reason -> modules that look residual and did not come apart, numbers as ``N``.
        seconds: spent.
    """

    outcome: str = "passed"
    reason: str = ""
    sums: int = 0
    macs: int = 0
    closable: float = 0.0
    open_equals: bool = False
    left_out: float = 0.0
    moved: float = 0.0
    cost_equals: bool = False
    gates: tuple[int, int] | None = None
    copies: bool = False
    untouched: bool = False
    places: dict[str, int] = field(default_factory=dict)
    refused: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0


def check(make: Callable[[], nn.Module], x: Tensor, by_hand: ByHand | None = None, seed: int = 0) -> Row:
    """Route an architecture and hold it to the laws.

    Args:
        make: builds it; called twice.
        x: two images, ``[2, ...]``.
        by_hand: blocks taken apart by hand.
        seed: of the weights and paths.
    """
    start = time.perf_counter()
    row = Row()
    model = weights(make, seed)
    row.untouched = _untouched(model, x, by_hand)
    search = find_residuals(model, x, by_hand)
    row.places = dict(Counter(_numberless(p.module) for p in search.places for _ in p.parts.residuals))
    for name, reason in search.refused.items():
        if reason != NO_SUM and not _is_one_layer(model.get_submodule(name)):
            listed = row.refused.setdefault(_numberless(reason), [])
            if _numberless(name) not in listed:
                listed.append(_numberless(name))
    if not search.places:
        row.outcome = "not routed"
        row.reason = "; ".join(row.refused) or "nothing to route: no residual sum"
        if not row.untouched:
            row.outcome, row.reason = "failed", f"a refusal changes it ({row.reason})"
    else:
        _laws(row, make, model, x, by_hand, seed)
    row.seconds = time.perf_counter() - start
    return row


def _laws(
    row: Row, make: Callable[[], nn.Module], model: nn.Module, x: Tensor, by_hand: ByHand | None, seed: int
) -> None:
    keys = list(model.state_dict())
    with torch.no_grad():
        original = answer(model(x)).clone()
    net = tp.route(model, example=x, residuals=by_hand)
    paths = [random_path(net, seed + i) for i in range(2)]
    each = tp.Path({s: torch.tensor([list(p[s]) for p in paths]) for s in net.sites})
    with torch.no_grad():
        opened = tuple(map(answer, (net(x)[0], net(x, tp.Path.full(net))[0], net.model(x))))
        left_out = torch.stack([answer(net(x, p)[0])[i] for i, p in enumerate(paths)])
        masked = answer(net(x, each)[0])
    row.sums = len(net.layout.units)
    row.macs = net.layout.plain.macs
    row.closable = 1 - net.layout.fixed.macs / row.macs
    row.open_equals = all(torch.equal(y, original) for y in opened) and list(net.model.state_dict()) == keys
    row.left_out = relative(left_out, masked)
    row.moved = relative(left_out, original)
    row.cost_equals = tp.cost(net, x[:1], paths[0]).macs == paths[0].cost(net).macs
    row.copies = _copies_agree(net, x, each, masked)
    try:
        row.gates = _gates_reached(weights(make, seed), x, by_hand, seed)
    except (MemoryError, RuntimeError) as error:
        if "memory" not in str(error):
            raise
    broken = [
        (not row.open_equals, "with every unit open it is not the original"),
        (not row.left_out <= TOLERANCE, f"left out and masked differ by {row.left_out:.1e}"),
        (not row.moved >= VISIBLE, f"the closed path moves the output by {row.moved:.1e} only, so nothing was checked"),
        (not row.cost_equals, "MACs that ran are not those the units add up to"),
        (row.gates is not None and row.gates[0] < row.gates[1], f"a gradient reaches {row.gates} gates"),
        (not row.untouched, "a refusal changes the model"),
        (not row.copies, "a copy by deepcopy or pickle fails or answers differently"),
    ]
    row.reason = "; ".join(reason for broke, reason in broken if broke)
    row.outcome = "failed" if row.reason else "passed"


def _untouched(model: nn.Module, x: Tensor, by_hand: ByHand | None) -> bool:
    """Whether a model is as it was after it was refused: for a gate that it does not have, once all else was found."""
    before = attributes(model)
    try:
        tp.route(model, tp.GatedBlocks(sites=("no such site",)), example=x, residuals=by_hand)
    except RouteError:
        return bool(attributes(model) == before)
    return False


def random_path(net: tp.Routed, seed: int) -> tp.Path:
    """Every unit open or closed by chance, for the whole batch, and at least one closed."""
    draw = torch.Generator().manual_seed(seed)
    choices = {s: (torch.rand(len(site.units), generator=draw) < 0.5) for s, site in net.sites.items()}
    if all(bool(c.all()) for c in choices.values()):
        choices = {s: ~c for s, c in choices.items()}
    return tp.Path(choices, net.layout.fingerprint)


def relative(a: Tensor, b: Tensor) -> float:
    """Largest difference over the largest value; infinite if anything is not finite."""
    if not bool(torch.isfinite(a).all() and torch.isfinite(b).all()):
        return float("inf")
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))


def _copies_agree(net: tp.Routed, x: Tensor, path: tp.Path, expected: Tensor) -> bool:
    try:
        copies = (copy.deepcopy(net), pickle.loads(pickle.dumps(net)))
    except (RuntimeError, TypeError, AttributeError, pickle.PicklingError):
        return False
    with torch.no_grad():
        return all(torch.equal(answer(c(x, path)[0]), expected) for c in copies)


def _gates_reached(model: nn.Module, x: Tensor, by_hand: ByHand | None, seed: int) -> tuple[int, int]:
    """How many gates get a gradient in one training step, out of all."""
    net = tp.route(model, tp.GatedBlocks(), example=x, residuals=by_hand)
    net.train()
    for module in net.modules():
        if type(module).__name__ in DROPS:
            module.eval()  # a branch dropped by chance would hide its gate
    torch.manual_seed(seed)
    y = answer(net(x)[0])
    logits = y if isinstance(y, Tensor) else next(iter(y))
    (logits * torch.randn_like(logits)).sum().backward()
    deciders = [site.decider for site in net.sites.values() if site.decider is not None]
    reached = sum(any(p.grad is not None and bool(p.grad.any()) for p in d.parameters()) for d in deciders)
    return reached, len(deciders)


def weights(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network in eval mode, no layer left at an initial value that makes its branch nothing."""
    torch.manual_seed(seed)
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() == max(parameter.shape, default=1):  # gains, biases, layer scales
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif not bool(parameter.any()):
                parameter.normal_(0, parameter[0].numel() ** -0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model


def _is_one_layer(module: nn.Module) -> bool:
    """A norm with its activation, say: no child holds parameters, so there is no branch."""
    return not any(True for child in module.children() for _ in child.parameters())


def _numberless(name: str) -> str:
    return re.sub(r"\d+", "N", name)
