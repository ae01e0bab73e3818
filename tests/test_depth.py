"""The analyses of AdaptiveDepth: every depth, the distances of norms, activation maps; and the verb ``depths``."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

import torchpaths as tp
from laws import random_path
from torchpaths import cli
from torchpaths.costs import count_macs
from torchpaths.data import Loader
from torchpaths.depth import activation_maps, depths, gradient_cosines, norm_distances, residual_sizes
from torchpaths.depth.figures import draw_depths, draw_maps, draw_norms
from torchpaths.errors import CallError, DataError, PathError, RouteError
from torchpaths.models import source
from torchpaths.places.stages.switch import Doubled
from torchpaths.trace import Site
from torchpaths.train.evaluate import open_run
from torchpaths.train.run import train
from toys import toy
from train_toys import tiny
from verbs import answer, complaint

METHOD = tp.AdaptiveDepth()


@pytest.fixture(scope="module")
def net() -> tp.Routed:
    model, x = toy("own/cifar_resnet20")
    return tp.route(model, METHOD, example=x)


@pytest.fixture(scope="module")
def images() -> tuple[Tensor, Tensor]:
    torch.manual_seed(5)
    return torch.randn(12, 3, 32, 32), torch.arange(12) % 5


def test_every_depth_is_worth_what_its_path_is(net: tp.Routed, images: tuple[Tensor, Tensor]) -> None:
    x, y = images
    found = depths(net, [(x[:8], y[:8]), (x[8:], y[8:])])
    assert {d.skip for d in found} == {"".join(letters) for letters in itertools.product("TF", repeat=3)}
    assert (found[0].skip, found[-1].skip) == ("FFF", "TTT")
    for depth in found:
        assert depth.path == METHOD.path(net, depth.skip)
        with torch.no_grad():
            right = (net.eval()(x, depth.path)[0].argmax(1) == y).float().mean()
        assert depth.accuracy == pytest.approx(float(right))
        assert depth.macs == depth.path.cost(net).macs


def test_gates_go_on_deciding_at_every_depth(images: tuple[Tensor, Tensor]) -> None:
    model, x = toy("own/cifar_resnet20")
    both = tp.route(model, [METHOD, tp.GatedBlocks()], example=x).eval()
    found = depths(both, [images])
    assert [d.skip for d in found if len(set(d.skip)) == 1] == ["FFF", "TTT"]
    assert len(found) == 8
    for depth in found:
        assert depth.path == METHOD.path(both, depth.skip), "gates stand in no path"
        assert depth.macs == pytest.approx(tp.survey(both, [images], path=depth.path).macs)


def test_too_many_depths_are_refused_and_a_search_named(images: tuple[Tensor, Tensor]) -> None:
    model, x = toy("own/cifar_resnet20")
    open_net = tp.route(model, example=x)
    with pytest.raises(PathError, match=r"9 units make 2\^9 depths.*torchpaths\.front"):
        depths(open_net, [images])


def test_no_images_are_an_error(net: tp.Routed) -> None:
    with pytest.raises(DataError, match="no images"):
        depths(net, [])


def test_norm_distances_are_those_of_the_running_means(net: tp.Routed) -> None:
    bn: Any = net.get_submodule("model.layer2.0.bn1")
    bn.skipped.running_mean = bn.running_mean + 2 * (bn.running_var + bn.eps).sqrt()
    found = {entry.norm: entry for entry in norm_distances(net)}
    assert list(found) == [f"layer{s}.{b}.bn{n}" for s in (1, 2, 3) for b in (0, 1) for n in (1, 2)]
    assert found["layer2.0.bn1"].distance == pytest.approx(2, rel=1e-5)
    assert found["layer2.0.bn1"].site == "layer2"
    assert found["layer3.1.bn2"].distance == 0


def test_layer_norms_have_no_statistics_to_compare() -> None:
    model, x = toy("torchvision/vit")
    with pytest.raises(RouteError, match="no batch norm with two versions"):
        norm_distances(tp.route(model, METHOD, example=x))


def test_a_map_is_grad_cam_of_the_blocks_output(net: tp.Routed, images: tuple[Tensor, Tensor]) -> None:
    x, y = images[0][:3], images[1][:3]
    found = activation_maps(net, x, y, ["layer3.2"])["layer3.2"]
    with torch.no_grad():
        model: Any = tp.plain(net).eval()
        features = model.layer3(model.layer2(model.layer1(model.relu(model.bn1(model.conv1(x))))))
    # After the last block come the mean over positions and a linear layer: its gradient is known.
    weights = model.linear.weight[y] / (features.shape[2] * features.shape[3])
    expected = (weights[:, :, None, None] * features).sum(1).relu()
    torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-6)


def test_blocks_that_are_left_out_have_no_map(net: tp.Routed, images: tuple[Tensor, Tensor]) -> None:
    x, y = images[0][:2], images[1][:2]
    blocks = [f"layer3.{i}" for i in range(3)]
    assert list(activation_maps(net, x, y, blocks, METHOD.path(net, "FFT"))) == blocks[:2]
    assert all(p.grad is None for p in net.parameters())
    assert not any(m._forward_hooks for m in net.modules())


def test_tokens_are_a_square_without_the_class_token() -> None:
    model, x = toy("torchvision/vit")
    vit = tp.route(model, METHOD, example=x)
    block = "encoder.layers.encoder_layer_0"
    assert activation_maps(vit, x, torch.zeros(4, dtype=torch.long), [block])[block].shape == (4, 4, 4)


def test_mistakes_about_maps_are_named(net: tp.Routed, images: tuple[Tensor, Tensor]) -> None:
    x, y = images[0][:2], images[1][:2]
    with pytest.raises(RouteError, match=r"'layer3\.7' is no module"):
        activation_maps(net, x, y, ["layer3.7"])
    with pytest.raises(RouteError, match=r"'linear' has shape \(2, 5\), which is no map"):
        activation_maps(net, x, y, ["linear"])
    for labels in (y[:1], torch.tensor([0, 5])):
        with pytest.raises(CallError, match="2 images and 5 classes"):
            activation_maps(net, x, labels, ["layer3.2"])
    with pytest.raises(CallError, match="a skipping network has no gradients"):
        activation_maps(tp.skipping(net.eval()), x, y, ["layer3.2"])


def test_figures_show_every_depth_norm_and_block(net: tp.Routed, images: tuple[Tensor, Tensor]) -> None:
    found = depths(net, [images])
    figure = draw_depths(found, net.layout.plain.macs, "toy", {"plain": 0.5})
    [axes] = figure.axes
    assert [label.get_text()[:3] for label in axes.get_xticklabels()] == [d.skip for d in found]
    assert sum(np.size(line.get_xdata()) for line in axes.lines if line.get_marker() == "o") == 8
    norms = norm_distances(net)
    assert len(draw_norms(norms, "toy").axes[0].patches) == len(norms)
    blocks = [f"layer3.{i}" for i in range(3)]
    rows = {
        name: {b: m[0] for b, m in activation_maps(net, images[0][:1], images[1][:1], blocks, path).items()}
        for name, path in (("super-net", METHOD.path(net, False)), ("base-net", METHOD.path(net, True)))
    }
    drawn = draw_maps(np.zeros((32, 32, 3), np.uint8), rows, blocks, "toy")
    assert len(drawn.axes) == 4 + 3


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adaptive run of one epoch on digits, and a plain one."""
    folder = tmp_path_factory.mktemp("depths")
    train(tiny(method=tp.AdaptiveDepth()), folder / "adaptive", quiet=True)
    train(tiny(method=None), folder / "plain", quiet=True)
    return folder


