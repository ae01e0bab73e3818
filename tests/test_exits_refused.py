"""Early exit: nothing is left after a call, and networks that images cannot leave are refused."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchpaths as tp
from exit_toys import FIRST, SOME, Toy, coded, stops_at_each
from laws import close
from torchpaths.errors import CallError


@pytest.fixture(scope="module")
def toy() -> tuple[tp.Routed, Tensor]:
    return coded()


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.no_grad():
        yield


# nothing is left


def test_nothing_is_left_after_a_call_or_an_exception(toy: tuple[tp.Routed, Tensor]) -> None:
    net, x = toy
    fast, _ = stops_at_each(net, x)
    expected, trace = fast(x)

    def fail(module: nn.Module, args: Any) -> None:
        raise KeyError("here")

    handle = fast.model.get_submodule("layer3.1.bn1").register_forward_pre_hook(fail)
    with pytest.raises(KeyError, match="here"):
        fast(x)
    handle.remove()
    assert not fast.slot.running
    assert all(j._place.call is None for j in fast.junctions)
    again, after = fast(x)
    assert torch.equal(again, expected)
    assert torch.equal(fast.stopped(after), fast.stopped(trace))
    tp.skipping(net, exit=FIRST)(x)
    close(net(x)[0], tp.skipping(net)(x)[0])
    assert torch.equal(fast.model(x[:2]), tp.skipping(net).model(x[:2])), "outside any call nobody leaves"


def test_threads_may_share_it(toy: tuple[tp.Routed, Tensor]) -> None:
    net, x = toy
    fast, _ = stops_at_each(net, x)
    parts = [x[:7], x[5:]]
    expected = [fast(part)[0] for part in parts]
    same: list[bool] = []

    def work(part: Tensor, wanted: Tensor) -> None:
        same.extend(torch.equal(fast(part)[0], wanted) for _ in range(20))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(parts, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same == [True] * 40


def test_copies_and_pickles_let_images_leave(toy: tuple[tp.Routed, Tensor]) -> None:
    net, x = toy
    fast, _ = stops_at_each(net, x)
    y, trace = fast(x)
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast))):
        again, own = other(x)
        assert torch.equal(again, y)
        assert torch.equal(other.stopped(own), fast.stopped(trace))
        assert other.exit == fast.exit


# who is refused


class Remembering(Toy):
    """Adds what the first block gave to what the last gave, pooled."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = first = self.layer1(x)  # type: ignore[operator]
        x = self.flatten(self.avgpool(self.layer3(self.layer2(x))))  # type: ignore[operator]
        return self.fc(x) + first.mean((1, 2, 3)).unsqueeze(1)  # type: ignore[no-any-return]


class Mixing(Toy):
    """Subtracts the batch's mean before the head."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))  # type: ignore[operator]
        x = self.flatten(self.avgpool(x))
        return self.fc(x - x.mean(0))  # type: ignore[no-any-return]


class Listing(Toy):
    """Gives logits and features."""

    def forward(self, x: Tensor) -> Any:
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))  # type: ignore[operator]
        x = self.flatten(self.avgpool(x))
        return self.fc(x), x


@pytest.mark.parametrize(
    ("model", "text"),
    [(Remembering, "holds the whole batch"), (Mixing, "touch each other"), (Listing, "a score for each class")],
)
def test_networks_that_images_cannot_leave_are_refused(model: type[Toy], text: str) -> None:
    net, x = coded(model())
    with pytest.raises(CallError, match=text) as caught:
        tp.skipping(net, exit=SOME)
    assert "Call skipping(net) without exit" in str(caught.value)
    y, expected = tp.skipping(net)(x)[0], net(x)[0]  # the remedy
    close(y[0] if isinstance(y, tuple) else y, expected[0] if isinstance(expected, tuple) else expected)


def test_networks_of_other_methods_are_refused(toy: tuple[tp.Routed, Tensor]) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16)
    gated = tp.route(Toy().eval(), tp.GatedBlocks(), example=x)
    with pytest.raises(CallError, match=r"no coded blocks.*CodedPaths"):
        tp.skipping(gated, exit=SOME)
    both = tp.route(Toy().eval(), [tp.CodedPaths(classes=10), tp.AdaptiveDepth()], example=x)
    with pytest.raises(CallError, match=r"decides for .* modules at once"):
        tp.skipping(both, exit=SOME)
    with pytest.raises(CallError, match=r"exit=0\.9: .*exit=Exit\(agree=2, threshold=0\.5\)"):
        tp.skipping(toy[0], exit=0.9)  # type: ignore[arg-type]
    fast = tp.skipping(toy[0], exit=tp.Exit(agree=2, threshold=0.5))
    with pytest.raises(CallError, match="already"):
        tp.skipping(fast)
    with pytest.raises(CallError, match="evaluation only"):
        fast.train()
