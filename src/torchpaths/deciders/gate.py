"""``Gate``: opens or closes a unit for each image by what it sees (ConvNet-AIG, sections 3.2 and 3.3; Eq. 5 to 8).

Two linear layers score "closed" and "open", Gumbel noise is added in training, the larger wins, and the gradient goes
through the softmax (straight-through). With two actions the difference of two Gumbel variables is one logistic
variable, so that is what is drawn, in float32: in half precision the noise overflows. The authors' code draws noise in
evaluation too; here evaluation is deterministic unless asked otherwise.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from torchpaths.deciders.gradients import straight_through
from torchpaths.errors import RouteError
from torchpaths.perceptron import Perceptron, kept_in, plain_weights
from torchpaths.trace import Decider, Decision

Inference: TypeAlias = Literal["argmax", "sample", "expected"]
"""What gates do in evaluation: ``argmax`` opens where open is likelier; ``sample`` draws as in training (as the
authors' code does); ``expected`` runs everything and scales by the probability of being open (the paper's ``*``)."""


class Gate(Decider):
    """ConvNet-AIG's gate for one unit.

    ``Linear(channels, hidden)``, BatchNorm, ReLU, ``Linear(hidden, 2)``. The last layer starts near zero with bias
    (0.1, 2.0), which opens a unit with probability sigmoid(1.9) = 0.87 whatever the image (the paper: "a rate of 85
    %").
    """

    def __init__(
        self,
        channels: int,
        hidden: int = 16,
        norm: bool = True,
        inference: Inference = "argmax",
        start: float | None = None,
    ) -> None:
        """
        Args:
            channels: of the pooled features.
            hidden: width ``d`` of the hidden layer.
            norm: BatchNorm after the first layer; in the authors' code, not in the paper.
            inference: what happens in evaluation.
            start: probability of being open before training; None for the paper's.
        """
        super().__init__()
        if inference not in get_args(Inference):
            raise RouteError(f"inference={inference!r}; choose one of {', '.join(get_args(Inference))}.")
        self.fc1 = nn.Linear(channels, hidden)
        self.norm = nn.BatchNorm1d(hidden) if norm else nn.Identity()
        self.fc2 = nn.Linear(hidden, 2)
        self.inference = inference
        self._difference: Tensor
        self.register_buffer("_difference", torch.tensor([[-1.0], [1.0]]), persistent=False)  # open minus closed
        nn.init.kaiming_normal_(self.fc1.weight, nonlinearity="relu")
        nn.init.zeros_(self.fc1.bias)
        nn.init.normal_(self.fc2.weight, std=0.001)
        with torch.no_grad():
            self.fc2.bias.copy_(torch.tensor([0.1, 2.0] if start is None else [0.0, math.log(start / (1 - start))]))

    def forward(self, features: Tensor) -> Decision:
        """
        Args:
            features: ``[batch, channels]``.

        Returns:
            Decision of one unit; ``score`` is the log-odds of being open without noise.
        """
        with torch.autocast(features.device.type, enabled=False):
            if self.training:
                hidden = torch.relu(self.norm(self.fc1(features.to(kept_in(self.fc1)))))
                score = (self.fc2(hidden) @ self._difference).float()
            else:
                score = self.perceptron()(features.float())
            if self.training or self.inference == "sample":
                z, opened = straight_through(score + logistic_noise(score))
                return Decision(opened, z, score)
            if self.inference == "expected":
                return Decision(torch.ones_like(score, dtype=torch.bool), torch.sigmoid(score), score)
            hard = score > self.threshold
            return Decision(hard, hard.float(), score)

    @property
    def by_score(self) -> bool:  # type: ignore[override]
        """See `Decider.by_score`."""
        return self.inference == "argmax"

    @property
    def by_perceptron(self) -> bool:  # type: ignore[override]
        """See `Decider.by_perceptron`; a subclass with a forward of its own has a rule of its own."""
        return self.by_score and type(self).forward is Gate.forward

    @property
    def draws(self) -> bool:  # type: ignore[override]
        """See `Decider.draws`."""
        return self.inference == "sample"

    def perceptron(self) -> Perceptron:
        """Its score in evaluation, normalisation folded in, in float32 whatever the weights are in."""
        first, bias = plain_weights(self.fc1)
        second, second_bias = plain_weights(self.fc2)
        if isinstance(self.norm, nn.BatchNorm1d):
            mean, var = self.norm.running_mean, self.norm.running_var
            assert mean is not None
            assert var is not None
            scale = self.norm.weight.float() * torch.rsqrt(var.float() + self.norm.eps)
            first = first * scale.unsqueeze(1)
            bias = (bias - mean.float()) * scale + self.norm.bias.float()
        difference = self._difference.float()
        return Perceptron(first, bias, difference.T @ second, second_bias @ difference)

    def __repr__(self) -> str:
        norm = "" if isinstance(self.norm, nn.BatchNorm1d) else ", no norm"
        return f"Gate({self.fc1.in_features} -> {self.fc1.out_features} -> 2{norm}, {self.inference})"


def logistic_noise(like: Tensor) -> Tensor:
    """Standard logistic noise, the difference of two standard Gumbel variables: finite, float32, of the same shape."""
    # rand gives multiples of 2^-24 from 0 on: its 0 becomes half a step, so that the noise stays finite.
    return torch.logit(torch.rand_like(like, dtype=torch.float32), eps=2.0**-25)
