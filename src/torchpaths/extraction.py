"""``extract``: the network along one path, cut out: a plain module, physically smaller, that runs without torchpaths.

ConvNet-AIG's inference graphs, a class's active filters, a codeword and a depth are all paths of the whole batch, so
one function cuts all of them. What is closed is gone with its parameters; a block of which nothing is left is taken out
of its ``nn.Sequential`` or ``nn.ModuleList`` and those behind it move up, so that the result is the library's own
network with fewer blocks. Nothing is returned that was not compared with the routed network first.
"""

from __future__ import annotations

import copy
import enum
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from torchpaths.chosen import OperatingPoint, fixed_path
from torchpaths.configs import fitted, is_pretrained, note
from torchpaths.copies import copied
from torchpaths.costs import evaluating
from torchpaths.differences import difference
from torchpaths.errors import PathError, RouteError
from torchpaths.head import check_rows, head_of, with_rows
from torchpaths.inputs import call, gather, shape_of
from torchpaths.junction import Junction
from torchpaths.path import Bools, Path
from torchpaths.places.residual.along import copying, hands_on, is_chain, leaves_nothing, rectified_junctions
from torchpaths.routed import Routed
from torchpaths.routing import as_routed


class _Form(enum.Enum):
    """What becomes of a block of which nothing is left."""

    REMOVED = enum.auto()
    """Taken out of its list, those behind it move up."""
    KEPT = enum.auto()
    """Hands on its input."""
    SAFE = enum.auto()
    """Copies its input wherever somebody else might hold on to it, so that in-place layers cannot overwrite it."""


def plain(net: Routed, path: Path | None = None) -> nn.Module:
    """The network along a path without junctions and deciders, by reference: it shares all parameters with ``net``.

    A new tree of modules from which only closed parts are missing: blocks keep their names, and where nothing is left
    of one stands an ``nn.Identity`` or a copy. Layers that lose some of their channels hold copies of what is left of
    their weights, so that later changes of ``net`` are not seen there. Not compared with ``net`` as in `extract`.
    Training flags are those of ``net``.

    Args:
        net: a routed network; it is not changed.
        path: one for the whole batch that names every site; None for everything open, which is the original network.

    Raises:
        PathError: for a path that does not fit, that is per sample, or that leaves sites to decide.
        RouteError: for a block given by hand whose functions cannot be traced.
    """
    opened = _choices(net, Path.full(net) if path is None else path)
    return _Cutter(net, opened, _Form.SAFE).cut.module


def extract(
    net: nn.Module, path: Path | OperatingPoint, *, classes: Sequence[int] | None = None, example: Any = None
) -> nn.Module:
    """The network along a path as a plain module of its own: the original library's classes, fewer weights.

    It shares nothing with ``net`` and contains nothing of torchpaths. Blocks of which nothing is left are taken out of
    their ``nn.Sequential`` or ``nn.ModuleList`` and those behind them move up; where the network would not stand that
    they stay as ``nn.Identity``. What comes out was compared with ``net(x, path)`` in evaluation mode.

    Args:
        net: a routed network in any mode, on any device, or a plain one, which is then routed as it stands,
            ``route(net, example=example)``; it is not changed.
        path: one for the whole batch that names every site, or a point of a front that is one path for all images.
        classes: numbers of the classes whose scores are kept, in this order; the head keeps their rows. None: all.
        example: what to compare on, as for `torchpaths.route`; None for two images of noise of ``net.example_shape``.

    Returns:
        ``x -> y``, with training flags as in ``net``.

    Raises:
        PathError: for a path that does not fit, that is per sample, or that leaves sites to decide, as gates of a
            front's point do.
        RouteError: if the network does not take the example or gives values that are not finite, if it does not know
            these classes or has no head of one layer, or if the cut network does not give the same output.
    """
    routed = as_routed(net, example)
    return copy.deepcopy(cut_out(routed, fixed_path(path), example, classes).module)


@dataclass(frozen=True)
class Cut:
    """A network along a path, and what was done to the original to get there.

    Attributes:
        module: the plain network; it shares parameters and buffers with the routed one.
        left: name of a block or layer in the original -> what stands in its place now, for those with something closed
            that were not taken out.
        kept: name of an ``nn.Sequential`` or ``nn.ModuleList`` of blocks -> {name of each child now: its old name}.
    """

    module: nn.Module
    left: dict[str, nn.Module] = field(default_factory=dict)
    kept: dict[str, dict[str, str]] = field(default_factory=dict)


