"""A linear classifier fitted to give good probabilities: ``Q(c | v)`` of the variational bound (network decoupling,
eq. 9), by penalised maximum likelihood.

It is fitted by L-BFGS on all images at once, so it is the same each time. How strongly weights are penalised is chosen
by the cross-entropy on a fifth of the training images, which are then fitted on too; one of the choices is no weights
at all, so that values that tell nothing do not make it worse than the classes' frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

PENALTIES = (1e-1, 1e-2, 1e-3, 1e-4)
"""Of the mean square of weights on standardised values, from the strongest on, which is where fitting starts."""

STEPS = 60
LEAST = 10
"""So many images must be there to choose a penalty by; of fewer, classes' frequencies are all that is taken."""


@dataclass(frozen=True, eq=False)
class Linear:
    """``softmax(weight @ v + bias)``, float64.

    Attributes:
        weight: ``[class, value]``.
        bias: ``[class]``.
    """

    weight: Tensor
    bias: Tensor

    def losses(self, values: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of each image in nats, ``[B]``, of values ``[B, value]`` and labels ``[B]``."""
        scores = functional.linear(values.double(), self.weight, self.bias)
        return functional.cross_entropy(scores, labels, reduction="none")


def fit_linear(values: Tensor, labels: Tensor, classes: int, seed: int = 0) -> Linear:
    """Fit a classifier.

    Args:
        values: ``[image, value]``, of any dtype.
        labels: long ``[image]``.
        classes: how many there are.
        seed: of the fifth that penalties are chosen by.
    """
    values = values.detach()
    mean, scale, varies = _moments(values)
    frequencies = _frequencies(labels, classes)
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    held, rest = order[: len(order) // 5], order[len(order) // 5 :]
    nothing = Linear(torch.zeros(classes, values.shape[1], dtype=torch.float64), frequencies.log())
    if len(held) < LEAST or not bool(varies.any()):
        return nothing
    x = (values[:, varies].double() - mean) / scale

    def loss(weight: Tensor, bias: Tensor, images: Tensor) -> Tensor:
        return functional.cross_entropy(functional.linear(x[images], weight, bias), labels[images])

    best, chosen = float(loss(torch.zeros(classes, x.shape[1]).double(), _log(labels[rest], classes), held)), 0
    weight = torch.zeros(classes, x.shape[1], dtype=torch.float64)
    bias = _log(labels[rest], classes)
    for number, penalty in enumerate(PENALTIES, 1):  # each starts where the one before ended
        weight, bias = _fit(x[rest], labels[rest], penalty, weight, bias)
        found = float(loss(weight, bias, held))
        if found >= best:
            if number > 1:
                break
            continue
        best, chosen = found, number
    if not chosen:
        return nothing
    weight, bias = torch.zeros(classes, x.shape[1], dtype=torch.float64), frequencies.log()
    weight, bias = _fit(x, labels, PENALTIES[chosen - 1], weight, bias)
    full = torch.zeros(classes, values.shape[1], dtype=torch.float64)
    full[:, varies] = weight / scale
    return Linear(full, bias - full[:, varies] @ mean)


def _moments(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and standard deviation of the values that vary, and which do."""
    x = values.double()
    deviation = x.std(0, correction=0)
    varies = deviation > 1e-9 * x.abs().amax(0).clamp(min=1e-30)
    return x.mean(0)[varies], deviation[varies], varies


def _frequencies(labels: Tensor, classes: int) -> Tensor:
    """Of classes, with half an image more for each, so that none is impossible."""
    counts = torch.bincount(labels, minlength=classes).double() + 0.5
    return counts / counts.sum()


def _log(labels: Tensor, classes: int) -> Tensor:
    return _frequencies(labels, classes).log()


def _fit(x: Tensor, labels: Tensor, penalty: float, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """The minimum of the penalised mean cross-entropy, from where it starts."""
    with torch.enable_grad():
        w, b = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        steps = torch.optim.LBFGS(
            [w, b], max_iter=STEPS, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            steps.zero_grad()
            value = functional.cross_entropy(functional.linear(x, w, b), labels) + penalty / 2 * w.square().sum()
            value.backward()  # type: ignore[no-untyped-call]
            return value

        steps.step(closure)  # type: ignore[no-untyped-call]
    return w.detach(), b.detach()


def entropy(counts: Tensor) -> float:
    """In nats, of classes of so many images each."""
    total = float(counts.sum())
    shares = [float(n) / total for n in counts.tolist() if n]
    return -sum(p * math.log(p) for p in shares)
