"""``route``: turn a model into one whose parts can be open or closed.

Everything is found and checked on the untouched model first; only then are modules swapped, inner ones before outer
ones, and the routed network is run once with everything open: that tells in which order its sites run, and it must give
the original's output bit for bit, or where places change what their modules compute, that of their references.
Parameters, buffers and state_dict keys of the model stay as they were, pretrained weights survive. Whatever is refused,
at whatever moment, the model is as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from torchpaths.copies import copied
from torchpaths.costs import count_macs, count_params, decider_cost, evaluating
from torchpaths.differences import difference
from torchpaths.errors import RouteError
from torchpaths.inputs import Given, call, gather
from torchpaths.junction import Junction, junctions
from torchpaths.layout import Cost
from torchpaths.methods.base import Method
from torchpaths.methods.blocks import plan_blocks
from torchpaths.methods.filters import Filters
from torchpaths.methods.together import Together
from torchpaths.path import Path
from torchpaths.places.covers import Cover, make_layout, shared
from torchpaths.places.plan import Plan
from torchpaths.places.residual.find import ByHand
from torchpaths.places.untouched import Untouched
from torchpaths.routed import Routed
from torchpaths.trace import Inputs, Site, extent
from torchpaths.wrapped import check_unwrapped


def route(
    model: nn.Module,
    method: Method | Sequence[Method] | None = None,
    *,
    example: Inputs | Mapping[str, Any] | tuple[Any, ...] | None = None,
    residuals: ByHand | None = None,
) -> Routed:
    """Route a model. Its residual blocks are replaced in place; the returned network owns it.

    Args:
        model: a network of timm, torchvision or transformers, or your own.
        method: who decides: a method, or several whose sites lie apart or inside one another, in any order. None:
            nobody, every unit is open until a path closes it.
        example: a batch the model accepts, ``[batch, ...]``; a list of images for a detector; for a model of several
            values or one called by name, a tuple of them in order or a mapping of names. MACs are counted for its size.
            May be left out for models that say their input size (timm) and for those that take 224 x 224 RGB.
        residuals: blocks that cannot be taken apart automatically, by hand: name or regular expression of modules ->
            ``Residual(branch, shortcut, post)``, or several for several sums.

    Returns:
        ``net(x, path=None) -> (y, trace)``; ``print(net)`` is a table of its units.

    Raises:
        RouteError: if the model is routed, wrapped for several devices, compiled, scripted or quantised already, does
            not take the example, or holds nothing to route; if a pattern matches nothing; or if methods do not go
            together. The model is then as it was.
    """
    if isinstance(method, Sequence) and not isinstance(method, str):
        method = Together(tuple(method))
    if not isinstance(method, Method | None):
        raise RouteError(
            f"method={method!r}: give a method, an instance such as GatedBlocks(), a list of several, or None."
        )
    if isinstance(model, Routed) or next(junctions(model), None) is not None:
        raise RouteError(f"{type(model).__name__} is routed already; route the original model once, with all methods.")
    check_unwrapped(model)
    x = _example(model) if example is None else gather(model, example)
    _check_example(model, x)
    before = Untouched(model)
    try:
        plans = plan_blocks(model, x, residuals) if method is None else method.find(model, x, residuals)
        with evaluating(model):
            plain = Cost(count_macs(lambda: call(model, x[:1])), count_params(model))
        before.restore()  # a model that remembers its last run starts both runs, of which the second is below, alike
        changed = [plan for plan in plans if plan.reference is not None]
        _refer(model, changed)
        expected = _run(model, x)
        before.restore()
        _swap(model, plans)
        swapped = Untouched(model)
        net = _routed(model, plans, plain, x, expected, exactly=not changed)
        swapped.restore()
    except BaseException:
        before.restore()  # the modules that were swapped too
        raise
    net.deciders.to(extent(x)[1])
    net.training = model.training  # not net.train(): modules the user keeps in evaluation mode stay there
    net.deciders.train(model.training)
    return net


def route_plain(model: nn.Module, example: Inputs | None) -> Routed:
    """A plain network as a routed one: its blocks, or the filters of one without any, open unless a path closes them.

    Arguments and errors as for `route`.
    """
    try:
        return route(model, example=example)
    except RouteError:
        with suppress(RouteError):
            return route(model, Filters(), example=example)
        raise


def as_routed(net: nn.Module, example: Any = None) -> Routed:
    """The network itself if it is routed, else a copy of it, routed by `route_plain`.

    Arguments and errors as for `route`.
    """
    return net if isinstance(net, Routed) else route_plain(copied(net), example)


def _check_example(model: nn.Module, x: Any) -> None:
    images = [x] if isinstance(x, Tensor) else [x.main] if isinstance(x, Given) else x
    if not isinstance(images, Sequence) or not all(isinstance(image, Tensor) for image in images):
        raise RouteError(
            f"example={type(x).__name__}: give what the model takes, a tensor, a list of images, values by name "
            "({'pixel_values': x}) or a tuple of values in order, one of them a tensor at least."
        )
    if len(x) == 0:
        raise RouteError("the example holds no image; give at least one.")
    lazy = next((n for n, p in model.named_parameters() if isinstance(p, nn.UninitializedParameter)), None)
    if lazy is not None:
        raise RouteError(f"parameter {lazy!r} has no shape yet; run the model once, model(x), then route it.")


def _example(model: nn.Module) -> Tensor:
    """Zeros of the size the model says it wants; 224 x 224 RGB for those that say nothing."""
    config: Any = getattr(model, "pretrained_cfg", None) or getattr(model, "default_cfg", None) or {}
    size = config.get("input_size", (3, 224, 224)) if isinstance(config, dict) else (3, 224, 224)
    parameter = next(model.parameters(), torch.zeros(()))
    return torch.zeros(1, *size, device=parameter.device, dtype=parameter.dtype)


def _refer(model: nn.Module, plans: list[Plan]) -> None:
    """Replace modules by their references."""
    slots = _slots(model, plans)
    for plan in plans:
        assert plan.reference is not None
        _replace(slots[plan.module], plan.reference)


def _swap(model: nn.Module, plans: list[Plan]) -> None:
    """Replace modules by junctions, inner ones first."""
    slots = _slots(model, plans)
    for plan in sorted(plans, key=lambda p: (-p.module.count("."), p.level)):
        _replace(slots[plan.module], partial(_junction, plan))


def _junction(plan: Plan, block: nn.Module) -> nn.Module:
    return Junction(plan.build(block))


_Slot: TypeAlias = tuple[nn.Module, str]
"""A module that holds another, and a name that it has there."""


def _slots(model: nn.Module, plans: list[Plan]) -> dict[str, list[_Slot]]:
    """Where modules are held: under all their names, as the model may call them by any."""
    found: dict[int, list[_Slot]] = {}
    for holder in model.modules():
        for child, module in holder._modules.items():
            found.setdefault(id(module), []).append((holder, child))
    return {plan.module: found[id(model.get_submodule(plan.module))] for plan in plans}


def _replace(slots: list[_Slot], build: Callable[[nn.Module], nn.Module]) -> None:
    """Replace a module by what is built of it."""
    first, name = slots[0]
    block = first._modules[name]
    assert block is not None
    built = build(block)
    for holder, child in slots:
        holder._modules[child] = built


def _routed(model: nn.Module, plans: list[Plan], plain: Cost, x: Inputs, expected: Any, exactly: bool) -> Routed:
    """The network, its sites in the order in which they run.

    Raises:
        RouteError: if a site is asked by nobody, or the output with everything open is not the original's.
    """
    sites = {site.name: site for plan in plans for site in plan.sites}  # many modules may obey one
    network, one = type(model).__name__, x.main if isinstance(x, Given) and x.first else x
    shape = tuple(one.shape[1:]) if isinstance(one, Tensor) else ()
    covers = _covers(plans, sites.values())
    units, shares = [unit for site in sites.values() for unit in site.units], shared(model)
    found = Routed(model, tuple(sites.values()), make_layout(units, covers, plain, network, shares), shape)
    with _reached(found):
        got, trace = _run(found, x, path=Path.full(found))
    if exactly:
        _check_same(got, expected, network)
    elif (off := difference(*([t for t in tree_leaves(y) if isinstance(t, Tensor)] for y in (got, expected)))) > 1:
        raise RouteError(
            f"the routed {network} differs from the plainest form of what was asked for {off:.3g} times as much as "
            "allowed; its weights may be so large or small that this precision cannot hold what is computed of them."
        )
    missing = [name for name in sites if name not in trace]
    if missing:
        raise RouteError(f"site {missing[0]!r} did not run for the example, so nothing is known of it.")
    units = [unit for name in trace for unit in sites[name].units]
    layout = make_layout(units, covers, plain, network, shares)
    for name, members in layout.sites.items():
        sites[name].units = members
    return Routed(model, tuple(sites[name] for name in trace), layout, shape)


def _run(model: nn.Module, x: Inputs, **more: Any) -> Any:
    """What a network gives for the first image of a batch, with the same chance every time."""
    with torch.random.fork_rng(devices=[]), torch.no_grad(), evaluating(model):
        torch.manual_seed(0)
        return call(model, x[:1], **more)


@contextmanager
def _reached(net: Routed) -> Iterator[None]:
    """Raise `RouteError` afterwards if the model's forward reached a module past the junction in its place."""
    past: list[str] = []

    def note(name: str, module: nn.Module, inputs: Any) -> None:
        past.extend([] if isinstance(module, Junction) else [name])

    places = [(name, j._place) for name, j in junctions(net.model) if not j._place.calls]
    handles = [place.block.register_forward_pre_hook(partial(note, name)) for name, place in places]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if past:
        raise RouteError(
            f"{past[0]!r} is called by something that the model does not hold it by, such as a plain list or a "
            "function, past what stands in its place; let it be called as an attribute, a child of its module, or hold "
            "such layers in an nn.ModuleList."
        )


def _check_same(got: Any, expected: Any, network: str) -> None:
    ours, theirs = tree_leaves(got), tree_leaves(expected)
    for a, b in zip(ours, theirs, strict=False):
        if not isinstance(b, Tensor):
            same = type(a) is type(b) and (not isinstance(b, (bool, int, float, str)) or a == b)
        else:
            same = a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())
        if not same or len(ours) != len(theirs):
            raise RouteError(
                f"the routed {network} does not give the original's output with everything open: something in it "
                "depends on more than its input, such as what a block wrote on itself when it last ran."
            )


def _covers(plans: list[Plan], sites: Iterable[Site]) -> list[Cover]:
    """What all sites hold, and what their deciders cost."""
    covers = [cover for plan in plans for cover in plan.covers]
    first = {cover.site: cover for cover in reversed(covers) if not cover.added}
    for site in sites:
        if site.decider is not None and site.name in first:
            cost = decider_cost(site.decider)
            covers.append(replace(first[site.name], cost=cost, added=True, decides=True))
    return covers