def cut_out(net: Routed, path: Path, example: Any = None, classes: Sequence[int] | None = None) -> Cut:
    """What `extract` copies, in the smallest form that gives the same output. Arguments and errors as there."""
    opened = _choices(net, path)
    name = net.layout.network
    x = noise(net) if example is None else gather(net.model, example)
    expected = run(net, x, path=path)
    if not all(bool(y.isfinite().all()) for y in expected):
        raise RouteError(
            f"the routed {name} gives values that are not finite for the example, so nothing can be compared; "
            "its weights have diverged, or the example holds such values: give another one or load other weights."
        )
    head = None
    if classes is not None:
        with torch.no_grad(), evaluating(net):
            head = head_of(net.model, lambda: call(net, x, path=path)[0])
        expected = [y[:, check_rows(net.model, head, classes)] for y in expected]
    differences = []
    for form in _Form:
        cut = _Cutter(net, opened, form).cut
        if head is not None and classes is not None:
            cut.left[head] = with_rows(cut.module, _now(cut.module, net, head), classes)
        try:
            got = run(cut.module, x)
        except RouteError:
            if form is _Form.SAFE:
                raise
            continue  # something counts on the number of blocks
        differences.append(difference(got, expected))
        if differences[-1] <= 1 and _configured(net, cut, opened, classes, form):
            return cut
    raise RouteError(
        f"the cut {name} differs from the routed one along this path {min(differences):.3g} times as much as allowed, "
        "so it is not returned. Something in it depends on more than its input: a hook, a cache, or chance in "
        "evaluation mode."
    )


def _configured(net: Routed, cut: Cut, opened: Mapping[str, Bools], classes: Sequence[int] | None, form: _Form) -> bool:
    """Let the configuration of a model of transformers say what is left; whether there is one that does.

    What is left of layers and stages no configuration says: such a network is saved by `torchpaths.save_cut`.
    """
    if not is_pretrained(cut.module):
        return True
    own: Any = cut.module
    blocks = all(site.kind == "block" for site in net.sites.values())
    if not blocks and cut.left:
        return True
    lists = {name: net.model.get_submodule(name)._modules for name in cut.kept}
    left = {name: {new: _block(lists[name][old]) for new, old in names.items()} for name, names in cut.kept.items()}
    config = fitted(own, left, {name: len(children) for name, children in lists.items()}, classes)
    if config is None and form is not _Form.SAFE:
        return False  # blocks that stay in their places may be closed one by one
    if config is not None:
        if blocks:
            note(config, opened, cut.kept, net.example_shape)
        for module in own.modules():
            if getattr(module, "config", None) is own.config and module is not own:
                module.config = config
        own.config = config
    return True


def _block(module: nn.Module | None) -> nn.Module:
    """What stands behind the junctions in a place."""
    while isinstance(module, Junction):
        module = module._place.block
    assert module is not None
    return module


def _now(cut: nn.Module, net: Routed, name: str) -> str:
    """What a layer of the original is called in a cut network, where those behind something taken out moved up."""
    weight = net.model.get_submodule(name).weight
    return next((n for n, layer in cut.named_modules() if getattr(layer, "weight", None) is weight), name)


def _choices(net: Routed, path: Path) -> dict[str, Bools]:
    """A path for the whole batch that names every site, as a dictionary."""
    if path.batch is not None:
        raise PathError(
            f"a path for {path.batch} samples, each its own, is no single network; take one sample's: path[0]."
        )
    path.check(net.layout)
    missing = [site for site in net.sites if site not in path]
    if missing:
        try:
            bits = path.opened(net.layout)[0].tolist()
        except PathError as error:
            raise PathError(
                f"the path leaves {len(missing)} sites to decide for themselves ({', '.join(missing[:3])}), which a "
                "cut network cannot; choose them too, e.g. path & Path.full(net) to keep them open."
            ) from error
        units = iter(bits)
        return {site: tuple(next(units) for _ in members) for site, members in net.layout.sites.items()}
    return {site: path[site] for site in net.sites}


