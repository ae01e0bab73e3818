"""Gates: how often they open, in what precision, and what they do in evaluation."""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from torch import Tensor, nn

import torchpaths as tp
from block_toys import chain
from torchpaths.deciders.chance import Chance
from torchpaths.deciders.gate import Gate, Inference, logistic_noise
from torchpaths.deciders.switch import Switch
from torchpaths.errors import CallError, RouteError
from torchpaths.trace import Decider

DRAWS = 20_000


def scoring(score: float, inference: Inference = "argmax", norm: bool = False) -> Gate:
    """A gate whose log-odds are ``score`` for every image."""
    gate = Gate(6, hidden=4, norm=norm, inference=inference)
    with torch.no_grad():
        gate.fc2.weight.zero_()
        gate.fc2.bias.copy_(torch.tensor([1.0, 1.0 + score]))
    return gate


def looking(inference: Inference = "argmax", norm: bool = True) -> Gate:
    """A gate whose log-odds differ between images."""
    torch.manual_seed(0)
    gate = Gate(6, inference=inference, norm=norm)
    with torch.no_grad():
        gate.fc2.weight.normal_()
        gate.fc2.bias.zero_()
    return gate


def features(batch: int, seed: int = 0) -> Tensor:
    return torch.randn(batch, 6, generator=torch.Generator().manual_seed(seed))


def within_4_sigma(opened: Tensor, rate: float) -> bool:
    sigma = math.sqrt(rate * (1 - rate) / opened.numel())
    return abs(opened.float().mean().item() - rate) < 4 * sigma


def test_a_new_gates_log_odds_are_1_9_whatever_the_image() -> None:
    torch.manual_seed(0)
    gate = Gate(6).eval()
    assert (gate(10 * features(50)).score - 1.9).abs().max().item() < 0.1
    gate.fc2.weight.data.zero_()
    score = gate(features(50)).score
    torch.testing.assert_close(torch.sigmoid(score), torch.full((50, 1), 0.8699), rtol=0, atol=5e-5)


@pytest.mark.parametrize("norm", [True, False])
def test_a_new_gate_opens_at_its_initial_rate(norm: bool) -> None:
    torch.manual_seed(0)
    opened = Gate(6, norm=norm).train()(features(DRAWS)).open
    assert within_4_sigma(opened, 1 / (1 + math.exp(-1.9)))


@pytest.mark.parametrize("score", [-3.0, -1.0, 0.0, 0.4, 1.9, 4.0])
def test_a_sampled_gate_opens_at_the_rate_of_its_log_odds(score: float) -> None:
    torch.manual_seed(1)
    gate = scoring(score).train()
    assert within_4_sigma(gate(features(DRAWS)).open, 1 / (1 + math.exp(-score)))


def test_logistic_noise_is_the_difference_of_two_gumbel_variables() -> None:
    torch.manual_seed(0)
    noise = logistic_noise(torch.empty(DRAWS))
    assert scipy.stats.kstest(noise.numpy(), "logistic").pvalue > 1e-3
    closed, opened = (-torch.log(-torch.log(torch.rand(DRAWS).clamp_min(1e-12))) for _ in range(2))
    assert scipy.stats.ks_2samp((opened - closed).numpy(), noise.numpy()).pvalue > 1e-3


def test_logistic_noise_is_finite_at_the_ends_of_the_random_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = torch.tensor([0.0, 2.0**-24, 0.5, 1 - 2.0**-24])  # what torch.rand can give
    monkeypatch.setattr(torch, "rand_like", lambda like, dtype: ends.to(dtype))
    noise = logistic_noise(torch.empty(4, dtype=torch.float16))
    assert noise.isfinite().all()
    assert noise.dtype == torch.float32
    assert noise[0] < noise[1] < noise[2] == 0 < noise[3]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_gates_compute_in_single_precision_whatever_is_around_them(
    dtype: torch.dtype, autocast: bool, training: bool
) -> None:
    gate = looking().train(training)
    given = features(8).to(dtype)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        decision = gate(given)
    torch.manual_seed(0)
    expected = gate(given.float())
    assert decision.score.dtype == decision.z.dtype == torch.float32
    if not training:
        assert torch.equal(decision.score, expected.score)
    assert torch.equal(decision.open, expected.open)


def test_in_evaluation_a_gate_is_deterministic_and_opens_where_open_is_likelier() -> None:
    gate = looking().eval()
    first, second = gate(features(200)), gate(features(200))
    assert torch.equal(first.open, second.open)
    assert torch.equal(first.open, first.score > 0)
    assert 20 < int(first.open.sum()) < 180
    assert torch.equal(first.z, first.open.float())


