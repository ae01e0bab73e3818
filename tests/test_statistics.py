"""Norms are given the statistics that they meet in evaluation."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import laws
import torchpaths as tp
from channel_toys import stir
from torchpaths.errors import RouteError, RunError
from torchpaths.train.run import train
from toys import toy
from train_toys import tiny

NORM = "bn1"


def filtered() -> tuple[tp.Routed, Tensor]:
    model, x = toy("torchvision/narrow")
    net = tp.route(model, tp.GatedFilters(), example=x)
    stir(net)
    return net, torch.cat([x, x.flip(3)])


def met(net: tp.Routed, x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """What each norm is handed in evaluation where those before it take the batch's own statistics."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    net.eval()
    handles = []
    for name, norm in net.model.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.train()

            def note(_: nn.Module, given: tuple[Tensor], name: str = name) -> None:
                found[name] = given[0].mean((0, 2, 3)), given[0].var((0, 2, 3))

            handles.append(norm.register_forward_pre_hook(note))
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return found


def test_statistics_are_those_of_the_features_that_evaluation_gives() -> None:
    net, x = filtered()
    expected = met(copy.deepcopy(net), x)
    assert len(expected) > 3
    net.train()
    tp.update_bn(net, [x])
    for name, (mean, variance) in expected.items():
        norm = net.model.get_submodule(name)
        torch.testing.assert_close(norm.running_mean, mean)
        torch.testing.assert_close(norm.running_var, variance)


def test_batches_count_alike_labels_are_left_alone_and_nothing_is_drawn() -> None:
    net, x = filtered()
    again = copy.deepcopy(net)
    torch.manual_seed(0)
    tp.update_bn(net, [(x, torch.zeros(len(x))), (x, torch.zeros(len(x)))])
    torch.manual_seed(1)
    tp.update_bn(again, [x])
    for one, other in zip(net.buffers(), again.buffers(), strict=True):
        if one.is_floating_point():
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("training", [True, False])
def test_modes_and_momenta_stay_and_an_error_changes_nothing(training: bool) -> None:
    net, x = filtered()
    net.train(training)
    frozen = next(m for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    frozen.eval()
    frozen.momentum = 0.3
    modes = [m.training for m in net.modules()]
    before = copy.deepcopy(net.state_dict())
    for batches in ([x, x[:, :1]], []):
        with pytest.raises((RuntimeError, RouteError)):
            tp.update_bn(net, batches)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    tp.update_bn(net, [x])
    assert [m.training for m in net.modules()] == modes
    assert frozen.momentum == 0.3


def test_norms_that_no_image_comes_to_keep_theirs() -> None:
    model, x = toy("torchvision/narrow")
    net = tp.route(model, tp.AdaptiveDepth(), example=x)
    before = copy.deepcopy(net.state_dict())
    shut = ~tp.Path.full(net)
    tp.update_bn(net, [x], shut)
    after = net.state_dict()
    changed = {name.rpartition(".")[0] for name in after if not torch.equal(after[name], before[name])}
    kept = {n for n, m in net.named_modules() if isinstance(m, nn.BatchNorm2d)} - changed
    assert changed
    assert kept
    tp.update_bn(net, [x], tp.Path.full(net))
    assert any(
        not torch.equal(net.state_dict()[f"{name}.running_mean"], before[f"{name}.running_mean"]) for name in kept
    )


@pytest.mark.parametrize("full", [True, False])
def test_plain_and_cut_networks_are_updated_too(full: bool) -> None:
    """Along a path a network gets the statistics of what is cut out along it, where channels are missing too."""
    net, x = filtered()
    path = tp.Path.full(net) if full else laws.random_path(net)
    cut = tp.extract(net, path)
    tp.update_bn(cut, [x])
    tp.update_bn(net, [x], path)
    with torch.no_grad():
        torch.testing.assert_close(cut.eval()(x), net.eval()(x, path)[0])


def test_what_cannot_be_updated_is_refused() -> None:
    net, x = filtered()
    with pytest.raises(RouteError, match="no batch norm with running statistics"):
        tp.update_bn(nn.Linear(2, 2), [x])
    with pytest.raises(RouteError, match="is not routed"):
        tp.update_bn(tp.extract(net, tp.Path.full(net)), [x], tp.Path.full(net))
    with pytest.raises(RunError, match="leave out one of the two"):
        tiny(update_bn=2, ema=0.9)


def test_a_run_that_asks_for_it_ends_with_other_statistics_and_the_same_weights(tmp_path: Path) -> None:
    method = tp.GatedBlocks(budget=tp.Budget(open=0.6))
    found = []
    for number, batches in enumerate((0, 3, 3)):
        train(tiny(method=method, update_bn=batches), tmp_path / str(number), quiet=True)
        found.append(load_file(tmp_path / str(number) / "weights.safetensors"))
    plain, one, other = found
    assert all(torch.equal(one[name], other[name]) for name in one)
    changed = {name.rpartition(".")[2] for name in one if not torch.equal(one[name], plain[name])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}
