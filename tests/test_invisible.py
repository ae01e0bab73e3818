"""A junction is invisible: hooks, tools that look by type or go from child to child, state, modes, attributes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torchvision.models.resnet import BasicBlock, ResNet

import torchpaths as tp
from torchpaths.junction import junctions
from torchpaths.skips.network import skipping

METHODS: dict[str, tp.Method | list[tp.Method] | None] = {
    "open": None,
    "gated": tp.GatedBlocks(),
    "depth": tp.AdaptiveDepth(),
    "both": [tp.AdaptiveDepth(), tp.GatedBlocks()],
}


def resnet(seed: int = 0) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(seed)
    model = ResNet(BasicBlock, [1, 2, 1, 1], num_classes=5)
    return model.eval(), torch.randn(4, 3, 32, 32)


class Recording:
    """Hooks of every kind that write down what they were given."""

    def __init__(self, block: nn.Module) -> None:
        self.seen: dict[str, list[Any]] = {"pre": [], "forward": [], "named": [], "backward": []}
        block.register_forward_pre_hook(lambda _, x: self.seen["pre"].append(x[0].detach().clone()))
        block.register_forward_hook(lambda _, x, y: self.seen["forward"].append((x[0].clone(), y.detach().clone())))
        block.register_forward_hook(lambda _, x, names, y: self.seen["named"].append(dict(names)), with_kwargs=True)
        block.register_full_backward_hook(self.backward)

    def backward(self, _: nn.Module, dx: Any, dy: Any) -> None:
        self.seen["backward"].append((dx[0], dy[0]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("block", ["layer2.0", "layer2.1"])
def test_a_blocks_hooks_fire_once_with_the_blocks_own_inputs_outputs_and_gradients(method: str, block: str) -> None:
    original, x = resnet()
    net = tp.route(copy.deepcopy(original), METHODS[method], example=x)
    before = Recording(original.get_submodule(block))
    after = Recording(net.model.get_submodule(block))
    original(x).sum().backward()
    net(x, tp.Path.full(net))[0].sum().backward()
    for name, expected in before.seen.items():
        assert len(after.seen[name]) == len(expected) == 1, name
        torch.testing.assert_close(after.seen[name], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_hooks_set_before_route_go_on_and_change_what_they_changed(method: str) -> None:
    model, x = resnet()
    model.get_submodule("layer2.1").register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2,))
    model.get_submodule("layer3.0").register_forward_hook(lambda _, inputs, y: y + 1)
    model.get_submodule("layer2.0.bn1").register_forward_hook(lambda _, inputs, y: y - 0.5)
    with torch.no_grad():
        want = model(x)
        net = tp.route(model, METHODS[method], example=x)
        assert torch.equal(net(x, tp.Path.full(net))[0], want)
        torch.testing.assert_close(skipping(net)(x, tp.Path.full(net))[0], want, rtol=1e-5, atol=1e-5)


def test_hooks_of_a_block_that_is_left_out_do_not_fire() -> None:
    model, x = resnet()
    net = tp.route(model, tp.AdaptiveDepth(), example=x)
    for block in (net.model.get_submodule("layer2.1"), dict(net.model.named_modules())["layer2.1"]):
        hooks = Recording(block)
        net(x, ~tp.Path.full(net))
        assert not hooks.seen["forward"]
        net(x)
        assert len(hooks.seen["forward"]) == 1


@pytest.mark.parametrize("method", METHODS)
def test_modules_are_enumerated_by_their_names_and_types_as_before(method: str) -> None:
    model, x = resnet()
    before = [(name, module) for name, module in model.named_modules()]
    parameters = [name for name, _ in model.named_parameters()]
    net = tp.route(model, METHODS[method], example=x)
    after = [(n, m) for n, m in model.named_modules() if "skipped" not in n.split(".")]
    assert [n for n, _ in after] == [n for n, _ in before]
    assert all(a is b for (_, a), (_, b) in zip(after, before, strict=True)), "the very modules"
    assert [n for n, _ in model.named_parameters() if "skipped" not in n.split(".")] == parameters
    assert len(list(junctions(model))) == len(net.junctions) > 0


@pytest.mark.parametrize("method", METHODS)
def test_attributes_are_read_set_and_deleted_on_the_block(method: str) -> None:
    model, x = resnet()
    block = model.get_submodule("layer2.1")
    tp.route(model, METHODS[method], example=x)
    there: Any = model.get_submodule("layer2.1")
    assert there is not block
    there.note = 3
    assert block.note == there.note == 3
    del there.note
    assert not hasattr(block, "note")
    assert there.conv1 is block.conv1
    assert there.stride == block.stride
    assert "downsample" in dir(there)
    there.conv1 = nn.Conv2d(128, 128, 3, padding=1, bias=False)
    assert block.conv1 is there.conv1
    with torch.no_grad():
        assert torch.equal(there.conv1.weight, block.get_parameter("conv1.weight"))


def norms(net: nn.Module, kind: type[nn.Module] = nn.BatchNorm2d) -> int:
    return sum(isinstance(module, kind) for module in net.modules())


def doubled() -> tuple[tp.Routed, Tensor, int]:
    """A network with norms of its own for skipped depth, and how many norms it has."""
    model, x = resnet()
    net = tp.route(model, tp.AdaptiveDepth(), example=x)
    return net, x, sum(key.endswith("running_mean") for key in net.state_dict())


def test_tools_by_type_reach_every_norm_that_adaptive_depth_doubled() -> None:
    net, _, count = doubled()
    assert norms(net) == count > norms(resnet()[0])
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
    assert not [n for n, p in net.named_parameters() if p.requires_grad and p.dim() == 1 and "fc" not in n]
    decay: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in net.modules():
        for parameter in module.parameters(recurse=False):
            (plain if isinstance(module, nn.BatchNorm2d) else decay).append(parameter)
    groups: list[dict[str, Any]] = [{"params": decay}, {"params": plain, "weight_decay": 0.0}]
    torch.optim.SGD(groups, lr=0.1)  # none twice
    assert len(plain) == 2 * count
    assert len(plain) + len(decay) == len(list(net.parameters()))


def test_norms_become_synchronised_ones_all_of_them_and_the_network_answers_as_before() -> None:
    net, x, count = doubled()
    paths = tp.Path.full(net), ~tp.Path.full(net)
    with torch.no_grad():
        want = [net(x, path)[0] for path in paths]
        keys = list(net.state_dict())
        synchronised: Any = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
        assert norms(synchronised, nn.SyncBatchNorm) == count
        assert list(synchronised.state_dict()) == keys
        for path, y in zip(paths, want, strict=True):
            torch.testing.assert_close(synchronised(x, path)[0], y, rtol=1e-5, atol=1e-5)


def replaced(module: nn.Module) -> None:
    """Every batch norm replaced as libraries do: from child to child, by name."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(1, child.num_features))
        else:
            replaced(child)


