"""MACs and parameters, counted on what really runs.

MACs are multiply-accumulates of convolutions, linear layers and attention products, half of what
`torch.utils.flop_counter` reports. Fused attention that the counter does not see is switched off while counting.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from torchpaths.errors import PathError
from torchpaths.layout import Cost
from torchpaths.path import Path
from torchpaths.routed import Routed
from torchpaths.trace import Decider


def count_macs(run: Callable[[], Any]) -> int:
    """MACs of everything ``run()`` executes, without gradients, so that nothing a module caches holds on to a graph."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            return _counted(run)
    except AssertionError:
        # Where a module is handed a parameter (a class token), torch's counter follows it by its graph and needs one.
        with torch.enable_grad():
            return _counted(run)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _counted(run: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False, custom_mapping=_UNKNOWN) as counter:
        run()
    return int(counter.get_total_flops()) // 2


def _linear(x: Any, *_: Any, out_val: Any, **__: Any) -> int:
    """Twice the MACs of a product of ``[..., inputs]`` with a matrix, by the sizes of what goes in and comes out."""
    return 2 * int(out_val.numel()) * int(x.shape[-1])


def _vector(_: Any, matrix: Any, *__: Any, **___: Any) -> int:
    """Twice the MACs of a bias plus a matrix times a vector, by which deciders score one image."""
    return 2 * int(matrix.numel())


# Torch's counter then hands tensors on, not shapes.
_linear._get_raw = True  # type: ignore[attr-defined]
_vector._get_raw = True  # type: ignore[attr-defined]
_UNKNOWN: dict[Any, Any] = {
    torch.ops.aten.addmv: _vector,
    torch.ops.quantized.linear_dynamic: _linear,
    torch.ops.quantized.linear_relu_dynamic: _linear,
    torch.ops.aten._int_mm: _linear,
    torch.ops.aten._weight_int8pack_mm: _linear,
}
"""Products that torch's counter does not know: with vectors, and of matrices kept in eight bits. ``aten.mv`` is left
out: the mean of one image's features is taken by it, and pooling does not count."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """A module in evaluation mode; afterwards each of its modules is in the mode it was in, frozen norms too."""
    was = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for m, training in was:
            m.training = training


def count_params(module: nn.Module) -> int:
    """Parameters, shared ones once."""
    return sum(p.numel() for p in module.parameters())


def decider_cost(decider: Decider) -> Cost:
    """MACs of the decider's linear layers for one image, and its parameters."""
    linear = [m for m in decider.modules() if isinstance(m, nn.Linear)]
    return Cost(sum(m.in_features * m.out_features for m in linear), count_params(decider))


def cost(net: Routed, x: Tensor, path: Path | None = None) -> Cost:
    """What one image really executes, measured by running it.

    ``path.cost(net)`` adds up the units' costs without running; this runs the network and counts, so the two check each
    other. They are apart by the deciders' MACs: ``path.cost`` holds them, and along a path that names every site none
    is asked.

    Args:
        net: a routed network.
        x: one image, ``[1, ...]``.
        path: a path for the whole batch that names every site; None for all open.

    Returns:
        MACs executed, and the parameters of what ran.

    Raises:
        PathError: if ``x`` is not one image, or ``path`` is per sample or leaves sites to decide.
    """
    if x.shape[0] != 1:
        raise PathError(f"cost counts one image, got a batch of {x.shape[0]}; give x[:1].")
    path = Path.full(net) if path is None else path
    params = path.cost(net).params
    with evaluating(net):
        return Cost(count_macs(lambda: net(x, path)), params)
