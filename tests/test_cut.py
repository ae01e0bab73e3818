"""Cut networks on disk: they open without torchpaths and give what the routed network gave, or say what is wrong."""

from __future__ import annotations

import errno
import functools
import json
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.resnet import BasicBlock

import torchpaths as tp
from block_toys import Bare
from torchpaths.cuts import Spec, load_cut, save_cut
from torchpaths.cuts.code import value
from torchpaths.errors import DataError, PathError, RouteError, RunError
from torchpaths.files.write import write_file
from torchpaths.models import Source, cifar_resnet, source


@dataclass(frozen=True)
class Case:
    """A model by name, what to close, and how load.py then makes it."""

    name: str
    closed: tuple[str, ...]
    build: str
    edits: bool
    kwargs: dict[str, Any]
    side: int = 32


CASES = {
    "own, fewer blocks": Case(
        "cifar_resnet20",
        ("layer1.1", "layer3.2"),
        "cifar_resnet.CifarResNet(blocks=(2, 3, 2), shortcut='A', classes=5, channels=3)",
        False,
        {},
    ),
    "own, edited": Case(
        "cifar_resnet20",
        ("layer1.1", "layer2.0", "layer3.0", "layer3.2"),
        "cifar_resnet.CifarResNet(blocks=(3, 3, 3), shortcut='A', classes=5, channels=3)",
        True,
        {},
    ),
    "timm, fewer blocks": Case(
        "timm/test_vit",
        ("blocks.2.attn", "blocks.2.mlp"),
        "timm.create_model('test_vit', num_classes=5, in_chans=3, img_size=32, depth=5)",
        False,
        {"img_size": 32},
    ),
    "timm, edited": Case(
        "timm/test_vit",
        ("blocks.0.attn", "blocks.2.attn", "blocks.2.mlp", "blocks.5.attn"),
        "timm.create_model('test_vit', num_classes=5, in_chans=3, img_size=32)",
        True,
        {"img_size": 32},
    ),
    "timm, with rates of dropping that depend on the number of blocks": Case(
        "timm/test_convnext",
        ("stages.2.blocks.1",),
        "timm.create_model('test_convnext', num_classes=5, in_chans=3, drop_path_rate=0.2)",
        True,
        {"drop_path_rate": 0.2},
    ),
    "torchvision, fewer blocks": Case(
        "torchvision/resnet18",
        ("layer3.1", "layer4.1"),
        "torchvision.models.resnet.ResNet(block=torchvision.models.resnet.BasicBlock, layers=[2, 2, 1, 1], "
        "num_classes=5)",
        False,
        {},
    ),
    "torchvision, edited": Case(
        "torchvision/resnet18",
        ("layer3.0", "layer4.1"),
        "torchvision.models.get_model('resnet18', num_classes=5)",
        True,
        {},
    ),
    "everything open": Case(
        "timm/test_resnet", (), "timm.create_model('test_resnet', num_classes=5, in_chans=3)", False, {}
    ),
}


def routed(name: str, side: int = 32, **kwargs: Any) -> tuple[tp.Routed, Source]:
    torch.manual_seed(0)
    where = source(name, 5, **kwargs)
    model = where.make().eval()
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    return tp.route(model, example=torch.randn(2, 3, side, side)), where


def closing(net: tp.Routed, *sites: str) -> tp.Path:
    assert set(sites) <= set(net.sites)
    return tp.Path({site: site not in sites for site in net.sites}, net.layout.fingerprint)


@pytest.fixture(scope="module")
def own() -> tuple[tp.Routed, Source]:
    return routed("cifar_resnet20", 8)