@pytest.mark.parametrize("method", ["gated", "depth", "both"])
def test_norms_replaced_from_child_to_child_are_what_runs(method: str) -> None:
    original, x = resnet()
    net = tp.route(copy.deepcopy(original), METHODS[method], example=x)
    replaced(net)
    replaced(original)
    assert norms(net) == 0
    assert norms(net, nn.GroupNorm) >= norms(original, nn.GroupNorm)
    with torch.no_grad():
        assert torch.equal(net(x, tp.Path.full(net))[0], original(x))


def test_statistics_are_updated_in_every_norm_that_ran() -> None:
    net, x, _ = doubled()

    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.net(x, ~tp.Path.full(net))[0] + self.net(x)[0]
            return y

    update_bn([x], Both())
    counts = {n: int(b) for n, b in net.named_buffers() if n.endswith("num_batches_tracked")}
    assert all(counts.values()), [n for n, c in counts.items() if not c]


def visited(net: nn.Module) -> Iterator[nn.Module]:
    seen: list[nn.Module] = []
    net.apply(seen.append)
    yield from seen


@pytest.mark.parametrize("method", METHODS)
def test_apply_train_and_conversions_reach_everything_once(method: str) -> None:
    model, x = resnet()
    net = tp.route(model, METHODS[method], example=x)
    assert norms(nn.ModuleList(m for m in visited(net) if isinstance(m, nn.BatchNorm2d))) == norms(net)
    assert len({id(m) for m in visited(net)}) == len(list(visited(net)))
    net.train()
    assert all(m.training for m in net.modules())
    net.eval()
    assert not any(m.training for m in net.modules())
    net.double()
    assert {p.dtype for p in net.parameters()} == {torch.float64}
    assert net(x.double())[0].dtype == torch.float64


class Frozen(BasicBlock):  # type: ignore[misc]
    """A block that keeps its norms in evaluation."""

    def train(self, mode: bool = True) -> Frozen:
        super().train(mode)
        self.bn1.eval()
        self.bn2.eval()
        return self


def test_a_blocks_own_way_to_train_is_kept() -> None:
    torch.manual_seed(0)
    model = ResNet(Frozen, [1, 1, 1, 1], num_classes=5)
    net = tp.route(model, tp.GatedBlocks(), example=torch.randn(2, 3, 32, 32)).train()
    flags = {n: m.training for n, m in net.model.named_modules() if isinstance(m, nn.BatchNorm2d) and "down" not in n}
    assert [n for n, training in flags.items() if training] == ["bn1"]


@pytest.mark.parametrize("method", METHODS)
def test_state_goes_into_a_network_and_back_with_missing_and_unknown_keys_told(method: str) -> None:
    original, x = resnet()
    net = tp.route(copy.deepcopy(original), METHODS[method], example=x)
    plain = {key: value for key, value in net.model.state_dict().items() if "skipped" not in key.split(".")}
    assert list(plain) == list(original.state_dict())
    original.load_state_dict(plain)
    state = net.state_dict()
    del state["model.layer2.0.bn1.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key.*model\.layer2\.0\.bn1\.weight"):
        net.load_state_dict(state)
    state = {**net.state_dict(), "model.layer2.0.bn1.other": torch.zeros(1)}
    with pytest.raises(RuntimeError, match=r"Unexpected key.*model\.layer2\.0\.bn1\.other"):
        net.load_state_dict(state)
    again = tp.route(resnet(1)[0], METHODS[method], example=x)
    again.load_state_dict({k: v.clone() for k, v in net.state_dict().items()}, assign=True)
    with torch.no_grad():
        assert torch.equal(again(x)[0], net(x)[0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_tools_that_trace_take_the_model_inside_as_any_other(method: str) -> None:
    model, x = resnet()
    net = tp.route(model, METHODS[method], example=x).eval()
    with torch.no_grad():
        want = net.model(x)
        assert torch.equal(torch.fx.symbolic_trace(net.model)(x), want)
        assert torch.equal(torch.compile(net.model, backend="eager", fullgraph=True)(x), want)
        torch.testing.assert_close(torch.jit.trace(net.model, x)(x), want)  # type: ignore[no-untyped-call]
        exported = torch.export.export(net.model, (x,))
        torch.testing.assert_close(exported.module()(x), want)
