"""A GPU does what a processor does: the same answers and decisions, and runs that resume bitwise."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import laws
import torchpaths as tp
from channel_toys import ToyBranches, stir
from coded_toys import WITH_BRANCHES
from torchpaths.data import Augment
from torchpaths.methods.base import Method
from torchpaths.skips.network import Skipping
from torchpaths.train import checkpoint
from torchpaths.train.objective import Objective, total
from torchpaths.train.run import load_run, train
from toys import made, toy
from train_toys import tiny

DEVICE = "cuda"
CLASSES = 4
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees")

METHODS: dict[str, Method] = {
    "gated": tp.GatedBlocks(budget=tp.Budget(open=0.6)),
    "depth": tp.AdaptiveDepth(),
    "filters": tp.GatedFilters(),
    "branches": ToyBranches(2),
}
CASES = [("torchvision/narrow", method) for method in METHODS] + [("torchvision/vit", "gated"), ("own/coded", "coded")]


def routed(network: str, method: str) -> tuple[tp.Routed, torch.Tensor, Method]:
    """A network in double precision, so that no order of summation turns a decision, and a batch."""
    chosen: Method
    if method == "coded":
        make, side, chosen = WITH_BRANCHES["own/resnext"]
        (model, x) = made(make, side)
    else:
        (model, x), chosen = toy(network), METHODS[method]
    x = torch.cat([x, x.flip(3)]).double()
    net = tp.route(model.double(), chosen, example=x)
    if method != "coded":
        stir(net)
    return net.eval(), x, chosen


@pytest.mark.parametrize(("network", "method"), CASES)
def test_it_answers_decides_skips_and_is_cut_as_on_a_processor(network: str, method: str) -> None:
    net, x, _ = routed(network, method)
    there = copy.deepcopy(net).to(DEVICE)
    fast = tp.skipping(there)
    assert isinstance(fast, Skipping)
    whole = laws.random_path(net)
    with torch.no_grad():
        for path in (None, tp.Path.full(net), whole, laws.random_path(net, len(x))):
            each = path is not None and path.batch is not None
            for part in (x,) if each else (x, x[:1]):
                expected, trace = net(part, path)
                for other in (there, fast):
                    got, reported = other(part.to(DEVICE), path)
                    laws.close(got.cpu(), expected)
                    assert all(torch.equal(reported[site].open.cpu(), trace[site].open) for site in reported)
        cut = tp.extract(there, whole)
        laws.close(cut(x.to(DEVICE)).cpu(), net(x, whole)[0])
        assert {parameter.device.type for parameter in cut.parameters()} == {DEVICE}


@pytest.mark.parametrize(("network", "method"), CASES)
def test_a_training_step_has_the_gradients_of_a_processor(network: str, method: str) -> None:
    net, x, chosen = routed(network, method)
    y = torch.arange(len(x)) % CLASSES
    found = []
    for device in ("cpu", DEVICE):
        torch.manual_seed(0)
        # As in evaluation: what is drawn is another one on another device.
        objective = Objective(copy.deepcopy(net), chosen, classes=CLASSES).double()
        objective.to(device)
        total(objective(x.to(device), y.to(device)).values()).backward()  # type: ignore[no-untyped-call]
        found.append({n: p.grad.cpu() for n, p in objective.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        laws.close(found[1][name], gradient, 1e-4)


@pytest.mark.parametrize("method", ["gated", "filters"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_that_is_cut_off_resumes_bitwise(
    method: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny(
        method=METHODS[method],
        epochs=2,
        device=DEVICE,
        augment=Augment(pad=1),
        precision=precision,
        checkpoint_steps=2,
        channels_last=True,
    )
    train(recipe, tmp_path / "whole", quiet=True)
    save, saves = checkpoint.save, 0

    def cut_off(*args: object) -> None:
        nonlocal saves
        save(*args)  # type: ignore[arg-type]
        saves += 1
        if saves == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", cut_off)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "cut", quiet=True)
    monkeypatch.undo()
    train(recipe, tmp_path / "cut", quiet=True)
    ours, theirs = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "cut"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_without_a_device_named_a_run_is_on_the_gpu_and_opens_anywhere(tmp_path: Path) -> None:
    recipe = dataclasses.replace(tiny(method=METHODS["gated"]), device=None)
    torch.cuda.reset_peak_memory_stats()
    train(recipe, tmp_path / "run", quiet=True)
    assert torch.cuda.max_memory_allocated() > 2**20
    assert load_run(tmp_path / "run").net.example_shape == (1, 8, 8)


def test_it_is_measured_where_it_is() -> None:
    net, x, _ = routed("torchvision/narrow", "gated")
    there = net.float().to(DEVICE)
    rows = tp.measure(there, x.float().to(DEVICE), seconds=0.2)
    assert "NVIDIA" in str(rows)
