"""The examples run as they stand, and end with what they promise."""

from __future__ import annotations

import functools
import importlib.util
import pathlib
from typing import Any

import nbformat
import pytest
import timm
import torch
from nbclient import NotebookClient

import torchpaths as tp
from shared import encode, pictures
from torchpaths.cuts import load_cut
from torchpaths.meter import batches

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"


def example(name: str) -> Any:
    """An example as a module, its ``main`` not called."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_timm_model_becomes_a_network_of_many_depths(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long a depth takes is printed and no claim.
    monkeypatch.setattr(tp, "front", functools.partial(tp.front, seconds=0.01))
    monkeypatch.setattr(batches, "IMAGES", 2)
    front = example("adaptive_depth").main(epochs=1)
    assert isinstance(front, tp.Front)
    assert front.best(tp.Budget(macs=0.8)).macs <= 0.8 * front.layout.plain.macs
    assert "same answers: True" in capsys.readouterr().out


def test_a_network_whose_filters_each_image_chooses_is_trained_narrowed_and_cut(
    capsys: pytest.CaptureFixture[str],
) -> None:
    net = example("gated_filters").main(epochs=1)
    assert isinstance(net, tp.Routed)
    assert {site.kind for site in net.sites.values()} == {"filters"}
    assert "same answers: True" in capsys.readouterr().out


def test_own_images_and_a_trained_network_become_one_small_file_without_json(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, name in enumerate(("dark", "light")):
        (tmp_path / "my photos" / name).mkdir(parents=True)
        for i, pixels in enumerate(pictures(24, 40, 48, seed=label)):
            (tmp_path / "my photos" / name / f"{i}.png").write_bytes(encode(pixels // 2 + 120 * label))
    torch.save(timm.create_model("test_resnet", num_classes=2).state_dict(), tmp_path / "mine.pth")
    file = example("monday").main(
        tmp_path / "my photos",
        "timm/test_resnet",
        tmp_path / "out",
        macs=0.8,
        train=f"--weights {tmp_path / 'mine.pth'} --size 32 --epochs 1 --batch 8",
        shrink="--epochs 1 --images 16 --batch 1 --seconds 0.05",
    )
    assert file.stat().st_size > 1000
    assert load_cut(tmp_path / "out/small/cut").eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 2)
    assert "layers are integer" in capsys.readouterr().out


def test_the_notebook_runs_from_top_to_bottom(tmp_path: pathlib.Path) -> None:
    notebook = nbformat.read(EXAMPLES / "first_look.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert "EPOCHS = 20" in notebook.cells[1].source
    notebook.cells[1].source = notebook.cells[1].source.replace("EPOCHS = 20", "EPOCHS = 3")
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    told = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))
    assert "torchpaths.models.cifar_resnet True" in told, "what was cut out answers as the path does"
    assert (tmp_path / "rates.png").exists()
