"""Classes cut out of a coded network: on disk, by command, exported; and heads of several kinds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import torchpaths as tp
from coded_toys import WITH_BRANCHES
from test_laws import with_branches
from torchpaths import cli
from torchpaths.costs import count_params
from torchpaths.cuts import Spec, load_cut
from torchpaths.data import open_data
from torchpaths.errors import CallError
from torchpaths.files.write import write_json
from torchpaths.models import source
from torchpaths.train.folder import build
from train_toys import tiny


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a coded network with weights by chance, as training leaves one."""
    folder = tmp_path_factory.mktemp("coded") / "run"
    folder.mkdir()
    images = open_data("digits", "test")
    recipe = tiny(method=tp.CodedPaths(classes=10), model="resnext20_10x4d")
    net = build(recipe, images.classes, images.shape)
    torch.manual_seed(0)
    for parameter in net.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    data = {"name": "digits", "classes": images.classes, "shape": images.shape, "mean": images.mean, "std": images.std}
    write_json(folder / "recipe.json", recipe.to_json())
    write_json(folder / "run.json", {"data": data})
    save_file(net.state_dict(), folder / "weights.safetensors")
    return folder


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    capsys.readouterr()
    status = cli.main(["cut", *map(str, arguments)])
    out, err = capsys.readouterr()
    return status, " ".join((out if status == 0 else err).split())


ASKED: list[tuple[tuple[str, str], tuple[str, ...], list[int]]] = [
    (("--classes", "3"), ("3",), [3]),
    (("--classes", "7, 2"), ("7", "2"), [7, 2]),
    (("--without", "0"), tuple("123456789"), list(range(1, 10))),
]
"""What is asked for, the names of the classes that stay, and their digits."""


@pytest.mark.parametrize(("asked", "names", "digits"), ASKED)
def test_the_command_cuts_classes_out_with_their_rows(
    asked: tuple[str, str], names: tuple[str, ...], digits: list[int], run: Path, tmp_path: Path, capsys: Any
) -> None:
    status, said = command(capsys, run, *asked, "--out", tmp_path / "cut", "--json")
    assert status == 0, said
    spec = Spec.read(tmp_path / "cut")
    assert spec.classes == names
    assert spec.kept == tuple(digits)
    assert json.loads(said)["kept"] == digits
    opened = tp.load_cut(tmp_path / "cut")
    x = torch.randn(4, 1, 8, 8)
    from torchpaths.train.folder import load_run

    found = load_run(run)
    method = found.recipe.method
    assert isinstance(method, tp.CodedPaths)
    with torch.no_grad():
        expected = found.net(x, method.path(found.net, digits))[0][:, digits]
        torch.testing.assert_close(opened(x), expected)


def test_classes_cut_out_open_without_torchpaths(run: Path, tmp_path: Path, capsys: Any) -> None:
    cuts = [str(tmp_path / f"cut{i}") for i in range(len(ASKED))]
    for (asked, _, _), folder in zip(ASKED, cuts, strict=True):
        status, said = command(capsys, run, *asked, "--out", folder)
        assert status == 0, said
    script = (
        "import json, pathlib, runpy, sys, torch\n"
        "torch.manual_seed(1)\n"
        "x, given = torch.randn(2, 1, 8, 8), []\n"
        "for folder in map(pathlib.Path, sys.argv[1:]):\n"
        "    for file in folder.glob('*.py'):\n"
        "        sys.modules.pop(file.stem, None)\n"
        "    given.append(runpy.run_path(str(folder / 'load.py'))['load']()(x).flatten().tolist())\n"
        "assert not any(n == 'torchpaths' or n.startswith('torchpaths.') for n in sys.modules)\n"
        "print(json.dumps(given))"
    )
    said = subprocess.run([sys.executable, "-c", script, *cuts], capture_output=True, text=True, check=True).stdout
    torch.manual_seed(1)
    x = torch.randn(2, 1, 8, 8)
    for given, folder in zip(json.loads(said), cuts, strict=True):
        assert np.allclose(given, tp.load_cut(folder)(x).flatten().tolist(), atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("--classes", "cat"), "there is no class 'cat'"),
        (("--classes", "10"), "there is no class '10'"),
        (("--classes", "3", "--without", "4"), "--classes says what to keep; leave out --without"),
        (("--classes", "3", "--budget-macs", "0.5"), "--classes says what to keep"),
        (("--without", "0,1,2,3,4,5,6,7,8,9"), "no class is left"),
        (("--classes", "3,3"), "each once"),
    ],
)
def test_classes_that_make_no_sense_are_named(
    asked: tuple[str, ...], message: str, run: Path, tmp_path: Path, capsys: Any
) -> None:
    status, said = command(capsys, run, *asked, "--out", tmp_path / "cut")
    assert status == 1
    assert message in said
    assert not (tmp_path / "cut").exists()


