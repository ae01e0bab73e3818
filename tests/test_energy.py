"""Energies by Gram matrices are those of the paper's form, in values and gradients; and what is kept of them holds."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from torchpaths.models.energy import EnergyConv2d, gram, normalise
from torchpaths.places.channels.energy import Explicit

BRANCHES, EACH, OUTPUTS = 5, 3, 8


def inputs(dtype: torch.dtype, last: bool = False) -> tuple[Tensor, nn.Conv2d]:
    torch.manual_seed(0)
    u = torch.randn(4, BRANCHES * EACH, 6, 5, dtype=dtype)
    if last:
        u = u.contiguous(memory_format=torch.channels_last)
    return u.requires_grad_(), nn.Conv2d(BRANCHES * EACH, OUTPUTS, 1).to(dtype)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("closed", [False, True], ids=["open", "closed and dropped"])
@pytest.mark.parametrize(("dtype", "off"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_values_and_gradients_are_those_of_the_n_fold_form(
    dtype: torch.dtype, off: float, closed: bool, last: bool
) -> None:
    u, conv = inputs(dtype, last)
    opened = torch.ones(4, BRANCHES, dtype=dtype)
    z = opened.clone()
    if closed:
        opened[0, 1] = opened[2, 3] = opened[2, 4] = 0
        z = opened * torch.tensor([1.25, 0.0, 1.25, 1.25, 1.25], dtype=dtype)
    into = torch.randn(4, OUTPUTS, 6, 5, dtype=dtype)
    into_energies = torch.randn(4, BRANCHES, dtype=dtype)
    found = []
    v, energies = normalise(u, gram(conv.weight, BRANCHES), OUTPUTS, BRANCHES, opened, z)
    for y, e in ((conv(v), energies), Explicit(conv, BRANCHES).both(u, opened, z)):
        loss = (y * into).sum() + (e * into_energies).sum()
        found.append([y, e, *torch.autograd.grad(loss, (u, *conv.parameters()))])
    for ours, theirs in zip(*found, strict=True):
        assert (ours - theirs).abs().max() <= off * theirs.abs().max()
    assert all(t.abs().max() > 0.01 for t in found[0]), "something to compare"


def test_without_anything_closed_the_mean_energy_is_one() -> None:
    u, conv = inputs(torch.float64)
    _, energies = normalise(u, gram(conv.weight, BRANCHES), OUTPUTS, BRANCHES)
    torch.testing.assert_close(energies.mean(1), torch.ones(4, dtype=torch.float64), rtol=0, atol=1e-6)


def test_a_removed_branch_is_one_whose_weights_are_zero() -> None:
    u, conv = inputs(torch.float64)
    opened = torch.ones(4, BRANCHES, dtype=torch.float64)
    opened[:, 2] = 0
    removed, _ = normalise(u, gram(conv.weight, BRANCHES), OUTPUTS, BRANCHES, opened)
    zeroed = copy.deepcopy(conv)
    zeroed.weight.data[:, 2 * EACH : 3 * EACH] = 0
    whole, _ = normalise(u, gram(zeroed.weight, BRANCHES), OUTPUTS, BRANCHES)
    torch.testing.assert_close(conv(removed), zeroed(whole), rtol=1e-12, atol=1e-12)


def test_a_block_without_energy_gives_zero_and_finite_gradients() -> None:
    _, conv = inputs(torch.float32)
    u = torch.zeros(2, BRANCHES * EACH, 4, 4, requires_grad=True)
    v, energies = normalise(u, gram(conv.weight, BRANCHES), OUTPUTS, BRANCHES)
    assert (v == 0).all()
    assert (energies == 0).all()
    (conv(v).sum() + energies.square().sum()).backward()
    assert u.grad is not None
    assert u.grad.isfinite().all()
    assert conv.weight.grad is not None
    assert conv.weight.grad.isfinite().all()


def test_under_autocast_energies_stay_close_to_those_of_full_precision() -> None:
    u, conv = inputs(torch.float32)
    expected = normalise(u, gram(conv.weight, BRANCHES), OUTPUTS, BRANCHES)[1]
    with torch.autocast("cpu", torch.bfloat16):
        half = normalise(u.bfloat16(), gram(conv.weight, BRANCHES), OUTPUTS, BRANCHES)
        exact = normalise(u, gram(conv.weight, BRANCHES), OUTPUTS, BRANCHES)
    assert half[0].dtype == torch.bfloat16
    assert half[1].dtype == torch.float32
    torch.testing.assert_close(half[1], expected, rtol=0.02, atol=0.02)
    torch.testing.assert_close(exact[1], expected, rtol=1e-6, atol=1e-6)


def energy_conv() -> tuple[EnergyConv2d, Tensor]:
    torch.manual_seed(1)
    return EnergyConv2d(BRANCHES * EACH, OUTPUTS, BRANCHES, BRANCHES + 2).eval(), torch.randn(2, BRANCHES * EACH, 4, 4)


def right(conv: EnergyConv2d, x: Tensor) -> Tensor:
    v, _ = normalise(x, gram(conv.weight, conv.branches), conv.out_channels, conv.of)
    return functional.conv2d(v, conv.weight, conv.bias)


@torch.no_grad()
def test_what_is_kept_of_the_weights_follows_them() -> None:
    conv, x = energy_conv()
    before = conv(x)
    other, _ = energy_conv()
    other.weight.mul_(torch.linspace(0.5, 2, BRANCHES * EACH).view(1, -1, 1, 1))
    changes = {
        "in place": lambda: conv.weight.mul_(torch.linspace(0.5, 2, BRANCHES * EACH).view(1, -1, 1, 1)),
        "loaded": lambda: conv.load_state_dict(other.state_dict()),
        "assigned": lambda: conv.load_state_dict(copy.deepcopy(other.state_dict()), assign=True),
        "replaced": lambda: setattr(conv, "weight", nn.Parameter(other.weight.flip(1))),
    }
    for name, change in changes.items():
        change()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(conv(x), right(conv, x), msg=name)
        assert not torch.allclose(conv(x), before), name
    conv.train()
    conv.weight.data.mul_(3 * torch.rand_like(conv.weight))  # which torch does not count
    conv.eval()
    torch.testing.assert_close(conv(x), right(conv, x))
    assert torch.equal(copy.deepcopy(conv)(x), conv(x))


def test_gradients_reach_weights_that_were_used_without_before() -> None:
    conv, x = energy_conv()
    with torch.no_grad():
        conv(x)
    conv(x).square().sum().backward()
    assert conv.weight.grad is not None
    own = conv.weight.grad.clone()
    conv.zero_grad()
    right(conv, x).square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(own, conv.weight.grad)


def test_an_exported_program_answers_as_the_module() -> None:
    conv, x = energy_conv()
    program = torch.export.export(conv, (x,)).module()
    torch.testing.assert_close(program(x), conv(x))


def test_second_derivatives_are_those_of_the_n_fold_form() -> None:
    u, conv = inputs(torch.float64)
    weight = conv.weight.detach().requires_grad_()

    def ours(u: Tensor, weight: Tensor) -> Tensor:
        v, energies = normalise(u, gram(weight, BRANCHES), OUTPUTS, BRANCHES)
        return functional.conv2d(v, weight).tanh().sum() + energies.pow(3).sum()

    def theirs(u: Tensor, weight: Tensor) -> Tensor:
        each = weight.reshape(OUTPUTS, BRANCHES, EACH, 1, 1).transpose(0, 1).flatten(0, 1)
        t = functional.conv2d(u, each, groups=BRANCHES).view(len(u), BRANCHES, OUTPUTS, *u.shape[2:])
        energies = t.square().mean((2, 3, 4))
        root = torch.rsqrt(energies.mean(1, keepdim=True) + 1e-8)
        return (t * root[..., None, None, None]).sum(1).tanh().sum() + (energies * root.square()).pow(3).sum()

    torch.manual_seed(2)
    along = torch.randn_like(u), torch.randn_like(weight)
    found = [torch.autograd.functional.vhp(f, (u.detach(), weight.detach()), along)[1] for f in (ours, theirs)]  # type: ignore[no-untyped-call]
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() <= 1e-10 * b.abs().max()
        assert b.abs().max() > 1e-3


def test_torch_func_differentiates_and_maps_it() -> None:
    u, conv = inputs(torch.float64)
    u = u.detach()
    weight = conv.weight.detach()

    def loss(weight: Tensor, u: Tensor) -> Tensor:
        v, energies = normalise(u[None], gram(weight, BRANCHES), OUTPUTS, BRANCHES)
        return functional.conv2d(v, weight).square().sum() + energies.pow(3).sum()

    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, u)
    for i in range(len(u)):
        torch.testing.assert_close(each[i], torch.func.grad(loss)(weight, u[i]))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_large_maps_in_half_precision_keep_their_energies(kind: torch.dtype) -> None:
    u, conv = inputs(torch.float32)
    large = u.detach().repeat(1, 1, 12, 12) * 6
    exact, energies = normalise(large, gram(conv.weight, BRANCHES), OUTPUTS, BRANCHES)
    v, half = normalise(large.to(kind), gram(conv.weight, BRANCHES), OUTPUTS, BRANCHES)
    torch.testing.assert_close(half, energies, rtol=0.02, atol=0.02)
    torch.testing.assert_close(v.float(), exact, rtol=0.05, atol=0.05)


def test_a_batch_of_no_images_passes() -> None:
    u, conv = inputs(torch.float32)
    v, energies = normalise(u[:0], gram(conv.weight, BRANCHES), OUTPUTS, BRANCHES)
    assert v.shape == u[:0].shape
    assert energies.shape == (0, BRANCHES)


@torch.no_grad()
def test_weights_that_come_to_lie_where_others_lay_are_seen() -> None:
    conv, x = energy_conv()

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1, BRANCHES * EACH, 1, 1))

        def forward(self, weight: Tensor) -> Tensor:
            return weight * self.scale

    nn.utils.parametrize.register_parametrization(conv, "weight", scaled := Scaled())
    for seed in range(30):
        scaled.scale.copy_(torch.rand(1, BRANCHES * EACH, 1, 1, generator=torch.Generator().manual_seed(seed)))
        torch.testing.assert_close(conv(x), right(conv, x))


def test_an_optimizer_whose_steps_torch_does_not_count_leaves_nothing_stale() -> None:
    conv, x = energy_conv()
    optimizer = torch.optim.Adam(conv.parameters(), lr=0.1, fused=True)
    for _ in range(3):
        conv(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            torch.testing.assert_close(conv(x), right(conv, x))
    program = torch.export.export(conv, (x,), dynamic_shapes=({0: torch.export.Dim("batch", max=64)},)).module()
    torch.testing.assert_close(program(x), conv(x))
    torch.testing.assert_close(program(x.repeat(3, 1, 1, 1)), conv(x.repeat(3, 1, 1, 1)))
