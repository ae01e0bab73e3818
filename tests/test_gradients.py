"""Pooling, mixing and the straight-through step: values and gradients of the plain formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from torchpaths.deciders.gradients import straight_through
from torchpaths.places.gradients import mix, pool

LAYOUTS = {
    "NCHW": ((3, 4, 5, 6), (2, 3)),
    "channels_last": ((3, 4, 5, 6), (2, 3)),
    "one channel": ((3, 1, 2, 2), (2, 3)),
    "tokens": ((3, 5, 4), (1,)),
    "NHWC": ((2, 3, 5, 4), (1, 2)),
}


def feature_map(layout: str, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    x = torch.randn(LAYOUTS[layout][0], generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    return x.to(memory_format=torch.channels_last) if layout == "channels_last" else x


def multiplier(x: Tensor) -> Tensor:
    z = torch.tensor([0.0, 1.0, 0.3])[: len(x)]
    return z.view(-1, *(1,) * (x.dim() - 1)).to(x.dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pool_hands_x_through_and_gives_its_mean(layout: str) -> None:
    x, axes = feature_map(layout), LAYOUTS[layout][1]
    through, pooled = pool(x, axes)
    assert torch.equal(through, x)
    assert pooled.shape == (x.shape[0], x.shape[axes[0] - 1 if axes == (2, 3) else -1])
    torch.testing.assert_close(pooled.double(), x.mean(axes), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("used", ["both", "features only", "x only"])
def test_pools_gradient_is_the_plain_formulas(layout: str, used: str) -> None:
    axes = LAYOUTS[layout][1]

    def gradient(fast: bool) -> Tensor:
        x = feature_map(layout).requires_grad_()
        through, pooled = pool(x, axes) if fast else (x, x.mean(axes))
        weight = feature_map(layout, seed=1)
        direct = (through * weight).square().sum() if used != "features only" else 0
        by_mean = (pooled.double() * weight.mean(axes)).sum() if used != "x only" else 0
        [g] = torch.autograd.grad(torch.as_tensor(direct + by_mean), x)
        return g

    torch.testing.assert_close(gradient(fast=True), gradient(fast=False), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pool_passes_gradcheck(layout: str) -> None:
    x, axes = feature_map(layout).requires_grad_(), LAYOUTS[layout][1]
    # The features are single precision; the operation is linear, so a wide step costs no accuracy.
    assert torch.autograd.gradcheck(lambda v: pool(v, axes), (x,), eps=0.1, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_mix_is_the_sum_and_passes_gradcheck(layout: str) -> None:
    shortcut, branch = feature_map(layout), feature_map(layout, seed=1)
    z = multiplier(branch)
    torch.testing.assert_close(mix(shortcut, branch, z), shortcut + z * branch)
    assert torch.autograd.gradcheck(mix, [t.requires_grad_() for t in (shortcut, branch, z)])


def test_a_closed_samples_branch_gets_no_gradient_and_its_output_is_the_shortcut_exactly() -> None:
    shortcut, branch = feature_map("NCHW"), feature_map("NCHW", seed=1).requires_grad_()
    y = mix(shortcut, branch, multiplier(branch))
    assert torch.equal(y[0], shortcut[0])
    y.sum().backward()  # type: ignore[no-untyped-call]
    assert branch.grad is not None
    assert not branch.grad[0].any()
    assert bool((branch.grad[1] == 1).all())


def _pooled(x: Tensor, fast: bool) -> tuple[Tensor, Tensor]:
    if fast:
        through, pooled = pool(x, (2, 3))
        return through, pooled
    return x, x.float().mean((2, 3))


@pytest.mark.parametrize("layout", ["NCHW", "channels_last"])
@pytest.mark.parametrize("size", [1, 7, 32])
def test_in_bfloat16_pool_and_mix_stay_within_its_rounding(layout: str, size: int) -> None:
    draw = torch.Generator().manual_seed(0)
    shape = (3, 8, size, size)
    memory = torch.channels_last if layout == "channels_last" else torch.contiguous_format
    maps = [torch.randn(shape, generator=draw).bfloat16().to(memory_format=memory) for _ in range(3)]
    z = torch.tensor([0.0, 1.0, 0.5]).view(3, 1, 1, 1)

    def run(fast: bool) -> list[Tensor]:
        kind = torch.bfloat16 if fast else torch.float64
        s, b, weight = (m.detach().to(kind).to(memory_format=memory) for m in maps)
        factor = z.to(kind)
        for leaf in (s, b, factor):
            leaf.requires_grad_()
        through, pooled = _pooled(s, fast)
        y = mix(through, b, factor) if fast else through + factor * b
        loss = (y * weight).double().sum() + pooled.double().square().sum()
        return [
            y.detach().double(),
            pooled.detach().double(),
            *(g.double() for g in torch.autograd.grad(loss, (s, b, factor))),
        ]

    names = ("y", "features", "shortcut's gradient", "branch's gradient", "z's gradient")
    for name, got, expected in zip(names, run(True), run(False), strict=True):
        # 8 bits of mantissa; z's gradient is a sum over a whole map whose terms cancel.
        scale = 2**-7 * float(size * 8**0.5 if name == "z's gradient" else 1)
        torch.testing.assert_close(got, expected, rtol=2**-7, atol=scale, msg=name)


def test_pools_features_are_single_precision_whatever_the_maps_are() -> None:
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        assert pool(feature_map("NCHW", dtype), (2, 3))[1].dtype == torch.float32


def test_straight_through_is_a_step_forward_and_a_sigmoid_backward() -> None:
    noisy = torch.tensor([-30.0, -1.0, -1e-8, 0.0, 1e-8, 0.5, 30.0], dtype=torch.float64, requires_grad=True)
    z, opened = straight_through(noisy)
    assert z.tolist() == [0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert opened.tolist() == [False] * 4 + [True] * 3
    assert not opened.requires_grad
    weight = torch.arange(1.0, 8.0, dtype=torch.float64)
    [got] = torch.autograd.grad((z * weight).sum(), noisy)
    [expected] = torch.autograd.grad((torch.sigmoid(noisy) * weight).sum(), noisy)
    torch.testing.assert_close(got, expected)
