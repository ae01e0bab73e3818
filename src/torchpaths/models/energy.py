"""Energy normalisation of a block's branches, and the 1x1 convolution behind it: Avranas and Kountouris, "Towards
Disentangling Information Paths with Coded ResNeXt" (2022), eq. 2 and 3.

Of torchpaths, and complete in itself: a copy of this file goes with networks that are cut out.

Branch n of N ends in a 1x1 convolution of its own, ``t_n = W_n u_n`` with ``u_n`` its d channels; the block adds
``t_n / sqrt(mean_m E(t_m))`` over all branches, where ``E(t)`` is the mean square of t over C outputs and P pixels. The
paper computes all ``t_n``, N times the block's output. Nothing but linear maps lies between, so none is needed:

    E(t_n) = <W_n^T W_n, sum_p u_n u_n^T> / (C P)

needs d x d products only, and the sum of all branches is one ordinary convolution of the scaled ``u``. Values and
gradients are those of the paper's form, up to rounding and an epsilon, which the paper lacks: it keeps a block without
energy at zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import _disable_current_modes

EPS = 1e-8
"""Added to the mean energy, which is about d / C where training starts: 0.016 to 0.043 in the paper's networks."""


def gram(weight: Tensor, branches: int) -> Tensor:
    """``W_n^T W_n`` of all branches.

    Args:
        weight: of a 1x1 convolution, ``[C, N d, 1, 1]``, branch by branch.
        branches: N.

    Returns:
        ``[N, d, d]``, float32 or better.
    """
    with torch.autocast(weight.device.type, enabled=False):
        found: Tensor = _Gram.apply(weight, branches)
        return found


def constant_gram(weight: Tensor, branches: int) -> Tensor:
    """The same without gradients, to be kept. Counters of operations do not see it, as it is no image's work."""
    with torch.no_grad(), _disable_current_modes():
        return gram(weight, branches)


