"""Exported files: what they give in each back end, and that closed work is really left out there."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor

import torchpaths as tp
from export_toys import gated, masked, opened, run
from torchpaths.exports.form import Batch
from toys import toy

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Made: TypeAlias = Callable[[str, str, Batch], tuple[tp.Routed, Tensor, tp.Exported]]

FILES: list[tuple[str, str, Batch]] = [
    ("toy", ".onnx", "one"),
    ("toy", ".onnx", "any"),
    ("toy", ".pt2", "one"),
    ("toy", ".pt2", "any"),
    ("toy", ".xml", "one"),
    ("toy", ".xml", "any"),
    ("timm/test_resnet", ".onnx", "one"),
    ("vit", ".onnx", "any"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Exports a network once for all tests that look at it."""

    @functools.cache
    def make(network: str, suffix: str, batch: Batch) -> tuple[tp.Routed, Tensor, tp.Exported]:
        if suffix == ".xml":
            pytest.importorskip("openvino")
        net, x = gated(network)
        return net, x, tp.export(net, tmp_path_factory.mktemp("files") / f"net{suffix}", x, batch=batch)

    return make


def batches(x: Tensor, batch: Batch) -> list[Tensor]:
    """Single images, or batches of other sizes than the 2 that are traced."""
    return [x[i : i + 1] for i in range(len(x))] if batch == "one" else [x, x[:1], x[1:4], torch.cat([x, x])]


@pytest.mark.parametrize(("network", "suffix", "batch"), FILES)
def test_a_file_gives_the_networks_output_and_opens_the_same_units(
    network: str, suffix: str, batch: Batch, made: Made
) -> None:
    net, x, exported = made(network, suffix, batch)
    assert exported.outputs == ("y", "open")
    assert exported.batch == batch
    assert exported.difference <= 1e-5
    call = opened(exported.file)
    for images in batches(x, batch):
        y, units = masked(net, images)
        got, reported = call(images)
        assert torch.equal(reported, units)
        torch.testing.assert_close(got, y, rtol=0, atol=1e-5 * float(y.abs().max()))
    every = masked(net, x)[1]
    assert bool((every.any(0) & ~every.all(0)).all()), "each unit is open for some images and closed for others"


def graph(file: Path) -> Any:
    return pytest.importorskip("onnx").load(file).graph


def kinds(nodes: Any) -> Counter[str]:
    return Counter(node.op_type for node in nodes)


@pytest.mark.parametrize("batch", ["one", "any"])
def test_each_decision_is_an_if_in_onnx_and_its_closed_side_convolves_nothing(batch: Batch, made: Made) -> None:
    net, _, exported = made("toy", ".onnx", batch)
    main = graph(exported.file)
    decisions = [node for node in main.node if node.op_type == "If"]
    assert len(decisions) == len(net.sites)
    in_branches = 0
    for node in decisions:
        sides = {side.name: side.g for side in node.attribute}
        assert kinds(sides["else_branch"].node)["Conv"] == 0
        assert kinds(sides["then_branch"].node)["Conv"] > 0
        assert sides["then_branch"].initializer, "weights are where they are used"
        in_branches += kinds(sides["then_branch"].node)["Conv"]
    plain = tp.plain(net)
    assert kinds(main.node)["Conv"] + in_branches == sum(isinstance(m, torch.nn.Conv2d) for m in plain.modules())


def test_each_decision_is_an_if_in_openvino_and_a_cond_in_torch(made: Made) -> None:
    net, _, exported = made("toy", ".xml", "one")
    layers = Counter(layer.get("type") for layer in ElementTree.parse(exported.file).iter("layer"))
    assert layers["If"] == len(net.sites)
    net, _, exported = made("toy", ".pt2", "one")
    nodes = torch.export.load(exported.file).graph.nodes
    assert sum(node.target is torch.ops.higher_order.cond for node in nodes) == len(net.sites)


def convolved(file: Path, x: Tensor, folder: Path) -> int:
    """Images that ONNX Runtime's convolutions ran for, summed over convolutions, by its own profile."""
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": x.numpy()})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [e["args"] for e in events if e["name"].endswith("kernel_time") and e["args"]["op_name"] == "Conv"]
    return sum(next(iter(args["output_type_shape"][0].values()))[0] for args in ran)


