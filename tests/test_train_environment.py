"""What a run says of the machine it runs on."""

from __future__ import annotations

import pytest
import torch

from torchpaths.train.environment import emulated


@pytest.mark.parametrize(
    ("capability", "precision", "device", "slow"),
    [
        ("AVX2", "bf16", "cpu", True),
        ("AVX2", "fp32", "cpu", False),
        ("AVX512", "bf16", "cpu", False),
        ("AVX2", "bf16", "cuda", False),
    ],
)
def test_bf16_is_emulated_where_the_processor_cannot_compute_in_it(
    monkeypatch: pytest.MonkeyPatch, capability: str, precision: str, device: str, slow: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert emulated(precision, torch.device(device)) is slow