@dataclass(frozen=True)
class Written:
    folder: Path
    spec: Spec
    x: Tensor
    y: Tensor


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    """Every case on disk, with an input and what the routed network gives for it."""
    root = tmp_path_factory.mktemp("cut")
    found = {}
    nets: dict[str, tuple[tp.Routed, Source]] = {}
    for i, (name, case) in enumerate(CASES.items()):
        if case.name not in nets:
            nets[case.name] = routed(case.name, case.side, **case.kwargs)
        net, where = nets[case.name]
        path = closing(net, *case.closed)
        folder = root / str(i)
        spec = save_cut(net, path, folder, where, classes=tuple("abcde"), mean=(0.5,) * 3, std=(0.25,) * 3)
        x = torch.randn(3, 3, case.side, case.side)
        with torch.no_grad():
            found[name] = Written(folder, spec, x, net(x, path)[0])
    return found


def test_every_folder_opens_without_torchpaths_and_gives_the_same_logits(
    written: dict[str, Written], tmp_path: Path
) -> None:
    torch.save({name: (str(w.folder), w.x) for name, w in written.items()}, tmp_path / "x.pt")
    code = (
        "import sys, runpy, torch; sys.modules['torchpaths'] = None\n"
        "given = torch.load(sys.argv[1])\n"
        "with torch.no_grad():\n"
        "    y = {}\n"
        "    for name, (folder, x) in given.items():\n"
        "        sys.modules.pop('cifar_resnet', None)\n"
        "        model = runpy.run_path(folder + '/load.py')['load']()\n"
        "        assert not any(m.training for m in model.modules())\n"
        "        y[name] = model(x)\n"
        "torch.save(y, sys.argv[2])"
    )
    subprocess.run([sys.executable, "-B", "-c", code, tmp_path / "x.pt", tmp_path / "y.pt"], check=True)
    answered = torch.load(tmp_path / "y.pt")
    for name, w in written.items():
        torch.testing.assert_close(answered[name], w.y, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("name", CASES)
def test_the_library_makes_the_network_itself_where_only_whole_blocks_are_gone(
    name: str, written: dict[str, Written]
) -> None:
    case, spec = CASES[name], written[name].spec
    assert (spec.build, spec.edits) == (case.build, case.edits)
    text = (written[name].folder / "load.py").read_text()
    assert case.build in text
    assert "import torchpaths" not in text
    if not case.edits:
        assert len([line for line in text.splitlines() if line.startswith(" ")]) <= 10


@pytest.mark.parametrize("name", ["own, edited", "timm, edited", "torchvision, fewer blocks"])
def test_a_folder_is_read_back_as_the_same_network(name: str, written: dict[str, Written]) -> None:
    w = written[name]
    model = load_cut(w.folder)
    with torch.no_grad():
        torch.testing.assert_close(model(w.x), w.y, rtol=1e-5, atol=1e-5)
    assert sum(p.numel() for p in model.parameters()) == w.spec.cut.params < w.spec.plain.params


def test_the_description_says_what_was_cut_and_what_it_takes(written: dict[str, Written]) -> None:
    for name, w in written.items():
        spec = Spec.read(w.folder)
        assert spec == w.spec
        closed = {site for site, opened in spec.path.items() if not all(opened)}
        assert closed == set(CASES[name].closed)
        assert spec.path.network is not None
        assert (spec.shape, spec.dtype, spec.classes) == ((3, *w.x.shape[2:]), "float32", tuple("abcde"))
        assert (spec.mean, spec.std) == ((0.5,) * 3, (0.25,) * 3)
        assert (spec.cut.macs < spec.plain.macs) == (spec.cut.params < spec.plain.params) == bool(closed)
        beside = ["cifar_resnet.py"] if CASES[name].name.startswith("cifar") else []
        assert {f.name for f in w.folder.iterdir()} == {"load.py", "spec.json", "weights.safetensors", *beside}
    assert "cifar_resnet" not in sys.modules


@pytest.fixture
def small(written: dict[str, Written], tmp_path: Path) -> Path:
    """A copy of one folder, to be damaged."""
    return shutil.copytree(written["own, fewer blocks"].folder, tmp_path / "small")


def test_truncated_weights_are_refused_by_loader_and_library(written: dict[str, Written], tmp_path: Path) -> None:
    folder = shutil.copytree(written["timm, edited"].folder, tmp_path / "cut")
    load = runpy.run_path(str(folder / "load.py"))["load"]
    assert sum(p.numel() for p in load().parameters()) == written["timm, edited"].spec.cut.params
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    with pytest.raises(ValueError, match=rf"^{weights} is truncated or was changed; copy the folder again$"):
        load()
    with pytest.raises(DataError, match=rf"weights.safetensors: truncated or corrupt.*{weights.stat().st_size:,}"):
        load_cut(folder)
    weights.unlink()
    with pytest.raises(DataError, match=r"weights.safetensors is missing; copy the whole folder"):
        load_cut(folder)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    spec = json.loads((folder / "spec.json").read_text())
    change(spec)
    (folder / "spec.json").write_text(json.dumps(spec))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(schema="torchpaths.cut/9"), "schema 'torchpaths.cut/9', this version reads"),
        (lambda s: s.pop("path"), "missing required field `path`"),
        (lambda s: s["source"].update(size=3), "unknown field `size`"),
        (lambda s: s["path"]["sites"].update({"layer1.2": [0]}), "path, weights and network do not fit each other"),
        (lambda s: s["path"]["sites"].pop("layer1.2"), "leaves 1 sites to decide"),
        (lambda s: s["source"].update(name="cifar_resnet32"), "the path was made for network"),
        (lambda s: s["input"].update(dtype="float31"), "torch has no dtype 'float31'"),
        (lambda s: s["weights"].update(sha256="0"), "truncated or corrupt"),
    ],
)
def test_an_edited_description_is_refused(small: Path, change: Callable[[Any], object], message: str) -> None:
    edit(small, change)
    with pytest.raises(DataError, match=message):
        load_cut(small)