def test_a_sampling_gate_draws_in_evaluation_too() -> None:
    gate = scoring(0.4, "sample").eval()
    torch.manual_seed(0)
    first, second = gate(features(DRAWS)), gate(features(DRAWS))
    assert within_4_sigma(first.open, 1 / (1 + math.exp(-0.4)))
    assert not torch.equal(first.open, second.open)
    torch.manual_seed(0)
    assert torch.equal(gate(features(DRAWS)).open, first.open)


def test_an_expected_gate_runs_everything_and_scales_by_the_probability() -> None:
    gate = looking("expected").eval()
    decision = gate(features(50))
    assert decision.open.all()
    torch.testing.assert_close(decision.z, torch.sigmoid(decision.score))
    assert 0 < decision.z.min() < 0.5 < decision.z.max() < 1
    gate.train()
    assert not gate(features(50)).open.all(), "in training it samples"


@pytest.mark.parametrize("inference", ["argmax", "sample"])
@pytest.mark.parametrize("training", [False, True])
def test_z_is_exactly_0_or_1_and_agrees_with_open(inference: Inference, training: bool) -> None:
    torch.manual_seed(0)
    decision = looking(inference).train(training)(features(500))
    assert set(decision.z.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(decision.z.bool(), decision.open)


def test_the_gradient_goes_through_the_softmax_of_the_noisy_log_odds() -> None:
    gate = looking(norm=False).train()
    weight = torch.randn(64, 1, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(3)
    decision = gate(features(64))
    (decision.z * weight).sum().backward()
    got = {n: p.grad.clone() for n, p in gate.named_parameters() if p.grad is not None}
    assert got.keys() == dict(gate.named_parameters()).keys()
    gate.zero_grad()
    torch.manual_seed(3)
    score = gate.eval()(features(64)).score
    torch.manual_seed(3)
    noise = logistic_noise(score)
    two = torch.cat([torch.zeros_like(score), score + noise], 1).softmax(1)[:, 1:]  # Eq. 8 with temperature 1
    (two * weight).sum().backward()  # type: ignore[no-untyped-call]
    for name, parameter in gate.named_parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.any())
        torch.testing.assert_close(got[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_an_unknown_inference_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RouteError, match="argmax, sample, expected"):
        Gate(6, inference="mean")  # type: ignore[arg-type]


def test_one_sample_in_training_meets_batch_norms_own_error_and_no_error_without_norm() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        Gate(6).train()(features(1))
    assert Gate(6, norm=False).train()(features(1)).open.shape == (1, 1)


def test_a_gate_has_the_papers_layers() -> None:
    gate = Gate(64)
    assert sum(p.numel() for p in gate.parameters()) == 64 * 16 + 16 + 2 * 16 + 16 * 2 + 2
    assert [type(m) for m in gate.children()] == [nn.Linear, nn.BatchNorm1d, nn.Linear]
    assert "_difference" not in gate.state_dict()
    assert repr(gate) == "Gate(64 -> 16 -> 2, argmax)"
    assert repr(Gate(8, 4, norm=False)) == "Gate(8 -> 4 -> 2, no norm, argmax)"


def test_a_gated_network_in_double_precision_runs() -> None:
    model, x = chain()
    net = tp.route(model, tp.GatedBlocks(), example=x).double()
    y, trace = net(x.double())
    assert y.dtype == torch.float64
    assert trace["block1"].z.dtype == torch.float32


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_chance_opens_at_its_rate_in_training_and_evaluation(rate: float, training: bool) -> None:
    torch.manual_seed(0)
    chance = Chance(rate).train(training)
    decision = chance(features(DRAWS))
    assert abs(decision.open.float().mean().item() - rate) <= 4 * math.sqrt(rate * (1 - rate) / DRAWS)
    assert torch.equal(decision.z, decision.open.float())
    assert decision.score is None
    assert torch.equal(chance(features(50)).open, chance(features(50)).open) == (rate in (0.0, 1.0))


def test_a_switch_is_as_it_was_set_for_every_image() -> None:
    switch = Switch(2)
    switch.set(True, False)
    decision = switch(torch.randn(3, 0))
    assert decision.whole == switch.constant == (True, False)
    assert decision.open.tolist() == [[True, False]] * 3


@pytest.mark.parametrize("decider", [Chance(0.5), Switch()])
def test_what_decides_without_a_score_has_none_to_give(decider: Decider) -> None:
    assert not decider.by_score
    with pytest.raises(CallError, match=rf"{type(decider).__name__}.* does not decide by a score"):
        decider.perceptron()