@pytest.mark.parametrize("batch", ["one", "any"])
def test_onnx_runtime_convolves_the_images_that_open_a_unit_and_no_others(
    batch: Batch, made: Made, tmp_path: Path
) -> None:
    net, x, exported = made("toy", ".onnx", batch)
    main = graph(exported.file)
    branches = [
        kinds(next(side.g for side in node.attribute if side.name == "then_branch").node)["Conv"]
        for node in main.node
        if node.op_type == "If"
    ]
    for images in batches(x, batch)[:3]:
        units = masked(net, images)[1]
        expected = kinds(main.node)["Conv"] * len(images) + sum(
            convolutions * int(units[:, i].sum()) for i, convolutions in enumerate(branches)
        )
        assert convolved(exported.file, images, tmp_path) == expected


@pytest.mark.parametrize("batch", ["one", "any"])
def test_weights_of_a_branch_that_nobody_opens_are_not_read(batch: Batch, made: Made) -> None:
    net, x, exported = made("toy", ".pt2", batch)
    for site in net.sites:
        module = torch.export.load(exported.file).module()
        weights = [p for n, p in module.named_parameters() if n.startswith(f"model.{site}.inner.conv.")]
        assert weights
        with torch.no_grad():
            for weight in weights:
                weight.fill_(float("nan"))
            for i in range(len(x)):
                y, _ = module(x[i : i + 1])
                opens = bool(net(x[i : i + 1])[1][site].open)
                assert bool(y.isnan().any()) == opens


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".xml"])
def test_a_cut_network_is_exported_without_any_decision_and_gives_its_output_alone(suffix: str, tmp_path: Path) -> None:
    if suffix == ".xml":
        pytest.importorskip("openvino")
    net, x = gated("toy")
    path = tp.Path({site: [i % 2 == 0] for i, site in enumerate(net.sites)}, net.layout.fingerprint)
    exported = tp.export(net, tmp_path / f"cut{suffix}", x, path=path, batch="any")
    assert exported.outputs == ("y",)
    assert exported.one_sided == ()
    [y] = run(exported.file, x)
    torch.testing.assert_close(y, net(x, path)[0].detach(), rtol=1e-5, atol=1e-5)
    if suffix == ".onnx":
        found = kinds(graph(exported.file).node)
        assert found["If"] == 0
        assert found["Conv"] == sum(isinstance(m, torch.nn.Conv2d) for m in tp.extract(net, path).modules())


def test_units_that_a_path_fixes_are_decided_in_the_file_and_what_it_closes_is_left_out(tmp_path: Path) -> None:
    net, x = gated("toy")
    first, *others = net.sites
    path = tp.Path({first: [False]}, net.layout.fingerprint)
    exported = tp.export(net, tmp_path / "net.onnx", x, path=path)
    assert kinds(graph(exported.file).node)["If"] == len(others)
    call = opened(exported.file)
    for image in torch.split(x, 1):
        with torch.no_grad():
            expected, trace = net(image, path)
        y, units = call(image)
        torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
        assert units[0].tolist() == [bool(trace[site].open) for site in net.sites]
    names = {i.name for i in graph(exported.file).initializer}
    assert not any(f"{first}." in name for name in names)


def test_a_network_that_nobody_decides_in_is_exported_whole(tmp_path: Path) -> None:
    net, x = gated("toy")
    plain = tp.route(tp.plain(net), example=x)
    exported = tp.export(plain, tmp_path / "net.pt2", x)
    assert exported.outputs == ("y",)
    with torch.no_grad():
        torch.testing.assert_close(run(exported.file, x[:1])[0], plain(x[:1])[0], rtol=1e-5, atol=1e-5)


def test_gates_that_scale_instead_of_choosing_are_exported_too(tmp_path: Path) -> None:
    net, x = gated("toy")
    for gate in net.deciders.values():
        assert isinstance(gate, tp.Gate)
        gate.inference = "expected"
    exported = tp.export(net, tmp_path / "net.onnx", x)
    y, units = run(exported.file, x[:1])
    with torch.no_grad():
        torch.testing.assert_close(y, net(x[:1])[0], rtol=1e-5, atol=1e-5)
    assert bool(units.all())
    assert kinds(graph(exported.file).node)["If"] == 0


def test_switches_are_exported_as_they_are_set_and_a_path_sets_them_otherwise(tmp_path: Path) -> None:
    model, x = toy("torchvision/narrow")
    net = tp.route(model, tp.AdaptiveDepth(), example=x).eval()
    switch = net.sites["layer2"].decider
    assert isinstance(switch, tp.Switch)
    switch.set(False)
    base = ~tp.Path.full(net)
    for path in (None, base, tp.Path({"layer2": [True]})):
        exported = tp.export(net, tmp_path / "net.pt2", x, path=path, batch="any")
        assert exported.outputs == ("y",)
        [y] = run(exported.file, x)
        with torch.no_grad():
            torch.testing.assert_close(y, net(x, path)[0], rtol=1e-5, atol=1e-5)