def test_a_description_that_is_cut_short_or_absent_is_refused_with_the_remedy(small: Path) -> None:
    (small / "spec.json").write_bytes((small / "spec.json").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"spec.json: not JSON .*make it anew with torchpaths cut RUN"):
        load_cut(small)
    (small / "spec.json").unlink()
    with pytest.raises(DataError, match=r"no cut network there; make one with torchpaths cut RUN --out DIR"):
        load_cut(small)


def test_an_original_that_is_not_there_says_so(small: Path) -> None:
    edit(small, lambda s: s["source"].update(library="tim"))
    with pytest.raises(RunError, match="no library 'tim'"):
        load_cut(small)


def test_a_folder_with_something_in_it_is_refused_and_an_empty_one_taken(
    own: tuple[tp.Routed, Source], tmp_path: Path
) -> None:
    net, where = own
    path = tp.Path.full(net)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "taken", tmp_path / "taken" / "file"):
        with pytest.raises(RunError, match="is there already and not empty; name a new folder, or remove it first"):
            save_cut(net, path, folder, where)
    save_cut(net, path, tmp_path / "empty", where)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "taken"]


def test_a_folder_is_written_whole_or_not_at_all(
    own: tuple[tp.Routed, Source], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, where = own
    path = tp.Path.full(net)

    def full(file: Path, data: bytes) -> None:
        if file.name == "spec.json":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_file(file, data)

    monkeypatch.setattr("torchpaths.cuts.save.write_file", full)
    with pytest.raises(RunError, match="the disk is full"):
        save_cut(net, path, tmp_path / "out", where)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    with pytest.raises(PathError, match="leaves 8 sites"):
        save_cut(net, tp.Path({"layer1.0": False}), tmp_path / "out", where)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_makes_another_network_is_refused(own: tuple[tp.Routed, Source], tmp_path: Path) -> None:
    net, _ = own
    for other in (source("cifar_resnet32", 5), source("cifar_resnet20", 6)):
        with pytest.raises(RouteError, match=rf"no loader gives the cut .* Does {other} make its original\?"):
            save_cut(net, closing(net, "layer1.1"), tmp_path / "out", other)
    with pytest.raises(RunError, match=r"written as JSON.*give numbers, texts and lists only"):
        save_cut(net, tp.Path.full(net), tmp_path / "out", Source("timm", "resnet18", {"norm_layer": nn.BatchNorm2d}))
    assert list(tmp_path.iterdir()) == []


def test_weights_in_half_precision_stay_so(tmp_path: Path) -> None:
    net, where = routed("cifar_resnet20", 8)
    net.to(torch.bfloat16)
    path = closing(net, "layer1.1", "layer2.0")
    spec = save_cut(net, path, tmp_path / "out", where)
    assert spec.dtype == "bfloat16"
    model = load_cut(tmp_path / "out")
    x = torch.randn(2, 3, 8, 8).bfloat16()
    with torch.no_grad():
        assert torch.equal(model(x), net(x, path)[0])


class Mine(nn.Sequential):
    """A network of a class that no library knows."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), Bare(), nn.Flatten(), nn.Linear(4 * 30 * 30, 5))


def test_a_network_of_no_library_is_refused(tmp_path: Path) -> None:
    net = tp.route(Mine(), example=torch.randn(2, 3, 32, 32))
    with pytest.raises(RouteError, match="cifar_resnet20 makes no Mine, which the routed network is"):
        save_cut(net, tp.Path.full(net), tmp_path / "out", source("cifar_resnet20", 5))


def test_blocks_given_by_hand_open_with_their_loader_as_the_library_says(tmp_path: Path) -> None:
    torch.manual_seed(0)
    where = source("cifar_resnet20", 5)
    given = (
        tp.Residual(
            branch=lambda block, x: block.bn2(block.conv2(block.relu1(block.bn1(block.conv1(x))))),
            shortcut=lambda block, x: x,
            post=lambda block, x: x,
        ),
        tp.Residual(
            branch=lambda block, x: torch.zeros_like(x), shortcut=lambda block, x: block.relu2(x), post=lambda _, x: x
        ),
    )
    x = torch.randn(2, 3, 32, 32)
    net = tp.route(where.make().eval(), example=x, residuals={"layer1.1": given})
    path = closing(net, "layer1.1.0")
    save_cut(net, path, tmp_path / "out", where)
    with pytest.raises(DataError, match=r"load.py opens networks with blocks given by hand"):
        load_cut(tmp_path / "out")
    with torch.no_grad():
        assert torch.equal(runpy.run_path(str(tmp_path / "out" / "load.py"))["load"]()(x), net(x, path)[0])


@pytest.mark.parametrize(
    ("of", "text"),
    [
        (3, "3"),
        (0.1, "0.1"),
        ("a'b", '"a\'b"'),
        (None, "None"),
        ((1,), "(1,)"),
        ([1, (2, True)], "[1, (2, True)]"),
        ({"a": 1}, "dict([('a', 1)])"),
        (BasicBlock, "torchvision.models.resnet.BasicBlock"),
        (functional.relu, "torch.nn.functional.relu"),
        (
            functools.partial(nn.LayerNorm, eps=1e-6),
            "functools.partial(torch.nn.modules.normalization.LayerNorm, eps=1e-06)",
        ),
    ],
)
def test_values_are_written_as_source_that_makes_them(of: object, text: str) -> None:
    code = value(of)
    assert code.text == text
    scope: dict[str, Any] = {}
    exec("\n".join(code.imports), scope)
    made = eval(code.text, scope)
    assert made == of or (made.func, made.keywords) == (of.func, of.keywords)  # type: ignore[attr-defined]


@pytest.mark.parametrize("of", [lambda x: x, object(), float("nan"), torch.zeros(2)])
def test_a_value_that_source_cannot_say_is_refused(of: object) -> None:
    with pytest.raises(RouteError, match="cannot be written as source text"):
        value(of)


def test_a_source_that_is_only_a_name_is_refused_with_what_makes_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 32, 32)
    net = tp.route(cifar_resnet(20, classes=4).eval(), example=x)
    path = tp.Path.full(net)
    with pytest.raises(RunError, match=r"give torchpaths.models.source\(name, classes=...\)"):
        tp.save_cut(net, path, tmp_path / "cut", "cifar_resnet20")  # type: ignore[arg-type]
    tp.save_cut(net, path, tmp_path / "cut", source("cifar_resnet20", classes=4))
