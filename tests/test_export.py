"""Exporting: what it leaves as it was, what it checks before a file is kept, and what it refuses."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

import torchpaths as tp
from export_toys import gated, masked, run
from laws import random_path
from torchpaths.errors import PathError, RouteError, RunError
from torchpaths.exports.program import Torch
from torchpaths.junction import Place
from torchpaths.path import Bools
from train_toys import ToyNet


@pytest.fixture
def small() -> tuple[tp.Routed, Tensor]:
    """The smallest gated network."""
    return gated("toy")


def test_the_network_stays_as_it_was(small: tuple[tp.Routed, Tensor], tmp_path: Path) -> None:
    net, x = small
    net.train()
    net.deciders["block2"].eval()
    before = {
        name: (tensor, tensor._version, tensor.clone()) for name, tensor in net.state_dict(keep_vars=True).items()
    }
    modules, training, images = list(net.modules()), [m.training for m in net.modules()], x.clone()
    tp.export(net, tmp_path / "net.pt2", x)
    assert list(net.modules()) == modules
    assert [m.training for m in net.modules()] == training
    for name, tensor in net.state_dict(keep_vars=True).items():
        same, version, value = before[name]
        assert tensor is same
        assert tensor._version == version
        assert torch.equal(tensor, value)
    assert all(p.requires_grad for p in net.parameters())
    assert all(j._place.call is None for j in net.junctions)
    assert torch.equal(x, images)


def test_images_in_any_order_of_memory_and_a_skipping_network_give_the_same_file(
    small: tuple[tp.Routed, Tensor], tmp_path: Path
) -> None:
    net, x = small
    wide = torch.cat([x, x], 3)[..., ::2]
    for i, subject in enumerate((net, tp.skipping(net))):
        exported = tp.export(subject, tmp_path / f"{i}.pt2", wide)
        for image in torch.split(x, 1):
            y, opened = masked(net, image)
            got, reported = run(exported.file, image)
            torch.testing.assert_close(got, y, rtol=1e-5, atol=1e-5)
            assert torch.equal(reported, opened)


def test_without_images_it_is_traced_and_checked_with_noise(small: tuple[tp.Routed, Tensor], tmp_path: Path) -> None:
    net, _ = small
    assert tp.export(net, tmp_path / "net.pt2").difference <= 1e-5
    net.example_shape = ()
    with pytest.raises(RouteError, match=r"does not know what its images look like; give some"):
        tp.export(net, tmp_path / "other.pt2")


def test_units_of_which_one_side_was_never_run_are_named(small: tuple[tp.Routed, Tensor], tmp_path: Path) -> None:
    net, x = small
    assert tp.export(net, tmp_path / "net.pt2", x).one_sided == ()
    decider = net.sites["block2"].decider
    assert decider is not None
    decider.threshold = 1e6
    exported = tp.export(net, tmp_path / "net.pt2", x)
    assert exported.one_sided == ("block2",)
    assert exported.to_json()["one_sided"] == ("block2",)
    assert exported.to_json()["file"] == str(tmp_path / "net.pt2")


def _other_weights(program: ExportedProgram) -> None:
    program.state_dict["model.head.weight"].mul_(1.001)


def _other_decisions(program: ExportedProgram) -> None:
    name = next(name for name in program.state_dict if name.endswith("second_bias"))
    program.state_dict[name].add_(100.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_weights, r"torch.export gives outputs that differ .* so it is not kept"),
        (_other_decisions, r"torch.export decides otherwise than the network at unit 'block1'"),
    ],
)
def test_a_file_that_is_wrong_is_not_kept_and_an_older_one_is(
    change: Any, message: str, small: tuple[tp.Routed, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = small

    def write(self: Torch, program: ExportedProgram, file: Path) -> None:
        with torch.no_grad():
            change(program)
        torch.export.save(program, file)

    monkeypatch.setattr(Torch, "write", write)
    file = tmp_path / "net.pt2"
    with pytest.raises(RouteError, match=message):
        tp.export(net, file, x)
    assert list(tmp_path.iterdir()) == []
    file.write_text("older")
    with pytest.raises(RouteError, match=message):
        tp.export(net, file, x)
    assert [p.name for p in tmp_path.iterdir()] == ["net.pt2"]
    assert file.read_text() == "older"


def test_a_file_that_does_not_open_or_run_is_not_kept(
    small: tuple[tp.Routed, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = small

    def junk(self: Torch, program: ExportedProgram, file: Path) -> None:
        file.write_bytes(b"junk")

    def other(self: Torch, program: ExportedProgram, file: Path) -> None:
        torch.export.save(torch.export.export(nn.Linear(3, 3), (torch.zeros(1, 3),)), file)

    monkeypatch.setattr(Torch, "write", junk)
    with pytest.raises(RouteError, match=r"torch.export does not open the file written for it \(.*so it is not kept"):
        tp.export(net, tmp_path / "net.pt2", x)
    monkeypatch.setattr(Torch, "write", other)
    with pytest.raises(RouteError, match=r"does not run on 1 images .*so it is not kept"):
        tp.export(net, tmp_path / "net.pt2", x)
    assert list(tmp_path.iterdir()) == []


def test_an_output_of_another_shape_is_a_difference(
    small: tuple[tp.Routed, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, x = small
    run_file = Torch.open

    def squeezed(self: Torch, file: Path) -> Any:
        call = run_file(self, file)
        return lambda x: [call(x)[0][0], *call(x)[1:]]

    monkeypatch.setattr(Torch, "open", squeezed)
    with pytest.raises(RouteError, match="differ from the network's by inf"):
        tp.export(net, tmp_path / "net.pt2", x)


def test_a_path_that_does_not_fit_is_refused(small: tuple[tp.Routed, Tensor], tmp_path: Path) -> None:
    net, x = small
    with pytest.raises(PathError, match=r"6 samples, each its own, .* take one sample's: path\[0\]"):
        tp.export(net, tmp_path / "net.pt2", x, path=random_path(net, 6))
    with pytest.raises(PathError, match="was made for network 0000"):
        tp.export(net, tmp_path / "net.pt2", x, path=tp.Path({"block1": [True]}, network="0" * 16))
    with pytest.raises(PathError, match="names site 'block9'"):
        tp.export(net, tmp_path / "net.pt2", x, path=tp.Path({"block9": [True]}))
    with pytest.raises(PathError, match="block1"):
        tp.export(net, tmp_path / "net.pt2", x, path=tp.Path({"block1": [True, False]}))
    assert list(tmp_path.iterdir()) == []


def test_a_file_name_must_say_a_format_and_batch_one_of_two(small: tuple[tp.Routed, Tensor], tmp_path: Path) -> None:
    net, x = small
    for name in ("net.pt", "net"):
        with pytest.raises(
            RouteError, match=rf"{name}': .* one of \.onnx \(onnx\), \.pt2 \(torch\), \.xml \(openvino\)"
        ):
            tp.export(net, tmp_path / name, x)
    with pytest.raises(RouteError, match="batch='many'; choose one of one, any"):
        tp.export(net, tmp_path / "net.pt2", x, batch="many")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("net.onnx", "onnx", "onnx"),
        ("net.onnx", "onnxscript", "onnx"),
        ("net.onnx", "onnxruntime", "onnx"),
        ("net.xml", "openvino", "openvino"),
        ("net.xml", "onnxscript", "openvino"),
    ],
)
def test_a_package_that_is_missing_is_named_with_what_installs_it(
    name: str,
    package: str,
    extra: str,
    small: tuple[tp.Routed, Tensor],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RunError, match=rf"{package} is not installed; .*pip install 'torchpaths\[{extra}\]'"):
        tp.export(small[0], tmp_path / name, small[1])


def test_images_that_the_network_does_not_take_are_refused(small: tuple[tp.Routed, Tensor], tmp_path: Path) -> None:
    net, x = small
    with pytest.raises(RouteError, match=r"\(0, 1, 6, 6\) is a batch of 0"):
        tp.export(net, tmp_path / "net.pt2", x[:0])
    with pytest.raises(RouteError, match=r"\(\) is a batch of 0"):
        tp.export(net, tmp_path / "net.pt2", torch.zeros(()))
    with pytest.raises(RouteError, match=r"ToyNet does not take images of shape \(3, 6, 6\)"):
        tp.export(net, tmp_path / "net.pt2", torch.randn(2, 3, 6, 6))
    assert list(tmp_path.iterdir()) == []


def test_scores_at_the_threshold_or_outputs_that_are_not_finite_cannot_be_checked(
    small: tuple[tp.Routed, Tensor], tmp_path: Path
) -> None:
    net, x = small
    with torch.no_grad():
        net.model.get_parameter("head.bias").fill_(float("inf"))
    with pytest.raises(RouteError, match=r"cannot be checked: for every image .* 'the output' .* not finite"):
        tp.export(net, tmp_path / "net.pt2", x)
    with torch.no_grad():
        net.model.get_parameter("head.bias").fill_(0.0)
        gate = net.sites["block2"].decider
        assert isinstance(gate, tp.Gate)
        gate.fc2.weight.fill_(0.0)
        gate.threshold = float(gate.fc2.bias[1] - gate.fc2.bias[0])
    with pytest.raises(RouteError, match=r"cannot be checked: .* score at 'block2' lies at the threshold"):
        tp.export(net, tmp_path / "net.pt2", x)


def test_a_site_that_decides_by_chance_is_refused_unless_a_path_fixes_it(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 1, 6, 6)
    net = tp.route(ToyNet(), tp.RandomDrop(0.5), example=x)
    with pytest.raises(RouteError, match=r"site 'block1' decides by chance \(Chance\(0.50\)\).*fix it"):
        tp.export(net, tmp_path / "net.pt2", x)
    assert tp.export(net, tmp_path / "net.pt2", x, path=tp.Path.full(net)).outputs == ("y",)


class Whole(Place):
    """A place of another kind, around one that knows how to be exported."""

    calls = True

    def run(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y: Tensor = self.block(x)
        return y

    def cut(self, opened: Mapping[str, Bools], rectified: bool = False) -> nn.Module:
        return self.block


class Choosy(nn.Module):
    """Looks at values to decide what to do."""

    def forward(self, x: Tensor) -> Tensor:
        return -x if float(x.abs().max()) > 1e9 else x


def test_a_site_that_cannot_become_part_of_a_graph_is_named_and_can_be_fixed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 1, 6, 6)
    net = tp.route(ToyNet(), tp.GatedBlocks(), example=x)
    inner = net.model.block2
    assert isinstance(inner, tp.Junction)
    net.model.block2 = tp.Junction(Whole(inner, inner._place.sites))
    with pytest.raises(RouteError, match=r"site 'block2': a Whole cannot decide inside an exported graph; fix"):
        tp.export(net, tmp_path / "net.pt2", x)
    assert tp.export(net, tmp_path / "net.pt2", x, path=tp.Path({"block2": [True]})).outputs == ("y", "open")
    model = ToyNet()
    model.block1.conv = nn.Sequential(model.block1.conv, Choosy())  # type: ignore[assignment]
    net = tp.route(model, tp.GatedBlocks(), example=x)
    with pytest.raises(RouteError, match=r"site 'block1' cannot become a branch of an exported graph \(.*Fix it"):
        tp.export(net, tmp_path / "other.pt2", x)
    assert tp.export(net, tmp_path / "other.pt2", x, path=tp.Path({"block1": [False]})).outputs == ("y", "open")


def test_only_networks_of_one_output_tensor_can_be_exported(tmp_path: Path) -> None:
    class Two(ToyNet):
        def forward(self, x: Tensor) -> Any:
            y = super().forward(x)
            return y, y

    torch.manual_seed(0)
    x = torch.randn(4, 1, 6, 6)
    net = tp.route(Two(), tp.GatedBlocks(), example=x)
    with pytest.raises(RouteError, match="Two returns tuple; only one tensor can be exported"):
        tp.export(net, tmp_path / "net.pt2", x)
