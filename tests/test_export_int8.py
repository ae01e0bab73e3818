"""Files in int8: integers in branches too, gates that decide as before, and no file where that fails."""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

import torchpaths as tp
from export_toys import gated, masked, run
from torchpaths.errors import RouteError
from torchpaths.exports import int8 as exports_int8
from torchpaths.exports import qdq
from torchpaths.exports.form import Batch
from torchpaths.exports.int8 import Int8

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
quantization = pytest.importorskip("onnxruntime.quantization")

LAYERS = 4
"""Layers with weights of the toy network, gates not among them."""

Made: TypeAlias = Callable[[str, Batch, Int8], tuple[tp.Routed, Tensor, tp.Exported]]


def toy() -> tuple[tp.Routed, Tensor]:
    """The toy with two gates, and 48 images like those its gates are set for."""
    net, x = gated("toy")
    draw = torch.Generator().manual_seed(2)
    return net, torch.cat([x + 0.02 * torch.randn(x.shape, generator=draw) for _ in range(8)])


def cut(net: tp.Routed) -> tp.Path:
    return tp.Path({site: [i == 0] for i, site in enumerate(net.sites)}, net.layout.fingerprint)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Exports the toy once for all tests that look at it, cut or with its gates."""

    @functools.cache
    def make(kind: str, batch: Batch, int8: Int8) -> tuple[tp.Routed, Tensor, tp.Exported]:
        net, x = toy()
        file = tmp_path_factory.mktemp("int8") / "net.onnx"
        return net, x, tp.export(net, file, x, path=cut(net) if kind == "cut" else None, batch=batch, int8=int8)

    return make


def ran(file: Path, x: Tensor, folder: Path) -> Counter[str]:
    """The kernels that ONNX Runtime ran, in branches too, by its own profile."""
    options = runtime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": x.numpy()})
    events = json.loads(Path(session.end_profiling()).read_text())
    return Counter(e["args"]["op_name"] for e in events if e["name"].endswith("kernel_time"))


@pytest.mark.parametrize("kind", ["cut", "gates"])
def test_onnx_runtimes_own_quantizers_read_float_files(kind: str, tmp_path: Path) -> None:
    net, x = toy()
    file = tmp_path / "net.onnx"
    tp.export(net, file, x, path=cut(net) if kind == "cut" else None)
    model = onnx.load(file)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    names = [node.name for node in model.graph.node]
    assert len(names) == len(set(names))
    images = iter(torch.split(x, 1))

    class Reader:
        def get_next(self) -> dict[str, Any] | None:
            image = next(images, None)
            return None if image is None else {"x": image.numpy()}

    quantization.quantize_dynamic(file, tmp_path / "dynamic.onnx", weight_type=quantization.QuantType.QUInt8)
    quantization.quantize_static(file, tmp_path / "static.onnx", Reader())
    for name in ("dynamic.onnx", "static.onnx"):
        assert run(tmp_path / name, x[:1])[0].isfinite().all()


@pytest.mark.parametrize(
    ("kind", "batch", "int8"),
    [
        ("cut", "one", "static"),
        ("cut", "any", "dynamic"),
        ("gates", "one", "static"),
        ("gates", "one", "dynamic"),
        ("gates", "any", "static"),
    ],
)
def test_every_layer_is_integer_and_the_file_decides_and_answers_like_the_network(
    kind: str, batch: Batch, int8: Int8, made: Made
) -> None:
    net, x, exported = made(kind, batch, int8)
    found = exported.int8
    assert found is not None
    layers = LAYERS - (kind == "cut")
    assert (found.mode, found.integer_layers, found.layers) == (int8, layers, layers)
    assert (found.calibrated, found.checked) == (24, 24)
    assert found.decisions == (None if kind == "cut" else 1.0)
    assert found.classes is not None
    assert found.classes >= 0.9
    assert 0 < found.difference < 0.05
    assert found.size == exported.file.stat().st_size
    with torch.no_grad():
        y, _ = net(x, cut(net) if kind == "cut" else None)
    size = 1 if batch == "one" else len(x)
    answers = [run(exported.file, images) for images in torch.split(x, size)]
    got = torch.cat([answer[0] for answer in answers])
    assert float((got - y).abs().max()) <= 0.05 * float(y.abs().max())
    if kind == "gates":
        assert torch.equal(torch.cat([answer[1] for answer in answers]), masked(net, x)[1])


@pytest.mark.parametrize(("int8", "kernel"), [("static", "QLinearConv"), ("dynamic", "ConvInteger")])
def test_convolutions_of_open_branches_run_on_integers_and_those_of_closed_ones_do_not_run(
    int8: Int8, kernel: str, made: Made, tmp_path: Path
) -> None:
    net, x, exported = made("gates", "one", int8)
    opened = masked(net, x)[1].sum(1).tolist()
    counts = [ran(exported.file, x[i : i + 1], tmp_path) for i in range(6)]
    assert len(set(opened[:6])) > 1
    least = min(opened[:6])
    base = counts[opened.index(least)][kernel]
    for some, count in zip(opened, counts, strict=False):
        assert count["Conv"] == count["FusedConv"] == 0
        assert count[kernel] == base + some - least


def test_gates_stay_float(made: Made) -> None:
    net, _, exported = made("gates", "one", "static")
    main = onnx.load(exported.file).graph
    weights = {i.name: i.data_type for i in main.initializer}
    gemms = [n for n in main.node if n.op_type == "Gemm" and weights.get(n.input[1]) == onnx.TensorProto.FLOAT]
    assert len(gemms) == 2 * len(net.sites)


def test_a_branch_that_no_image_opens_stays_float_where_it_ran_for_none_and_that_is_told(tmp_path: Path) -> None:
    net, x = toy()
    gate = list(net.deciders.values())[-1]
    assert isinstance(gate, tp.Gate)
    gate.threshold = 1e6
    found = tp.export(net, tmp_path / "any.onnx", x, batch="any", int8="static").int8
    assert found is not None
    assert (found.integer_layers, found.layers) == (LAYERS - 1, LAYERS)
    assert found.decisions == 1.0
    found = tp.export(net, tmp_path / "one.onnx", x, batch="one", int8="static").int8
    assert found is not None
    assert (found.integer_layers, found.layers) == (LAYERS, LAYERS)


def test_first_layers_stay_float_where_decisions_need_that(tmp_path: Path) -> None:
    net, x = toy()
    close = x[:1] + 1e-3 * torch.randn(56, *x.shape[1:], generator=torch.Generator().manual_seed(3))
    first = next(iter(net.sites))
    gate = net.sites[first].decider
    assert isinstance(gate, tp.Gate)
    with torch.no_grad():
        score = net(close)[1][first].score
    assert score is not None
    gate.threshold = float(score.median())
    found = tp.export(net, tmp_path / "net.onnx", torch.cat([x[1:8], close]), int8="static").int8
    assert found is not None
    assert 0 < found.integer_layers < LAYERS
    assert found.decisions == 1.0


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        (
            "DECISIONS",
            r"in static int8 the network keeps 100.00% of the decisions, .*most change at '.*fix sites by a path",
        ),
        ("CLASSES", r"keeps the top class of \d+% of the images.*so the file is not kept. Try .*int8='dynamic'"),
    ],
)
def test_a_file_that_changes_too_much_is_not_kept_and_one_of_its_name_stays(
    limit: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = toy()
    monkeypatch.setattr(exports_int8, limit, 1.01)
    file = tmp_path / "net.onnx"
    file.write_text("before")
    with pytest.raises(RouteError, match=said):
        tp.export(net, file, x, path=cut(net) if limit == "CLASSES" else None, int8="static")
    assert file.read_text() == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_weights_have_seven_bits_where_eight_overflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def largest(bits: int) -> int:
        net, x = toy()
        made = tp.export(net, tmp_path / f"{bits}.onnx", x, path=cut(net), int8="static")
        assert made.int8 is not None
        assert made.int8.weight_bits == bits
        weights = [i for i in onnx.load(made.file).graph.initializer if i.data_type == onnx.TensorProto.INT8 and i.dims]
        return max(int(abs(onnx.numpy_helper.to_array(i).astype(int)).max()) for i in weights if len(i.dims) > 1)

    for bits, can in ((7, {}), (8, {"avx_vnni": True})):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda can=can: {"architecture": "x86_64", **can})
        assert largest(bits) == {7: 64, 8: 127}[bits]
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"architecture": "aarch64"})
    assert not qdq.narrow()


def test_mistakes_are_named_before_anything_is_written(tmp_path: Path) -> None:
    net, x = toy()
    file = tmp_path / "net.onnx"
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("net.pt2", {}, r"written for ONNX Runtime, not for torch.export; end the file's name in .onnx"),
        ("net.onnx", {"x": None}, "int8 was given 0 images; .* give at least 8"),
        ("net.onnx", {"x": x[:7]}, "int8 was given 7 images"),
        ("net.onnx", {"x": torch.full_like(x, float("nan"))}, "not finite"),
        ("net.onnx", {"int8": "int8"}, "choose one of static, dynamic"),
    ]
    for name, given, said in wrong:
        with pytest.raises(RouteError, match=said):
            tp.export(net, tmp_path / name, **{"x": x, "int8": "static", **given})
    with pytest.raises(RouteError, match=r"float32, this network is torch.float64; export\(net.float\(\)"):
        tp.export(net.double(), file, x, path=cut(net), int8="static")
    assert not list(tmp_path.iterdir())