def normalise(
    u: Tensor, products: Tensor, outputs: int, of: int, opened: Tensor | None = None, z: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Scale channels so that the convolution behind them gives the normalised sum of the branches (eq. 3).

    Args:
        u: channels ``[B, N d, H, W]``, branch by branch.
        products: ``[N, d, d]``, see `gram`.
        outputs: C of the convolution.
        of: branches that the mean energy is over: N, or those of the whole block where ``u`` holds only some of them.
        opened: ``[B, N]``, 0 for branches that are removed, which have no energy; None for none.
        z: ``[B, N]``, factors of the branches' outputs after normalisation; None for ``opened``.

    Returns:
        The scaled channels, and the normalised energies ``[B, N]``, of mean 1 if all branches are there; float32 or
        better.
    """
    kind = torch.promote_types(u.dtype, torch.float32)
    if opened is None:
        opened = torch.ones(u.shape[0], products.shape[0], device=u.device, dtype=kind)
    opened = opened.to(kind)
    z = opened if z is None else opened * z
    with torch.autocast(u.device.type, enabled=False):
        scaled, energies, *_ = _Normalise.apply(u, products, opened, z, outputs * u.shape[2] * u.shape[3], of)
    return scaled, energies


class EnergyConv2d(nn.Conv2d):
    """A 1x1 convolution behind the energy normalisation of its input: what a path leaves of a coded one.

    Parameters are those of the convolution it was made of. What it needs of them beside, `gram`, is kept from call to
    call and made anew where they changed.
    """

    gram: Tensor

    def __init__(self, inputs: int, outputs: int, branches: int, of: int, **kwargs: Any) -> None:
        """
        Args:
            inputs: channels of all branches that are there.
            outputs: channels that come out.
            branches: those that are there.
            of: branches of the whole block, which the mean energy is over.
            **kwargs: of ``nn.Conv2d``.
        """
        super().__init__(inputs, outputs, 1, **kwargs)
        self.branches = branches
        self.of = of
        self.register_buffer("gram", torch.empty(0), persistent=False)
        self._made_of: Seen | None = None
        if not self.weight.is_meta:
            self.settle()

    @classmethod
    def of_conv(cls, conv: nn.Conv2d, branches: int, of: int) -> EnergyConv2d:
        """Behind the energy normalisation a convolution that is there already, with its very parameters.

        Args:
            conv: of kernel 1.
            branches: those that shall be there; where they are fewer than ``of`` the caller gives it their weights.
            of: branches that ``conv`` has.
        """
        bias = conv.bias is not None
        made = cls(conv.in_channels // of * branches, conv.out_channels, branches, of, bias=bias, device="meta")
        made.weight, made.bias = conv.weight, conv.bias
        made.training = conv.training
        return made

    def settle(self) -> None:
        """Make `gram` for the weights as they are now."""
        self.gram = constant_gram(self.weight, self.branches)
        self._made_of = Seen.of(self.weight)

    def train(self, mode: bool = True) -> EnergyConv2d:
        """As any module; on the way to evaluation `gram` is made anew."""
        super().train(mode)
        if not mode:
            self.settle()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """``[B, inputs, H, W]`` -> ``[B, outputs, H / stride, W / stride]``."""
        if torch.compiler.is_compiling():
            products = gram(self.weight, self.branches)
        elif torch.is_grad_enabled():
            self._made_of = None  # optimizers may write into weights without torch counting it
            products = gram(self.weight, self.branches)
        else:
            if self._made_of is None or not self._made_of.holds(self.weight):
                self.settle()
            products = self.gram
        y: Tensor = super().forward(normalise(x, products, self.out_channels, self.of)[0])
        return y

    def extra_repr(self) -> str:
        own: str = super().extra_repr()  # type: ignore[no-untyped-call]
        return f"{own}, energies of {self.branches} of {self.of} branches"


@dataclass(frozen=True)
class Seen:
    """Weights as they were once, to tell whether they were written into or replaced since.

    The tensor itself is kept: another one may come to lie where it lay. Writing through ``weight.data``, and what fused
    optimizers do, is not counted by torch.
    """

    weight: Tensor
    version: int
    place: int

    @classmethod
    def of(cls, weight: Tensor) -> Seen | None:
        """None where changes are not counted, as in inference mode and inside ``torch.func``."""
        try:
            return None if weight.is_inference() else cls(weight, weight._version, weight.data_ptr())
        except RuntimeError:
            return None

    def holds(self, weight: Tensor) -> bool:
        """Whether these are the same, unchanged."""
        now = Seen.of(weight)
        return now is not None and now.weight is self.weight and (now.version, now.place) == (self.version, self.place)


class _Gram(torch.autograd.Function):
    """With one product in the backward pass where autograd has two, since the result is symmetric."""

    generate_vmap_rule = True

    @staticmethod
    def forward(weight: Tensor, branches: int) -> Tensor:
        rows = _rows(weight, branches)
        return torch.bmm(rows, rows.transpose(1, 2))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        weight, ctx.branches = inputs
        ctx.save_for_backward(weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        [weight] = ctx.saved_tensors
        rows = torch.bmm(gradient + gradient.transpose(1, 2), _rows(weight, ctx.branches))
        return rows.flatten(0, 1).t().reshape(weight.shape).to(weight.dtype), None


def _rows(weight: Tensor, branches: int) -> Tensor:
    """``[C, N d, 1, 1]`` as ``[N, d, C]``, contiguous, float32 or better."""
    flat = weight.flatten(1).t().to(torch.promote_types(weight.dtype, torch.float32))
    return flat.reshape(branches, -1, weight.shape[0]).contiguous()


class _Normalise(torch.autograd.Function):
    """See `normalise`. By hand, since the gradient of ``u`` is then made in three passes over it instead of six.

    What is measured on the way is given out too, for the backward pass alone. For second derivatives that pass measures
    again: they go through what was measured.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor, products: Tensor, opened: Tensor, z: Tensor, values: int, of: int) -> tuple[Tensor, ...]:
        seen, energy, root = _measured(u, products, opened, values, of)
        return _scaled(u, z * root), energy * root.square(), seen, energy, root

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        u, products, opened, z, *ctx.sizes = inputs
        measured = output[2:]
        ctx.mark_non_differentiable(*measured)
        ctx.save_for_backward(u, products, opened, z, *measured)

    @staticmethod
    def backward(ctx: Any, into: Tensor, into_energy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        u, products, opened, z, seen, energy, root = ctx.saved_tensors
        values, of = ctx.sizes
        if torch.is_grad_enabled():
            seen, energy, root = _measured(u, products, opened, values, of)
        factors = _dot(into, u, products.shape[0]).to(root.dtype)
        whole = (factors * z + 2 * root * energy * into_energy).sum(1, keepdim=True)
        # Of each energy: its own way out, and the way through the mean of all.
        own = opened * (into_energy * root.square() - whole * root**3 / (2 * of)) / values
        gradient = None
        if ctx.needs_input_grad[0]:
            gradient = _scaled(into, z * root) + _scaled(_turned(u, products + products.transpose(1, 2)), own)
        of_products = (own[..., None, None] * seen).sum(0) if ctx.needs_input_grad[1] else None
        return gradient, of_products, None, factors * root, None, None


def _measured(u: Tensor, products: Tensor, opened: Tensor, values: int, of: int) -> tuple[Tensor, Tensor, Tensor]:
    """What was seen of ``u``, the energies ``[B, N]``, and one by the root of their mean ``[B, 1]``."""
    seen = _seen(u, products.shape[0])
    energy = (seen * products).sum((2, 3)) / values * opened
    return seen, energy, torch.rsqrt(energy.sum(1, keepdim=True) / of + EPS)


def _last(u: Tensor) -> bool:
    """Whether channels lie innermost in memory."""
    return u.stride(1) == 1 and not u.is_contiguous()


def _seen(u: Tensor, branches: int) -> Tensor:
    """``sum over pixels of u_n u_n^T``, ``[B, N, d, d]``, float32 or better."""
    batch, each = u.shape[0], u.shape[1] // branches
    if u.dtype == torch.float16:  # whose range sums over pixels leave
        u = u.float()
    if _last(u):
        rows = u.permute(0, 2, 3, 1).reshape(batch, -1, branches, each).transpose(1, 2).contiguous()
        found = torch.matmul(rows.transpose(2, 3), rows)
    else:
        rows = u.reshape(batch, branches, each, u.shape[2] * u.shape[3])
        found = torch.matmul(rows, rows.transpose(2, 3))
    return found.to(torch.promote_types(u.dtype, torch.float32))


def _turned(u: Tensor, products: Tensor) -> Tensor:
    """``products[n] u_n`` for all images and branches, ``[B, N d, H, W]``."""
    products = products.to(u.dtype)
    if _last(u):
        return functional.conv2d(u, products.flatten(0, 1)[..., None, None], groups=products.shape[0])
    rows = u.reshape(u.shape[0], *products.shape[:2], u.shape[2] * u.shape[3])
    return torch.matmul(products, rows).reshape(u.shape)


def _scaled(u: Tensor, factors: Tensor) -> Tensor:
    """Each branch times its factor ``[B, N]``."""
    each = u.shape[1] // factors.shape[1]
    return u * factors.to(u.dtype).repeat_interleave(each, 1)[..., None, None]


def _dot(a: Tensor, b: Tensor, branches: int) -> Tensor:
    """``sum over channels and pixels of a b`` of each branch, ``[B, N]``."""
    sums = (a * b).sum((2, 3), dtype=torch.promote_types(a.dtype, torch.float32))
    return sums.reshape(a.shape[0], branches, -1).sum(2)
