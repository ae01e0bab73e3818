"""Take a residual block apart without knowing its architecture: ``y = post(shortcut(x) + branch(x))``.

ConvNet-AIG (Eq. 3) multiplies the gate onto the branch *before* the sum. Wrapping the whole block and mixing outside
gives the same output but another gradient for the gate wherever a ReLU follows the sum: it would silently train another
method. So the sum has to be found. The block's own forward is recorded (`tracing`), every child opaque, beside a real
example:

* a *cut point* is a value which every route from input to output passes (counted exactly, number of routes before times
  number of routes behind);
* a residual sum is an addition that is a cut point and whose two operands, of one shape, both come from the cut point
  before it; the longer way is the branch (`length`);
* a block with two sums (attention and MLP) comes out as two residuals in a row.

Each part becomes a `Piece`, ordinary Python code over the block's own children, which pickles, copies and compiles.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from torchpaths.errors import RouteError
from torchpaths.places.residual.evaluated import Evaluated
from torchpaths.places.residual.parts import Split
from torchpaths.places.residual.rest import handed, rest_name
from torchpaths.places.residual.sums import Splitter
from torchpaths.places.untouched import Untouched


def split(block: nn.Module, x: Tensor, /, **extra: Any) -> Split:
    """Find the residual sums of a block.

    Args:
        block: a module whose forward takes a tensor first; put in eval mode by the caller.
        x: an input of the block, as it occurs in the network.
        extra: further arguments its forward is called with. The others keep their defaults.

    Returns:
        Its residuals, in order of execution.

    Raises:
        RouteError: with the reason, if the forward cannot be traced or holds no residual sum.
    """
    return take_apart(block, x, extra, None)


def take_apart(block: nn.Module, x: Tensor, given: Mapping[str, Any], rest: Mapping[str, Any] | None) -> Split:
    """The same for any call of the block.

    Args:
        block: as for `split`.
        x: likewise.
        given: further arguments its forward is called with. The others keep their defaults.
        rest: those it is called with that its forward does not name, where it hands them on (`hands_on_rest`).

    Returns:
        Its residuals, in order of execution.

    Raises:
        RouteError: with the reason, if the forward cannot be traced or holds no residual sum.
    """
    free = handed(block)
    nothing = {name: None for name, value in given.items() if value is None and name not in free}
    extra = {name: value for name, value in given.items() if name not in nothing}
    try:
        return _split(block, x, extra, rest, nothing)
    except RouteError as error:
        # Sizes as numbers, that an input then has to have, where something is done with them that leaves no record.
        fixed = {name: value for name, value in extra.items() if _is_plain(value) and name not in free}
        if not fixed:
            raise
        try:
            return _split(block, x, {n: v for n, v in extra.items() if n not in fixed}, rest, {**nothing, **fixed})
        except RouteError:
            raise error from None


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a text or a tuple of such."""
    return (
        all(_is_plain(v) for v in value)
        if isinstance(value, tuple)
        else isinstance(value, (int, float, str, type(None)))
    )


def _split(
    block: nn.Module, x: Tensor, extra: Mapping[str, Any], rest: Mapping[str, Any] | None, fixed: Mapping[str, Any]
) -> Split:
    recorder = _record(block, x, extra, rest, fixed, training=False)
    try:
        values = {node: recorder.value(node) for node in recorder.graph.nodes if node.op != "output"}
    except Exception as error:
        raise _untraceable(error) from error
    found = Splitter(block, recorder.graph, values, tuple(extra), rest is not None).split(recorder.conditions)
    settled = recorder.settled()
    if settled:
        _check_settled(block, settled, lambda: _record(block, x, extra, rest, fixed, training=False))
    if str(_record(block, x, extra, rest, fixed, training=True).graph) != str(recorder.graph):
        raise RouteError(
            "its forward does different things in training and evaluation; let a child do what differs, such as "
            "nn.Dropout, timm.layers.DropPath or torchvision.ops.StochasticDepth, or a function that is told, such as "
            "nn.functional.dropout(x, p, self.training)"
        )
    return replace(
        found,
        tensors=frozenset(name for name, value in extra.items() if isinstance(value, Tensor)),
        kinds={name: type(extra[name]) for name in extra if name in recorder.asked},
        fixed=dict(fixed),
        settled=settled,
        handed=frozenset(extra) & handed(block),
    )


def _check_settled(block: nn.Module, settled: Mapping[str, Any], record: Callable[[], Evaluated]) -> None:
    """Raise unless a block that was assigned these values does what it did and assigns the same again."""
    before = Untouched(block)
    try:
        Split((), settled=settled).settle(block)
        again = record().settled()
    finally:
        before.restore()
    other = [name for name, value in again.items() if name not in settled or settled[name] != value]
    if other:
        raise WritesOnItselfError(other)


def _record(
    block: nn.Module,
    x: Tensor,
    extra: Mapping[str, Any],
    rest: Mapping[str, Any] | None,
    fixed: Mapping[str, Any],
    training: bool,
) -> Evaluated:
    """The block's graph, as flags for training lead to it, beside the example's values."""
    recorder = Evaluated(block, training)
    first, *others = inspect.signature(block.forward).parameters.values()
    named = [p.name for p in others if p.kind is not p.VAR_KEYWORD]

    def forward(twin: nn.Module) -> Any:
        own = twin.__dict__.get("forward") or partial(type(twin).forward, twin)
        value = recorder.given(first.name, x)
        order = sorted(extra, key=lambda name: named.index(name) if name in named else len(named))
        given = {name: recorder.given(name, extra[name]) for name in order}
        further: Any = {} if rest is None else recorder.given_rest(rest_name(block), dict(rest))
        return own(value, **given, **fixed, **further)

    failed = None
    try:
        recorder.record(forward)
    except Exception as error:
        failed = error
    written = recorder.written()
    if written:
        raise WritesOnItselfError(written)
    if failed is not None:
        raise failed if isinstance(failed, RouteError) else _untraceable(failed) from failed
    return recorder


def _untraceable(error: Exception) -> RouteError:
    reason = str(error).strip().split("\n")[0][:160]
    return RouteError(f"its forward cannot be traced ({type(error).__name__}: {reason})")


class WritesOnItselfError(RouteError):
    """A block that keeps something on itself while it runs."""

    def __init__(self, names: Iterable[str]) -> None:
        """
        Args:
            names: the attributes, within the block.
        """
        super().__init__(
            f"its forward writes on the block itself ({', '.join(map(repr, names))}), which is lost where its parts "
            "run alone. Let a child of the block keep such values in its own forward, or a forward hook; what is only "
            "made once, on the first run, is there if the model runs once before it is routed"
        )
