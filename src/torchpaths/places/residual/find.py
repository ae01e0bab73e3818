"""Find every residual block of a model by running it: no list of architectures, no hooks left behind.

While an example passes through the untouched model, each module's own input is caught (behind the hooks that are there
already), the module is taken apart (`split`), put together again and compared bit for bit with what its forward just
gave, and its branches' MACs are counted. A second run with another number of images tells which axis is the batch, and
whether images pass a block without touching each other (`apart`). What does not come apart is kept with the reason.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from torchpaths.costs import count_macs, evaluating
from torchpaths.errors import ExampleError, RouteError
from torchpaths.inputs import call, shape_of
from torchpaths.layout import Cost
from torchpaths.places.covers import sum_item, tied
from torchpaths.places.names import match
from torchpaths.places.residual.apart import Together, of_one
from torchpaths.places.residual.parts import Keywords, Residual, Split, alike, part, split_by_hand
from torchpaths.places.residual.rest import handed, hands_on_rest
from torchpaths.places.residual.split import WritesOnItselfError, take_apart
from torchpaths.places.residual.trial import ParametersUsed, check_returned, with_axis
from torchpaths.places.untouched import Untouched
from torchpaths.trace import Inputs

ByHand: TypeAlias = Mapping[str, Residual | Sequence[Residual]]
"""Blocks taken apart by hand: module name or regular expression -> its residual sums."""


@dataclass(frozen=True)
class Found:
    """A residual block of a model.

    Attributes:
        module: dotted name.
        parts: the block taken apart.
        sites: a name for each of its sums: the module's, with the branch's largest child where there are several.
        costs: what each branch costs, one image.
        channels: width of the pooled features before each sum.
        items: what each branch holds, see `torchpaths.places.covers.Cover`.
        apart: whether the images of a batch pass it without touching each other.
    """

    module: str
    parts: Split
    sites: tuple[str, ...]
    costs: tuple[Cost, ...]
    channels: tuple[int, ...]
    items: tuple[frozenset[str], ...]
    apart: bool = True


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        places: residual blocks in order of execution; a block inside another's branch is left to the outer one.
        refused: modules that look like residual blocks and do not come apart, with the reason.
        writing: those of them that are refused because they write on themselves while they run.
    """

    places: tuple[Found, ...]
    refused: Mapping[str, str]
    writing: tuple[str, ...] = ()


def find_residuals(model: nn.Module, example: Inputs, by_hand: ByHand | None = None) -> Search:
    """Find the residual blocks of a model.

    Args:
        model: any model whose forward takes one tensor, or one list of tensors.
        example: a batch for it, ``[batch, ...]``; its size is the one the MACs are counted for.
        by_hand: blocks to be taken apart as given instead of traced.

    Raises:
        RouteError: if the model does not take the example, or a name given by hand is not there.
    """
    hand = _resolve(model, by_hand or {})
    return _Search(model, example, hand).run()


def _resolve(model: nn.Module, by_hand: ByHand) -> dict[str, tuple[Residual, ...]]:
    names = [name for name, _ in model.named_modules() if name]
    resolved: dict[str, tuple[Residual, ...]] = {}
    for pattern, given in by_hand.items():
        parts = (given,) if isinstance(given, Residual) else tuple(given)
        resolved.update(dict.fromkeys(match(pattern, names, "module"), parts))
    return resolved


