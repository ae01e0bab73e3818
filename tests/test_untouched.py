"""A model is as it was after whatever happened to it, and nobody else notices that it is being taken apart."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
import untouched_laws
from block_toys import WIDTH, Bare, Basic, chain
from torchpaths.errors import RouteError
from torchpaths.places.untouched import Untouched
from toys import TOYS, toy


class Writing(Bare):
    """``x + conv(x)``, and something written on the block, or on what it holds."""

    counts: Tensor

    def __init__(self, write: Callable[[Any, Tensor], object]) -> None:
        super().__init__()
        self.write = write
        self.frame = torch.zeros(1)
        self.count = 0
        self.log: list[Any] = []
        self.cache: OrderedDict[str, int] = OrderedDict()
        self.nested: dict[str, Any] = {"inner": {"seen": []}}
        self.recent: deque[Any] = deque([1, 2], maxlen=2)
        self.notes = SimpleNamespace(last=None)
        self.register_buffer("counts", torch.tensor([float("nan"), -0.0]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        self.write(self, y)
        return x + y  # type: ignore[no-any-return]


def _count(block: Any, y: Tensor) -> None:
    block.count += 1


def _buffer(block: Any, y: Tensor) -> None:
    block.counts = y.mean((1, 2, 3))


def _delete(block: Any, y: Tensor) -> None:
    block.__dict__.pop("frame", None)


WRITES: dict[str, tuple[Callable[[Any, Tensor], object], str]] = {
    "an attribute": (lambda block, y: setattr(block, "frame", y), "frame"),
    "a new attribute": (lambda block, y: setattr(block, "map", y), "map"),
    "no attribute any more": (_delete, "frame"),
    "a counter": (_count, "count"),
    "a list": (lambda block, y: block.log.append(y), "log"),
    "a queue": (lambda block, y: block.recent.append(y), "recent"),
    "a nested dict": (lambda block, y: block.nested["inner"]["seen"].append(y), "nested"),
    "an object": (lambda block, y: setattr(block.notes, "last", y), "notes"),
    "a buffer": (_buffer, "counts"),
    "a buffer in place": (lambda block, y: block.counts.fill_(0.0), "counts"),
    "a tensor in place": (lambda block, y: block.frame.add_(y.mean()), "frame"),
    "a module": (lambda block, y: block.add_module("late", nn.ReLU()), "late"),
    "a child": (lambda block, y: setattr(block.conv, "map", y), "conv.map"),
    "its own flag": (lambda block, y: setattr(block, "training", True), "training"),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_block_that_writes_on_itself_is_refused_by_name_and_is_as_it_was(what: str) -> None:
    write, name = WRITES[what]
    model, x = chain(block=Writing(write))
    before = untouched_laws.attributes(model)
    with pytest.raises(RouteError, match=rf"block: its forward writes on the block itself \('{name}'"):
        tp.route(model, example=x)
    assert untouched_laws.attributes(model) == before
    with torch.no_grad():
        assert isinstance(model(x), Tensor)


def test_among_blocks_that_do_not_it_stays_as_it_is_and_the_user_is_told() -> None:
    model, x = chain(block1=Writing(WRITES["an attribute"][0]), block2=Basic())
    with pytest.warns(UserWarning, match=r"block 'block1' is not routed and stays as it is: .*'frame'"):
        net = tp.route(model, example=x)
    assert list(net.sites) == ["block2"]
    net(x[:3])
    assert isinstance(model.block1, Writing)
    assert model.block1.frame.shape[0] == 3, "it goes on writing"


def test_whoever_asks_for_its_site_reads_why_it_has_none() -> None:
    model, x = chain(block1=Writing(WRITES["an attribute"][0]), block2=Basic())
    with pytest.warns(UserWarning, match="block1"), pytest.raises(RouteError, match=r"(?s)block1.*refused.*'frame'"):
        tp.route(model, tp.GatedBlocks(sites=("block1",)), example=x)


class Kept(nn.Conv2d):
    """A layer that keeps what it gave."""

    last: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = super().forward(x)
        return self.last


def test_the_remedy_a_child_that_keeps_it_is_routed() -> None:
    block = Bare()
    block.conv = Kept(WIDTH, WIDTH, 3, padding=1)
    model, x = chain(block=block)
    before = untouched_laws.attributes(model)
    net = tp.route(model, example=x)
    assert untouched_laws.attributes(net.model) == before
    net(x[:3])
    assert block.conv.last is not None
    assert block.conv.last.shape[0] == 3


class Once(Bare):
    """A block that makes a table on its first run."""

    table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.table is None:
            self.table = torch.ones(1, WIDTH, 1, 1)
        return x + self.conv(x * self.table)  # type: ignore[no-any-return]


def test_the_remedy_a_run_before_routing_makes_what_is_only_made_once() -> None:
    model, x = chain(block=Once())
    with pytest.raises(RouteError, match=r"'table'.*if the model runs once before"):
        tp.route(model, example=x)
    with torch.no_grad():
        want = model(x)
        net = tp.route(model, example=x)
        assert torch.equal(net(x)[0], want)
        assert torch.isfinite(tp.extract(net, ~tp.Path.full(net))(x)).all()


class Frames(nn.Module):
    """A block that adds to its input what it remembers of the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.frame = torch.zeros(1)

    def keep(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x + 0.5 * self.frame)
        self.frame = y.detach()
        return y

    def forward(self, x: Tensor) -> Tensor:
        return x + self.keep(x)


