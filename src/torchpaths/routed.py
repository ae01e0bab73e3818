"""The network: ``Routed``, a model whose parts can be open or closed, ``(x, path=None) -> (y, trace)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.errors import CallError, PathError
from torchpaths.inputs import Given, gather, main_of
from torchpaths.junction import Junction, junctions
from torchpaths.layout import Layout
from torchpaths.path import Path
from torchpaths.there import There
from torchpaths.trace import Call, Decider, Site, Slot, Trace, extent


class Routed(nn.Module):
    """A model whose parts can be open or closed: ``(x, path=None) -> (y, trace)``. Made by `torchpaths.route`.

    Threads may share it: every call has its own path and trace.

    Attributes:
        model: the original model with junctions in place of some blocks; parameters and state_dict keys as they were.
        deciders: site name (with ``/`` for ``.``) -> decider.
        sites: site name -> `Site`, in order of execution.
        layout: units and costs, the network as paths see it.
        example_shape: of one image of the example it was routed with, ``(C, H, W)``; empty where it was made by hand or
            takes lists of images.
    """

    def __init__(
        self, model: nn.Module, sites: tuple[Site, ...], layout: Layout, example_shape: tuple[int, ...] = ()
    ) -> None:
        """
        Args:
            model: a model in which junctions stand.
            sites: those that its junctions obey, in order of execution.
            layout: of the same sites.
            example_shape: see above.
        """
        super().__init__()
        self.model = model
        self.deciders = nn.ModuleDict()
        # Past ModuleDict's own check of names: a block may well be called "keys".
        self.deciders._modules.update({s.name.replace(".", "/"): s.decider for s in sites if s.decider is not None})
        self.sites = {s.name: s for s in sites}
        self.layout = layout
        self.example_shape = example_shape
        self.slot = Slot()
        self._counted = _count(model)
        for _, junction in junctions(model):
            junction._place.slot = self.slot
        self._there = There(self)

    @property
    def junctions(self) -> tuple[Junction, ...]:
        """The junctions of the model."""
        return tuple(junction for _, junction in junctions(self.model))

    def priced(self) -> Layout:
        """The layout, for costs.

        Raises:
            PathError: if parameters were added to the model or taken from it since its costs were counted.
        """
        now = _count(self.model)
        if now != self._counted:
            raise PathError(
                f"this network's costs are old: when they were counted it had {self._counted:,} parameters, now it has "
                f"{now:,}; a part of it was replaced, such as the head. Route it as it is now: "
                "route(plain(net), method, example=x); weights of gates can be loaded into that one."
            )
        return self.layout

    def check_places(self) -> None:
        """
        Raises:
            CallError: if a part that obeys a site was replaced, see `There`.
        """
        self._there.check()

    def forward(self, x: Any = None, *inputs: Any, path: Path | None = None, **more: Any) -> tuple[Any, Trace]:
        """
        Args:
            x: a batch, first axis the samples; a list of images, for models that take one; or all that the model takes,
                a mapping of names to values or a tuple of values in order. None where everything has a name.
            *inputs: the path, if the first of them is one; what else the model's own forward takes.
            path: units chosen from outside; sites it does not name decide for themselves.
            **more: what else the model's own forward takes by name, such as a detector's ``targets``.

        Returns:
            The model's output and what happened.

        Raises:
            PathError: if the path does not fit this network or this batch.
            CallError: in a replica of ``nn.DataParallel``; if a part that obeys a site was replaced, see `There`.
        """
        path, inputs = self._chosen(path, inputs)
        if not torch.compiler.is_compiling():
            self.check_places()
        args, more, (batch, device) = self._gathered(x, inputs, more)
        if path is not None:
            path.check(self.layout, batch)
        call = Call(path, batch, device, torch.is_grad_enabled())
        slot, holder, key = self.slot, self.slot.holder, 0 if torch.compiler.is_dynamo_compiling() else id(call)
        before = holder.call
        try:
            slot.running[key] = None
            holder.call = call
            y = self.model(*args, **more)
        finally:
            holder.call = before
            slot.running.pop(key, None)
        return y, self._finished(call)

    def _gathered(
        self, x: Any, inputs: tuple[Any, ...], more: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any], tuple[int, torch.device]]:
        """What the model is called with, in order and by name; how many samples, and where they are.

        Raises:
            CallError: if there is no batch.
        """
        if isinstance(x, Tensor) and x.dim() > 0:
            return (x, *inputs), more, extent(x)
        given = gather(self.model, x)
        args, kwargs = (given.args, {**given.kwargs, **more}) if isinstance(given, Given) else ((x,), more)
        if x is None:
            args = ()
        main = given if isinstance(given, (Given, list, tuple)) else main_of(self.model, (*args, *inputs), kwargs)[0]
        if main is None or (isinstance(main, (list, tuple)) and not all(isinstance(v, Tensor) for v in main)):
            raise CallError(
                f"a call with {type(x).__name__} and no tensor for a batch; give net(x), net(name=x), a mapping of "
                "names to values, or a list of images."
            )
        return (*args, *inputs), kwargs, extent(main)

    def _finished(self, call: Call) -> Trace:
        """The trace of a call.

        Raises:
            CallError: for a path that names a site that did not run, in evaluation.
        """
        trace = call.finish(self.layout.inside)
        path = call.path
        if path is None or self.training or torch.compiler.is_dynamo_compiling() or len(trace) == len(self.sites):
            return trace
        for site in path:
            around = self.layout.inside.get(site, ())
            closed = any(s not in trace or trace[s].whole != (True,) * len(self.layout.sites[s]) for s, _ in around)
            if site not in trace and not closed:
                raise CallError(
                    f"the path names site {site!r}, which did not run: its block {self.sites[site].modules[0]!r} was "
                    "replaced after route, runs in a thread that the model's own forward started, or not at all. Route "
                    "the model as it is now, or leave the site out of the path."
                )
        return trace

    def _chosen(self, path: Path | None, inputs: tuple[Any, ...]) -> tuple[Path | None, tuple[Any, ...]]:
        """The path, by position or name, and the model's further inputs."""
        if inputs and path is None and (isinstance(inputs[0], Path) or (inputs[0] is None and len(inputs) == 1)):
            path, inputs = inputs[0], inputs[1:]
        for given in (path, *inputs):
            if isinstance(given, Mapping) and not isinstance(given, Path) and not self.sites.keys().isdisjoint(given):
                raise PathError(f"a {type(given).__name__} of sites is no path; say Path({{...}}).")
        if path is not None and not isinstance(path, Path):
            raise PathError(f"path={path!r} is no path; give a torchpaths.Path, Path({{site: bools}}).")
        if inputs and (isinstance(inputs[0], str) or _are_bools(inputs[0])):
            raise PathError(
                f"{inputs[0]!r} is no path; a depth is made by its method, method.path(net, {inputs[0]!r}), any other "
                "path is Path({site: bools})."
            )
        if getattr(self, "_is_replica", False):
            raise CallError(
                "this is a replica that nn.DataParallel made of a routed network: its junctions would run on the first "
                "device's weights. Use DistributedDataParallel, a process for each device, or one device."
            )
        return path, inputs

    def __repr__(self) -> str:
        layout = self.layout
        rows = [("site", "units", "MACs", "of plain", "params", "decider")]
        for site in self.sites.values():
            cost = layout.saved(site.name)
            share = f"{cost.macs / layout.plain.macs:.1%}"
            rows.append(
                (site.name, str(len(site.units)), f"{cost.macs:,}", share, f"{cost.params:,}", _name(site.decider))
            )
        fixed, plain = layout.fixed, layout.plain
        rows.append(("always runs", "", f"{fixed.macs:,}", f"{fixed.macs / plain.macs:.1%}", f"{fixed.params:,}", ""))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = [
            "  ".join(
                c.ljust(w) if i in (0, 5) else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))
            ).rstrip()
            for r in rows
        ]
        lines.insert(1, "-" * max(map(len, lines)))
        title = (
            f"Routed {layout.network}: {len(layout.units)} units at {len(self.sites)} sites; "
            f"plain {plain.macs:,} MACs, {plain.params:,} parameters"
        )
        return "\n".join([title, *lines])


def _count(model: nn.Module) -> int:
    """Parameters, and those of layers that keep theirs in eight bits, packed, where `parameters` does not show them."""
    packed = (m for m in model.modules() if "_packed_params" in m._modules)
    more = (int(m.out_features) * (int(m.in_features) + (m.bias() is not None)) for m in packed)  # type: ignore[arg-type, operator]
    return sum(p.numel() for p in model.parameters()) + sum(more)


def _are_bools(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(v, bool) for v in value)


def _name(decider: Decider | None) -> str:
    """In one line of a table: a decider that does not describe itself in one bears its class's name."""
    if decider is None:
        return "always open"
    return type(decider).__name__ if "\n" in repr(decider) else repr(decider)