def test_a_single_class_is_told_from_which_score_on_it_says_yes(run: Path, tmp_path: Path, capsys: Any) -> None:
    status, said = command(capsys, run, "--classes", "3", "--out", tmp_path / "before")
    assert status == 0
    assert f"torchpaths decode {run}" in said
    report = {"schema": "torchpaths.decode/1", "classifiers": {"paths": {"thresholds": [k + 0.25 for k in range(10)]}}}
    write_json(run / "decode.json", report)
    try:
        status, said = command(capsys, run, "--classes", "3", "--out", tmp_path / "after")
        assert "from a score of 3.250 on" in said
        write_json(run / "decode.json", {"schema": "torchpaths.decode/1"})
        status, said = command(capsys, run, "--classes", "3", "--out", tmp_path / "damaged")
        assert status == 1
        assert "edited or cut short" in said
    finally:
        (run / "decode.json").unlink()


def test_a_survey_of_a_coded_network_chooses_nothing_blindly(run: Path, tmp_path: Path, capsys: Any) -> None:
    status, said = command(capsys, run, "--label", "3", "--budget-macs", "0.8", "--out", tmp_path / "cut")
    assert status == 1
    assert "torchpaths cut RUN --classes" in said


def test_a_run_whose_method_gives_classes_no_paths_says_what_to_do(run: Path, tmp_path: Path, capsys: Any) -> None:
    other = tmp_path / "gated"
    other.mkdir()
    images = open_data("digits", "test")
    recipe = tiny(method=tp.GatedBlocks(), model="cifar_resnet20")
    save_file(build(recipe, images.classes, images.shape).state_dict(), other / "weights.safetensors")
    write_json(other / "recipe.json", recipe.to_json())
    (other / "run.json").write_text((run / "run.json").read_text())
    status, said = command(capsys, other, "--classes", "3", "--out", tmp_path / "cut")
    assert status == 1
    assert "GatedBlocks gives classes no paths" in said


@pytest.mark.parametrize("network", WITH_BRANCHES)
def test_heads_of_all_networks_keep_the_rows_of_their_classes(network: str) -> None:
    model, x, method = with_branches(network)
    net = tp.route(model, method, example=x)
    path = method.path(net, [4, 1])
    cut = tp.extract(net, path, classes=[4, 1])
    whole = tp.extract(net, path)
    with torch.no_grad():
        torch.testing.assert_close(cut(x), net(x, path)[0][:, [4, 1]])
    head = [m for m in whole.modules() if isinstance(m, nn.Linear)][-1]
    assert count_params(whole) - count_params(cut) == 3 * (head.in_features + (head.bias is not None))


def test_a_head_that_is_a_convolution_keeps_rows_too() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = with_branches("own/resnext")[0]
            self.body.fc = nn.Identity()
            self.head = nn.Conv2d(32, 5, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.head(self.body(x)[:, :, None, None]).flatten(1)
            return y

    _, x, method = with_branches("own/resnext")
    net = tp.route(Pooled().eval(), method, example=x)
    path = method.path(net, [2])
    with torch.no_grad():
        torch.testing.assert_close(tp.extract(net, path, classes=[2])(x), net(x, path)[0][:, [2]])


@pytest.mark.slow
@pytest.mark.parametrize("gated", [False, True], ids=["coded", "coded and gated"])
def test_coded_networks_are_exported_in_any_mode(gated: bool, tmp_path: Path) -> None:
    model, x, method = with_branches("own/resnext")
    net = tp.route(model, [method, tp.GatedBlocks()] if gated else method, example=x).eval()
    with torch.no_grad():
        expected = net(x[:1])[0]
    net.train()
    tp.export(net, tmp_path / "net.onnx", x)
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    [name] = [i.name for i in session.get_inputs()]
    got = torch.from_numpy(session.run(None, {name: x[:1].numpy()})[0])
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_a_class_of_a_librarys_network_is_saved_and_loaded(tmp_path: Path) -> None:
    made = source("timm/resnext26ts", 5)
    torch.manual_seed(0)
    model = made.make().eval()
    x = torch.randn(2, 3, 64, 64)
    method = tp.CodedPaths(classes=5, ratios=(1, 1, 1, 0.5))
    net = tp.route(model, method, example=x)
    spec = tp.save_cut(net, method.path(net, [1]), tmp_path / "cut", made, method=method, keep=[1])
    assert spec.cut.params < spec.plain.params
    with torch.no_grad():
        torch.testing.assert_close(load_cut(tmp_path / "cut")(x), net(x, method.path(net, [1]))[0][:, [1]])


def test_a_head_whose_weights_are_computed_is_refused_until_they_are_plain() -> None:
    model, x, method = with_branches(next(iter(WITH_BRANCHES)))
    name, head = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear)][-1]
    model.set_submodule(name, nn.utils.parametrizations.weight_norm(head))
    net = tp.route(model, method, example=x)
    path = method.path(net, [4, 1])
    with pytest.raises(CallError, match=r"are computed of others .* parametrize\.remove_parametrizations"):
        tp.extract(net, path, classes=[4, 1])
    nn.utils.parametrize.remove_parametrizations(net.model.get_submodule(name), "weight")
    with torch.no_grad():
        torch.testing.assert_close(tp.extract(net, path, classes=[4, 1])(x), net(x, path)[0][:, [4, 1]])
