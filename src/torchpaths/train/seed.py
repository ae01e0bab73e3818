"""Where randomness comes from: seeds that are pure functions of (seed, step, rank, micro-batch), and nothing else.

A run that is killed and resumed must draw the same noise as one that was never interrupted. So no generator's state is
carried along: torch's global generator is seeded anew before every forward pass. (A ``torch.Generator`` argument would
do too, but breaks ``torch.compile(fullgraph=True)``.)
"""

from __future__ import annotations

import numpy as np
import torch

_EVALUATION, _HEADS, _MIX = 2**32 - 1, 2**32 - 2, 2**32 - 3  # stand for ranks and parts that there are not


def mixed(*parts: int) -> int:
    """A well mixed 63-bit seed from non-negative numbers; the order counts."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_noise(seed: int, step: int, rank: int, micro: int) -> None:
    """Seeds torch's generators for one micro-batch of one step on one rank."""
    torch.manual_seed(mixed(seed, step, rank, micro))


def seed_evaluation(seed: int, step: int) -> None:
    """Seeds torch's generators for an evaluation after so many steps; no training step shares its noise."""
    seed_noise(seed, step, _EVALUATION, 0)


def seed_of_mix(seed: int, step: int, rank: int) -> int:
    """The seed of how one rank's images of a step are blended."""
    return mixed(seed, step, rank, _MIX)


def seed_heads(seed: int) -> None:
    """Seeds torch's generators for the initial weights of what the losses need beside the network."""
    seed_noise(seed, 0, _HEADS, 0)