class _Cutter:
    """Cuts the junctions of a new tree of modules over the parameters and buffers of a routed network."""

    def __init__(self, net: Routed, opened: Mapping[str, Bools], form: _Form) -> None:
        tensors = itertools.chain(net.model.parameters(), net.model.buffers())
        shared: Iterable[Any] = itertools.chain(tensors, net.sites.values())
        self.cut = Cut(copied(net.model, shared))
        self.opened = opened
        self.form = form
        self.rectified = rectified_junctions(self.cut.module)
        self._made: dict[nn.Module, nn.Module] = {}
        self._inside(self.cut.module, "", owned=False)

    def _inside(self, parent: nn.Module, prefix: str, owned: bool) -> None:
        """Replace the junctions among a module's descendants, outer ones first.

        Args:
            prefix: the module's name in the original, with a dot.
            owned: nobody but this module can still use its input.
        """
        chain = is_chain(parent)
        blocks = {}
        for name, child in [(name, child) for name, child in parent._modules.items() if child is not None]:
            module = self._made.get(child, child)  # it may have another name, under which it was cut
            if isinstance(module, Junction):
                while isinstance(module, Junction):
                    module = module._place.cut(self.opened, child in self.rectified)
                empty = blocks[name] = leaves_nothing(module)
                if empty and hands_on(module) and self.form is _Form.SAFE and not (chain and owned):
                    module = copying(module)
            if isinstance(child, Junction):
                setattr(parent, name, module)
                if leaves_nothing(module) or module is not _block(child):
                    self.cut.left[prefix + name] = module
            if child not in self._made:
                self._made[child] = module
                self._inside(module, f"{prefix}{name}.", chain and owned)
            # What computes with parameters gives a new value, which only the next in the chain gets to see.
            owned = owned or next(module.parameters(), None) is not None
        if blocks and isinstance(parent, (nn.Sequential, nn.ModuleList)):
            gone = [name for name, empty in blocks.items() if empty and self.form is _Form.REMOVED]
            names = renamed(list(parent._modules), gone)
            self.cut.kept[prefix.removesuffix(".")] = names
            children = {new: parent._modules[old] for new, old in names.items()}
            parent._modules.clear()
            parent._modules.update(children)
            for name in gone:
                del self.cut.left[prefix + name]


def renamed(names: list[str], gone: list[str]) -> dict[str, str]:
    """What children are called once some are gone: new name -> old name.

    Where all are numbered without gaps (``0``, ``layer_0``), those that stay are again.
    """
    left = [name for name in names if name not in gone]
    numbered = [m for m in (re.fullmatch(r"(.*?)(\d+)", name) for name in names) if m is not None]
    found = [(m.group(1), int(m.group(2))) for m in numbered]
    gapless = len(found) == len(names) and found == [(found[0][0], found[0][1] + i) for i in range(len(found))]
    return dict(zip(names if gapless else left, left, strict=False))


def noise(net: Routed) -> Tensor:
    """Two images of noise, the same every time, where and in the precision the network's parameters are."""
    if not net.example_shape:
        raise RouteError("this network does not know what its images look like; give extract(net, path, example=x).")
    parameter = next((p for p in net.parameters() if p.is_floating_point()), torch.zeros(()))
    x = torch.randn(2, *net.example_shape, generator=torch.Generator().manual_seed(0))
    return x.to(parameter.device, parameter.dtype)


def run(model: nn.Module, x: Any, **more: Any) -> list[Tensor]:
    """The tensors that a network returns in evaluation mode, without the trace of a routed one.

    Raises:
        RouteError: if it does not take ``x``.
    """
    try:
        with torch.no_grad(), evaluating(model):
            y = call(model, x, **more)
    except Exception as error:
        reason = str(error).strip().split("\n")[0][:200]
        what = f"the routed {model.layout.network}" if isinstance(model, Routed) else f"the cut {type(model).__name__}"
        raise RouteError(
            f"{what} does not take the example of shape {shape_of(x)} ({type(error).__name__}: {reason}); "
            "give example=x, images that net(x) accepts."
        ) from error
    return [leaf for leaf in tree_leaves(y[0] if isinstance(model, Routed) else y) if isinstance(leaf, Tensor)]
