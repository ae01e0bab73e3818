"""A call's state is its own: threads, calls within calls, copies in the middle, interrupts; and what is no path."""

from __future__ import annotations

import copy
import pickle
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from block_toys import Basic, chain
from torchpaths.errors import CallError, PathError
from torchpaths.skips.network import skipping

KINDS: dict[str, Callable[[tp.Routed], tp.Routed]] = {"routed": lambda net: net, "skipping": skipping}


def network(kind: str = "routed", method: tp.Method | None = None) -> tuple[tp.Routed, Tensor]:
    model, x = chain(0, block1=Basic(), block2=Basic(), block3=Basic())
    return KINDS[kind](tp.route(model, method, example=x).eval()), x


def idle(net: tp.Routed) -> bool:
    """Whether no place of a network is in a call."""
    return all(junction._place.call is None for junction in net.junctions)


@pytest.mark.parametrize("kind", KINDS)
def test_threads_that_share_a_network_each_get_their_own_path_and_trace(kind: str) -> None:
    net, x = network(kind, tp.GatedBlocks())
    paths = [tp.Path.full(net), ~tp.Path.full(net), tp.Path({"block2": False, "block1": True, "block3": True})]
    with torch.no_grad():
        expected = [net(x, path)[0] for path in paths]
    wrong: list[str] = []
    start = threading.Barrier(len(paths))

    def serve(path: tp.Path, answer: Tensor) -> None:
        start.wait()
        for _ in range(50):
            with torch.no_grad():
                y, trace = net(x, path)
            if not torch.equal(y, answer):
                wrong.append("output")
            if any(trace[site].whole != path[site] for site in path):
                wrong.append("trace")

    threads = [threading.Thread(target=serve, args=pair) for pair in zip(paths, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert idle(net)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_within_a_call_has_its_own_path_and_gives_the_outer_one_back(kind: str) -> None:
    net, x = network(kind)
    shut = ~tp.Path.full(net)
    with torch.no_grad():
        want_open, want_shut = net(x)[0], net(x, shut)[0]
    inner: list[Tensor] = []

    def look(*_: Any) -> None:
        if not inner:
            inner.append(torch.empty(0))
            inner[0] = net(x, tp.Path.full(net))[0]

    net.model.get_submodule("block2").register_forward_hook(look)
    with torch.no_grad():
        y, trace = net(x, shut)
    assert torch.equal(y, want_shut)
    assert torch.equal(inner[0], want_open)
    assert [trace[site].whole for site in net.sites] == [(False,)] * 3


def test_a_call_within_a_call_that_fails_gives_the_outer_one_back() -> None:
    net, x = network()
    shut = ~tp.Path.full(net)
    want = net(x, shut)[0]

    def fail(*_: Any) -> None:
        with pytest.raises(RuntimeError):
            net(x[:, :1])

    handle = net.model.get_submodule("block1").register_forward_hook(fail)
    y, trace = net(x, shut)
    handle.remove()
    assert torch.equal(y, want)
    assert len(trace) == 3


class Copying(nn.Module):
    """Copies a network while it runs."""

    copies: list[Any]
    of: Any

    def __init__(self) -> None:
        super().__init__()
        self.__dict__["copies"] = []
        self.__dict__["of"] = None

    def forward(self, x: Tensor) -> Tensor:
        net, self.__dict__["of"] = self.of, None
        if net is not None:
            self.copies.extend([copy.deepcopy(net), pickle.loads(pickle.dumps(net))])
        return x


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_made_during_a_call_is_in_none(kind: str) -> None:
    model, x = chain(0, block1=Basic(), copying=Copying(), block2=Basic())
    net = KINDS[kind](tp.route(model.eval(), example=x))
    copying: Any = net.model.get_submodule("copying")
    with torch.no_grad():
        want = net(x)[0]
        copying.__dict__["of"] = net
        net(x, ~tp.Path.full(net))
    assert len(copying.copies) == 2
    for other in copying.copies:
        assert idle(other)
        with torch.no_grad():
            assert torch.equal(other.model(x), want)
            assert len(other(x)[1]) == 2
    assert idle(net)


def test_places_of_a_copy_find_the_copys_calls() -> None:
    net, x = network()
    other = copy.deepcopy(net)
    assert other.slot is not net.slot
    assert all(junction._place.slot is other.slot for junction in other.junctions)
    assert not other(x, ~tp.Path.full(other))[1]["block1"].open.any()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers on this system")
def test_interrupts_at_any_moment_leave_no_call_behind() -> None:
    net, x = network(method=tp.GatedBlocks())
    shut = ~tp.Path.full(net)
    with torch.no_grad():
        want = net.model(x)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    draw = torch.Generator().manual_seed(0)
    try:
        for _ in range(60):
            try:
                signal.setitimer(signal.ITIMER_REAL, float(torch.rand((), generator=draw)) * 1e-3 + 1e-5)
                while True:
                    net(x, shut)
            except KeyboardInterrupt:
                interrupted += 1
            assert idle(net)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted == 60
    with torch.no_grad():
        assert torch.equal(net.model(x), want)


# Compiling a part of a network only.


def test_a_block_compiled_by_itself_obeys_each_call() -> None:
    net, x = network()
    want = {path: net(x, path)[0] for path in (tp.Path.full(net), ~tp.Path.full(net))}
    block = net.model.get_submodule("block2")
    net.model.block2 = torch.compile(block, backend="eager")  # type: ignore[assignment]
    for _ in range(2):
        for path, y in want.items():
            torch.testing.assert_close(net(x, path)[0], y)
    assert torch.equal(net.model(x), want[tp.Path.full(net)])


# What is given beside the images.


class Two(nn.Module):
    """Takes an image and a table."""

    def __init__(self) -> None:
        super().__init__()
        self.image, _ = chain()
        self.table = nn.Linear(6, 5)

    def forward(self, x: Tensor, table: Tensor | None = None, scale: float = 1.0) -> Tensor:
        y: Tensor = self.image(x)
        return scale * (y if table is None else y + self.table(table)[:, : y.shape[1]])


def test_further_inputs_go_to_the_model_by_position_and_by_name_beside_a_path() -> None:
    torch.manual_seed(0)
    model, x, table = Two().eval(), chain()[1], torch.randn(4, 6)
    with torch.no_grad():
        want, alone = model(x, table), model(x)
        net = tp.route(model, example=x)
        full = tp.Path.full(net)
        assert torch.equal(net(x)[0], alone)
        assert torch.equal(net(x, None)[0], alone)
        for y in (
            net(x, table),
            net(x, table=table),
            net(x, full, table),
            net(x, table, path=full),
            net(x, table, 1.0),
        ):
            assert torch.equal(y[0], want)
        assert torch.equal(skipping(net)(x, table)[0], want)
        shut = ~full
        assert not net(x, table, path=shut)[1]["image.block1"].open.any()
        assert torch.equal(net(x, table, path=shut)[0], net(x, shut, table)[0])


def test_what_is_meant_as_a_path_and_is_none_is_refused() -> None:
    net, x = network()
    with pytest.raises(PathError, match=r"a dict of sites is no path; say Path\(\{\.\.\.\}\)"):
        net(x, {"block1": False})
    with pytest.raises(PathError, match=r"say Path\(\{\.\.\.\}\)"):
        net(x, path={"block1": False})
    with pytest.raises(PathError, match="path=3 is no path"):
        net(x, path=3)
    assert not net(x, tp.Path({"block1": False}))[1]["block1"].open.any()


def test_a_replica_of_data_parallel_says_that_it_cannot() -> None:
    net, x = network()
    replica = net._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
    with pytest.raises(CallError, match=r"nn.DataParallel.*Use DistributedDataParallel"):
        replica(x)
    assert torch.equal(nn.DataParallel(net)(x)[0], net(x)[0]), "on one device it does not replicate"