def keeping(block: Frames, x: Tensor) -> Tensor:
    return block.keep(x)


def forgetting(block: Frames, x: Tensor) -> Tensor:
    y: Tensor = block.conv(x + 0.5 * block.frame)
    return y


def same(block: nn.Module, x: Tensor) -> Tensor:
    return x


def test_by_hand_such_a_block_is_taken_where_its_parts_write_what_it_writes() -> None:
    (model, x), (plain, _) = chain(block=Frames()), chain(block=Frames())
    with pytest.raises(RouteError, match=r"'block', given by hand.*writes on the block itself \('frame'\)"):
        tp.route(model, example=x, residuals={"block": tp.Residual(forgetting, same, same)})
    net = tp.route(model, example=x, residuals={"block": tp.Residual(keeping, same, same)})
    with torch.no_grad():
        for scale in (1, 2):
            assert torch.equal(net(scale * x)[0], plain(scale * x))


@pytest.mark.parametrize("network", TOYS)
def test_every_network_is_as_it_was_after_a_refusal_and_after_routing(network: str) -> None:
    model, x = toy(network)
    model.train()
    next(model.children()).eval()  # a frozen part
    model.register_forward_hook(lambda module, args, output: None)
    untouched_laws.check_a_refused_model_is_untouched(model, x)
    untouched_laws.check_a_routed_model_keeps_its_attributes(model, x)


def test_what_was_changed_is_named_and_put_back_bit_for_bit() -> None:
    block = Writing(lambda block, y: None).eval()
    before = Untouched(block)
    seen = untouched_laws.attributes(block)
    assert before.changed() == ()
    for write, name in WRITES.values():
        write(block, torch.ones(2, 3, 4, 5))
        holder, _, attribute = name.rpartition(".")
        assert before.changed() == ((holder, attribute),)
        before.restore()
        assert before.changed() == ()
        assert untouched_laws.attributes(block) == seen


CALL, GETATTR = nn.Module.__call__, nn.Module.__getattr__


class Watching(Bare):
    """A block that looks, whenever its forward runs, whether modules are called as ever."""

    seen: list[bool]

    def forward(self, x: Tensor) -> Tensor:
        Watching.seen.append(nn.Module.__call__ is CALL and nn.Module.__getattr__ is GETATTR)
        return x + self.conv(x)  # type: ignore[no-any-return]


def test_the_order_of_what_was_used_last_is_a_change_too() -> None:
    block = Writing(_count)
    block.cache = OrderedDict[str, int](a=1, b=2)
    before = Untouched(block)
    assert before.changed() == ()
    block.cache.move_to_end("a")
    assert before.changed() == (("", "cache"),)
    before.restore()
    assert list(block.cache) == ["a", "b"]


def test_modules_are_called_as_ever_while_a_block_is_recorded() -> None:
    Watching.seen = []
    model, x = chain(block=Watching())
    tp.route(model, example=x)
    assert len(Watching.seen) > 3
    assert all(Watching.seen)


def test_a_network_of_another_thread_runs_on_while_models_are_routed_and_cut() -> None:
    other, x = chain(seed=1)
    with torch.no_grad():
        want = other(x)
    wrong: list[object] = []
    runs, stop = [0], threading.Event()

    def serve() -> None:
        while not stop.is_set():
            try:
                with torch.no_grad():
                    if not torch.equal(other(x), want):
                        wrong.append("another answer")
            except BaseException as error:
                wrong.append(error)
            runs[0] += 1

    def cut() -> None:
        try:
            for seed in range(4):
                model, y = chain(seed)
                net = tp.route(model, example=y)
                tp.extract(net, ~tp.Path.full(net))
        except BaseException as error:
            wrong.append(error)

    server = threading.Thread(target=serve)
    cutters = [threading.Thread(target=cut) for _ in range(2)]
    for thread in (server, *cutters):
        thread.start()
    for thread in cutters:
        thread.join()
    stop.set()
    server.join()
    assert not wrong
    assert runs[0] > 10