class _Search:
    def __init__(self, model: nn.Module, example: Inputs, by_hand: dict[str, tuple[Residual, ...]]) -> None:
        self.model = model
        self.example = example
        self.by_hand = by_hand
        self.inputs: dict[str, list[tuple[Tensor, Untouched]]] = {}
        self.places: dict[str, Found] = {}
        self.refused: dict[str, str] = {}
        self.writing: list[str] = []
        self.examining = False
        self.tied = tied(model)
        self.runs: Counter[str] = Counter()

    def run(self) -> Search:
        before = Untouched(self.model)
        try:
            self._run()
            before.restore()  # what a block remembers of these images may not fit another number of them
            return self._found()
        finally:
            before.restore()

    def _run(self) -> None:
        """Run the model and take every block apart on the way."""
        handles = []
        for name, module in self.model.named_modules():
            handles.append(module.register_forward_pre_hook(self._count(name)))
            if name and (name in self.by_hand or _may_be_residual(module)):
                handles.append(module.register_forward_pre_hook(self._catch(name), with_kwargs=True))
                handles.append(module.register_forward_hook(self._examine(name), with_kwargs=True, prepend=True))
        try:
            with torch.no_grad(), evaluating(self.model):
                call(self.model, self.example)
        except RouteError:
            raise
        except Exception as error:
            reason = str(error).strip().split("\n")[0]
            raise ExampleError(
                f"{type(self.model).__name__} does not take the example of shape {shape_of(self.example)}: {reason}. "
                "Give route(model, method, example=x) an x that model(x) accepts."
            ) from error
        finally:
            for handle in handles:
                handle.remove()

    def _found(self) -> Search:
        """What came apart, and whether images do.

        Raises:
            RouteError: if something given by hand is not among it.
        """
        found = {n: p for n, p in self.places.items() if len(self.inputs[n]) == 0}
        order = [n for n in self.inputs if n in found]
        outer = [n for n in order if not any(n.startswith(o + ".") for o in order)]
        together = Together(self.model, self.example, outer)
        self.refused.update(dict.fromkeys(together.elsewhere, "the first axis of its input or output is not the batch"))
        missing = [name for name in self.by_hand if name not in found or name in together.elsewhere]
        if missing:
            why = self.refused.get(missing[0], "it did not run")
            raise RouteError(f"block {missing[0]!r}, given by hand, cannot be used: {why}.")
        outer = [n for n in outer if n not in together.elsewhere]
        refused = {n: r for n, r in self.refused.items() if not any(n.startswith(o + ".") for o in outer)}
        places = tuple(replace(found[n], apart=n in together.apart) for n in outer)
        return Search(places, refused, tuple(n for n in self.writing if n in refused))

    def _count(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            self.runs[name] += not self.examining

        return hook

    def _catch(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else next(iter(kwargs.values()), None)
            if isinstance(x, Tensor) and not self.examining:
                self.inputs.setdefault(name, []).append((x.clone(), Untouched(module)))

        return hook

    def _examine(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if self.examining or not self.inputs.get(name):
                return  # a child run again while its parent is being taken apart
            x, before = self.inputs[name].pop()
            if name in self.places:
                del self.places[name]
                self.refused[name] = self._several(name)
            elif name not in self.refused:
                self.examining = True
                written = before.changed()
                after = Untouched(module) if written else before
                try:
                    before.restore()
                    extra, rest = _extra(module, args, kwargs, set() if name in self.by_hand else handed(module))
                    own = [attribute for holder, attribute in written if not holder]
                    self.places[name] = self._place(name, module, x, (extra, rest), output, before, own)
                except WritesOnItselfError as error:
                    self.refused[name] = str(error)
                    self.writing.append(name)
                except RouteError as error:
                    self.refused[name] = str(error)
                except Exception as error:  # the block's own, met while its parts ran alone
                    self.refused[name] = f"its parts do not run alone ({type(error).__name__}: {error})"
                finally:
                    after.restore()
                    self.examining = False

        return hook

    def _several(self, name: str) -> str:
        """What to do with a block that runs several times in one forward."""
        around = [n for n, m in self.model.named_modules() if name.startswith(f"{n}.") and n and self.runs[n] > 1]
        part = min(around, key=len, default=name)
        who = "it" if part == name else f"{part!r}, of which it is a part,"
        return (
            f"{who} runs several times in one forward, and a site is decided once a call. Route that part by itself "
            f"and give it all its inputs as one batch: net = route(model.get_submodule({part!r}), method, example=...),"
            " y, trace = net(torch.cat([first, second])), y[:n], y[n:]"
        )

    def _place(
        self,
        name: str,
        block: nn.Module,
        x: Tensor,
        told: tuple[dict[str, Any], dict[str, Any] | None],
        output: Any,
        before: Untouched,
        written: list[str],
    ) -> Found:
        """A block taken apart.

        Args:
            name: the block's.
            block: as it was before it ran.
            x: what its forward got.
            told: what else, see `_extra`.
            output: what its forward gave.
            before: the block before it ran.
            written: attributes of its own that its forward changed. Parts given by hand may change them too.

        Raises:
            RouteError: with the reason why it cannot be used.
        """
        (extra, rest), whole = told, output
        output = output[0] if isinstance(output, (tuple, list)) and output else output
        if not isinstance(output, Tensor):
            raise RouteError("it does not return a tensor, or one first")
        batch = len(self.example)
        if x.dim() == 0 or x.shape[0] != batch or output.dim() == 0 or output.shape[0] != batch:
            raise RouteError("the first axis of its input or output is not the batch")
        if name in self.by_hand:
            residuals = self.by_hand[name]
            parts = split_by_hand(residuals, extra, rest, whole)
        else:
            parts = take_apart(block, x, extra, rest)
            lost = [attribute for attribute in written if attribute not in parts.settled]
            if lost:
                raise WritesOnItselfError(lost)
            before.restore()
        inputs = (x, *(extra[n] for n in parts.extra), *([Keywords(rest or {})] if parts.rest else ()))
        parts.settle(block)
        starts, y = [], x.clone()
        for residual in parts.residuals:
            if residual.pre is not None:
                y = part(residual.pre)(block, y, *inputs)
            starts.append(y.clone())
            branch = part(residual.branch)(block, y, *inputs)
            if not torch.equal(y.nan_to_num(), starts[-1].nan_to_num()):
                raise RouteError("its branch overwrites the block's input in place, which the shortcut then reads")
            y = part(residual.post)(block, part(residual.shortcut)(block, y, *inputs) + branch, *inputs)
        if y.shape != output.shape or not torch.equal(y.nan_to_num(), output.nan_to_num()):
            raise RouteError("its parts put together again do not give its output")
        forgotten = set(written) - {attribute for holder, attribute in before.changed() if not holder}
        if forgotten:
            raise WritesOnItselfError(sorted(forgotten))
        check_returned(block, parts, starts, whole, inputs)
        costs, items = [], []
        names = list(block.named_parameters(name, remove_duplicate=False))
        for number, (residual, start, held) in enumerate(zip(parts.residuals, starts, parts.params, strict=True)):
            if name in self.by_hand:
                with ParametersUsed() as used:
                    part(residual.branch)(block, start.clone(), *inputs)
                held = tuple(used.found.values())
            # One image alone: some work, such as a table of relative positions, is done once for the whole batch.
            one = [of_one(v, 0, batch) for v in inputs]
            run = partial(part(residual.branch), block, start[:1].clone(), *one)
            before.restore()  # what it remembers is of all images
            costs.append(Cost(count_macs(run), sum(p.numel() for p in held if id(p) not in self.tied)))
            ids = {id(p) for p in held}
            items.append(frozenset({sum_item(name, number), *(n for n, p in names if id(p) in ids)}))
        parts = replace(parts, residuals=tuple(map(partial(with_axis, block, inputs), parts.residuals, starts)))
        channels = tuple(s.shape[r.axis or 1] for s, r in zip(starts, parts.residuals, strict=True))
        return Found(name, parts, sum_names(name, parts), tuple(costs), channels, tuple(items))


def _extra(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], free: set[str]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What a module was called with beyond its input and its defaults: what its forward names, in the order of its
    signature, and what it hands on without naming it; None where it does not hand on all such. Of the names in ``free``
    also those with their defaults.

    Raises:
        RouteError: for values that its forward has no names for (``*args``).
    """
    parameters = list(inspect.signature(module.forward).parameters.values())
    if any(p.kind is p.VAR_POSITIONAL for p in parameters) and len(args) > 1:
        raise RouteError("its forward takes any values (*args) and was given some; let it name them")
    own = [p for p in parameters if p.kind is not p.VAR_KEYWORD]
    given = {**dict(zip((p.name for p in own), args, strict=False)), **kwargs}
    defaults = {p.name: p.default for p in own[1:]}
    named = {
        n: given.get(n, d)
        for n, d in defaults.items()
        if (n in free and d is None) or (n in given and given[n] is not d and not alike(given[n], d))
    }
    rest = {n: v for n, v in given.items() if n not in defaults and n != own[0].name} if own else {}
    return (named, rest) if hands_on_rest(module) else ({**named, **rest}, None)


def sum_names(module: str, parts: Split) -> tuple[str, ...]:
    """A name for each sum of a block, see `Found.sites`."""
    if len(parts.residuals) == 1:
        return (module,)
    children = [r.name for r in parts.residuals]
    if all(children) and len(set(children)) == len(children):
        return tuple(f"{module}.{child}" for child in children)
    return tuple(f"{module}.{i}" for i in range(len(children)))


def _may_be_residual(module: nn.Module) -> bool:
    """Whether to try: a module with children and a forward of its own, not one of torch's."""
    own = not type(module).__module__.startswith("torch.nn.")
    return own and next(module.children(), None) is not None