def test_training_tells_of_super_net_and_base_net(runs: Path) -> None:
    summary = json.loads((runs / "adaptive" / "summary.json").read_text())
    assert set(summary["losses"]) == {"task", "outputs", "features"}
    base = summary["paths"]["base"]
    assert 0 <= base["accuracy"] <= 1
    assert base["macs_share"] < summary["macs_share"] == 1


def test_the_verb_writes_every_depth_and_the_figures(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answered = answer(capsys, "depths", runs / "adaptive", "--plain", runs / "plain", "--json")
    kept = json.loads((runs / "adaptive" / "depths.json").read_text())
    assert kept["depths"] == answered["depths"]
    assert len(answered["depths"]) == 8
    summary: dict[str, Any] = json.loads((runs / "adaptive" / "summary.json").read_text())
    by_name = {d["skip"]: d for d in answered["depths"]}
    assert by_name["FFF"]["accuracy"] == summary["accuracy"]
    assert by_name["TTT"]["accuracy"] == summary["paths"]["base"]["accuracy"]
    assert answered["references"] == {"plain": json.loads((runs / "plain" / "summary.json").read_text())["accuracy"]}
    for name in ("depths", "norms", "activation-maps", "residuals", "gradient-cosines"):
        assert (runs / "adaptive" / "figures" / f"{name}.png").stat().st_size > 1000
    path = tp.Path.from_json(json.dumps(by_name["TFT"]["path"]))
    assert path["layer1"] == (False,)


def test_the_verb_tells_what_the_blocks_of_the_same_images_add(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("depths", runs / "adaptive", "--plain", runs / "plain", "--residual-images", 40)
    assert cli.main([*map(str, asked), "--json"]) == 0
    out, err = capsys.readouterr()
    answered = json.loads(out)
    run, plain = open_run(runs / "adaptive"), open_run(runs / "plain")
    method = tp.AdaptiveDepth()
    loader = Loader(run.images(), 40, shuffle=True, seed=run.recipe.seed, mean=run.mean, std=run.std)
    images = [next(iter(loader))]
    networks = {
        "plain": (plain.net, None),
        "super-net": (run.net, method.path(run.net, False)),
        "base-net": (run.net, method.path(run.net, True)),
    }
    for key, find in (("residual_sizes", residual_sizes), ("gradient_cosines", gradient_cosines)):
        assert list(answered[key]) == list(networks)
        for name, (net, path) in networks.items():
            for told, own in zip(answered[key][name], find(net, images, path), strict=True):
                assert (told["block"], told["skippable"], told["images"]) == (own.block, own.skippable, own.images)
                assert own.mean is None or told["mean"] == pytest.approx(own.mean, rel=1e-3, abs=1e-5)
    printed = " ".join(err.split())
    assert "super-net always run" in printed
    assert "super-net can be left out" in printed
    assert "base-net can be left out" not in printed


def test_the_verb_refuses_a_plain_network_of_other_images_and_no_images(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs / "plain", other)
    made = json.loads((other / "run.json").read_text())
    made["data"]["classes"] = list(reversed(made["data"]["classes"]))
    (other / "run.json").write_text(json.dumps(made))
    assert "was trained on '9' there" in complaint(capsys, "depths", runs / "adaptive", "--plain", other)
    told = complaint(capsys, "depths", runs / "adaptive", "--residual-images", 0)
    assert "--residual-images 0: a mean is over one image at least" in told


def test_the_verb_wants_a_run_with_depths(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no blocks that can be left out; train with AdaptiveDepth" in complaint(capsys, "depths", runs / "plain")
    assert "has images 0 to" in complaint(capsys, "depths", runs / "adaptive", "--image", 99999)


def test_front_measures_and_chooses_among_the_depths(net: tp.Routed, images: tuple[Tensor, Tensor]) -> None:
    made = tp.front(net, [images], batch=())
    assert made.images == 12
    smallest = METHOD.path(net, True).cost(net).macs / net.layout.plain.macs
    chosen = made.best(tp.Budget(macs=smallest + 1e-6))
    assert chosen.path == METHOD.path(net, True)


def test_a_skipping_network_answers_alike_at_every_depth(net: tp.Routed, images: tuple[Tensor, Tensor]) -> None:
    x = images[0][:4]
    fast = tp.skipping(net)
    for path in (METHOD.path(net, "FTF"), METHOD.path(net, True), random_path(net, 4)):
        with torch.no_grad():
            torch.testing.assert_close(fast(x, path)[0], net.eval()(x, path)[0], rtol=1e-5, atol=1e-5)


def test_a_skipping_network_runs_a_block_for_the_images_that_open_it_only(
    net: tp.Routed, images: tuple[Tensor, Tensor]
) -> None:
    x = images[0][:8]
    path = random_path(net, len(x), seed=3)
    fast = tp.skipping(net)
    plain = count_macs(lambda: fast(x, METHOD.path(net, True)))
    opened = sum(int(path[site].sum()) * net.layout.sites[site][0].cost.macs for site in net.sites)
    assert 0 < opened < len(x) * sum(unit.cost.macs for unit in net.layout.units)
    assert count_macs(lambda: fast(x, path)) == plain + opened
    for whole in (path[image] for image in range(len(x))):
        alike = tp.Path({site: torch.tensor(whole[site]).expand(len(x), -1) for site in path})
        assert count_macs(partial(fast, x, alike)) == count_macs(partial(fast, x, whole)), "all images, or none"
    with torch.no_grad():
        torch.testing.assert_close(fast(x, path)[0], net.eval()(x, path)[0], rtol=1e-5, atol=1e-5)


def test_a_menu_of_depths_compiles_each_once(images: tuple[Tensor, Tensor]) -> None:
    model, x = toy("torchvision/vit")
    vit = tp.route(model, METHOD, example=x)
    menu = tp.compiled(vit, [METHOD.path(vit, "F"), METHOD.path(vit, "T")], backend="eager")
    for path in menu.paths:
        with torch.no_grad():
            torch.testing.assert_close(menu(x, path), vit.eval()(x, path)[0], rtol=1e-4, atol=1e-5)


def test_a_depth_is_saved_as_the_librarys_own_network(tmp_path: Path) -> None:
    model = timm.create_model("resnet18", num_classes=5, channels=(4, 4, 8, 8)).eval()
    x = torch.randn(2, 3, 32, 32)
    net = tp.route(model, METHOD, example=x)
    for parameter in net.parameters():  # the second norms differ from the first
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    path = METHOD.path(net, "FTFT")
    where = source("timm/resnet18", 5, channels=3)
    where = dataclasses.replace(where, kwargs={**where.kwargs, "channels": (4, 4, 8, 8)})
    tp.save_cut(net, path, tmp_path / "cut", where, method=METHOD, example=x)
    small = tp.load_cut(tmp_path / "cut")
    with torch.no_grad():
        torch.testing.assert_close(small(x), net(x, path)[0], rtol=1e-4, atol=1e-5)
    assert [len(stage) for stage in (small.layer1, small.layer2, small.layer3, small.layer4)] == [2, 1, 2, 1]  # type: ignore[arg-type]
    assert not any("skipped" in key for key in small.state_dict())
    assert sum(p.numel() for p in small.parameters()) == path.cost(net).params


def test_outside_any_call_a_place_is_open() -> None:
    norm, other = nn.LayerNorm(4), nn.LayerNorm(4)
    nn.init.constant_(other.weight, 3.0)
    place = tp.Junction(Doubled(norm, other, Site("stage", (), ("stage",), tp.Switch())))
    x = torch.randn(2, 4)
    assert torch.equal(place(x), functional.layer_norm(x, (4,)))
