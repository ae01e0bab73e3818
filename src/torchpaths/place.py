"""``Place``: one module of a network, and how to run it with some of its units closed."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torchpaths.errors import CallError
from torchpaths.path import Bools
from torchpaths.trace import Call, Decision, Pooling, Site, Slot


class Place(ABC):
    """One module of a network, and how to run it with units closed.

    Attributes:
        block: the module; with places in one another it is the inner one's junction.
        sites: the sites it obeys, referred to (`Routed` owns their deciders).
        slot: where the call in progress is; `Routed` gives all its places the same one.
        first: the name of its forward's first argument, by which its input may be given.
        calls: whether `run` calls the block as such, whose hooks then fire there; otherwise the junction fires them.
        rectifies: whether its output is known to be the output of a ReLU, along every path.
        kept: of the block's weights, from call to call; forgotten on the way from training to evaluation and back.
    """

    calls: bool = False
    rectifies: bool = False
    kept: Any = None

    def __init__(self, block: nn.Module, sites: tuple[Site, ...]) -> None:
        """
        Args:
            block: the module it is about.
            sites: see above.
        """
        self.block = block
        self.sites = sites
        self.slot = Slot()
        inner = block.__dict__["_place"].block if "_place" in block.__dict__ else block  # behind a junction
        self.first = next(iter(inspect.signature(inner.forward).parameters), "")

    @property
    def more(self) -> dict[str, nn.Module]:
        """Modules of its own beside the block, by the names they bear in state dictionaries."""
        return {}

    @property
    def parts(self) -> dict[str, nn.Module]:
        """What stands in this place as modules with names, for tools that go from child to child."""
        return {**self.block._modules, **self.more}  # type: ignore[dict-item]

    def put(self, name: str, module: nn.Module) -> bool:
        """Replace one of its `parts` that is no child of the block; whether ``name`` is one."""
        return False

    @property
    def training(self) -> bool:
        return self.block.training

    @property
    def call(self) -> Call | None:
        """The call in progress in this thread; None outside any."""
        return self.slot.current

    def decide(self, site: Site, x: Tensor, pool: Pooling) -> tuple[Tensor, Decision | None]:
        """The decision for one of its sites, None (open) outside any call; and ``x`` to go on with.

        Raises:
            CallError: when activation checkpointing runs this place again after its call has ended, or runs it
                without gradients: both would silently give wrong gradients. Also as `Call.decide`.
        """
        call = self.call
        if call is None:
            if torch.compiler.is_dynamo_compiling():
                if len(self.slot.running) == 0:
                    return x, None
                found: tuple[Tensor, Decision | None] = _outside(self, site, x, pool)
                return found
            if torch._C._current_graph_task_id() != -1:
                raise CallError(
                    f"site {site.name!r} ran again inside a backward pass, after its call had ended: activation "
                    "checkpointing around parts of a routed model cannot see the path. Turn it off, such as by timm's "
                    "net.model.set_grad_checkpointing(False) or transformers' "
                    "net.model.gradient_checkpointing_disable(), and checkpoint the whole routed network's call "
                    "instead, torch.utils.checkpoint.checkpoint(net, x, path, use_reentrant=False)."
                )
            return x, None
        if call.grad and self.training and not torch.is_grad_enabled():
            raise CallError(
                f"site {site.name!r} ran without gradients inside a call with them: reentrant checkpointing drops the "
                "trace's gradient. Turn it off, such as by net.model.gradient_checkpointing_disable(), and use "
                "torch.utils.checkpoint.checkpoint(..., use_reentrant=False) around the whole call."
            )
        return call.decide(site, x, pool)

    def note(self, site: Site, name: str, measure: Callable[[], Tensor]) -> None:
        """Add what the place measures to the response of a decision already taken; nothing outside any call."""
        call = self.call
        if call is not None:
            call.note(site, name, measure())
        elif torch.compiler.is_dynamo_compiling() and len(self.slot.running) > 0:
            _note_outside(self, site, name, measure)

    @abstractmethod
    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the block's forward gives, with what is closed in the call in progress left out or masked."""

    @abstractmethod
    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        """The module that computes what this place computes along a path, without this place.

        Args:
            opened: each of its sites -> its units. Further sites are passed over.
            rectified: its input is known to be the output of a ReLU, so that a ReLU of it may be left out.

        Returns:
            A module of torch or of the original library that shares its parameters and runs without torchpaths; or the
            block, which may be the junction of a place inside this one. Where nothing is left to do it hands on its own
            input: whoever puts it into a network sees to it that nobody writes into that.
        """


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _outside(place: Place, site: Site, x: Tensor, pool: Pooling) -> tuple[Tensor, Decision | None]:
    """A decision where a part of a network is compiled by itself, and calls were made outside."""
    call = place.slot.current
    return (x, None) if call is None else call.decide(site, x, pool)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _note_outside(place: Place, site: Site, name: str, measure: Callable[[], Tensor]) -> None:
    call = place.slot.current
    if call is not None:
        call.note(site, name, measure())
