"""Claims about weights files: all tensors fit, or none is taken."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from torchpaths.errors import RunError
from torchpaths.models import cifar_resnet, load_weights
from torchpaths.models.weights import Head


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    state = {k: v for k, v in cifar_resnet(20).state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "resnet20.safetensors")
    return tmp_path / "resnet20.safetensors"


def test_weights_return_bit_for_bit_also_without_batch_counters(file: Path) -> None:
    torch.manual_seed(1)
    original = cifar_resnet(20).state_dict()
    model = cifar_resnet(20)
    assert not torch.equal(model.state_dict()["conv1.weight"], original["conv1.weight"])
    load_weights(model, file)
    assert all(torch.equal(v, original[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("depth", "shortcut", "classes", "message"),
    [
        (32, "A", 10, r"60 tensors absent from the file \(layer1.3.conv1.weight"),
        (20, "B", 10, "absent from the file.*shortcut"),
        (20, "A", 100, r"linear.weight \[10, 64\] for \[100, 64\]"),
    ],
)
def test_another_networks_weights_are_refused_and_nothing_is_changed(
    file: Path, depth: int, shortcut: str, classes: int, message: str
) -> None:
    model = cifar_resnet(depth, "A" if shortcut == "A" else "B", classes)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(RunError, match=message):
        load_weights(model, file)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_tensors_the_model_lacks_are_refused(file: Path) -> None:
    save_file({**cifar_resnet(20).state_dict(), "gate.weight": torch.zeros(1)}, file)
    with pytest.raises(RunError, match=r"1 tensors unknown to the model \(gate.weight\)"):
        load_weights(cifar_resnet(20), file)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_a_truncated_file_is_refused(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(RunError, match="truncated or corrupt"):
        load_weights(cifar_resnet(20), file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no weights file .*absent\.safetensors"):
        load_weights(cifar_resnet(20), tmp_path / "absent.safetensors")


def told(wrapped: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as timm writes it."""
    return {"epoch": 3, "arch": "x", "args": argparse.Namespace(lr=0.1), "state_dict": wrapped}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "kept",
    [
        lambda state: state,
        told,
        lambda state: {"model": state, "optimizer": {"state": {}}},
        lambda state: told({f"module.{name}": value for name, value in state.items()}),
        lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
    ],
)
def test_what_torch_saved_of_a_network_is_read(kept: Callable[[Any], Any], zipped: bool, tmp_path: Path) -> None:
    torch.manual_seed(1)
    original = cifar_resnet(14).state_dict()
    file = tmp_path / "weights.pth.tar"
    torch.save(kept(original), file, _use_new_zipfile_serialization=zipped)
    model = cifar_resnet(14)
    load_weights(model, file)
    assert all(torch.equal(value, original[name]) for name, value in model.state_dict().items())


def test_a_flipped_bit_in_what_torch_saved_is_found(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(cifar_resnet(14).state_dict(), file)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(RunError, match=r"truncated or corrupt .*checksum"):
        load_weights(cifar_resnet(14), file)


def test_a_pickled_model_is_not_run_and_the_remedy_works(tmp_path: Path) -> None:
    original, file = cifar_resnet(14), tmp_path / "model.pth"
    torch.save(original, file)
    with pytest.raises(
        RunError, match=r"would run code that the file names.*torch.save\(found.state_dict\(\), 'weights.pth'"
    ):
        load_weights(cifar_resnet(14), file)
    found = torch.load(file, weights_only=False)
    torch.save(found.state_dict(), tmp_path / "weights.pth")
    model = cifar_resnet(14)
    load_weights(model, tmp_path / "weights.pth")
    assert torch.equal(model.conv1.weight, original.conv1.weight)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"a": torch.zeros(1), 3: torch.zeros(1)}])
def test_what_holds_no_weights_by_name_is_said(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(RunError, match=r"no weights by name; write them"):
        load_weights(cifar_resnet(14), tmp_path / "weights.pth")


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod.", "student.backbone."]
)
def test_what_wrappers_put_before_all_names_is_taken_off(prefix: str, tmp_path: Path) -> None:
    state = cifar_resnet(20).state_dict()
    torch.save({"state_dict": {f"{prefix}{name}": value for name, value in state.items()}}, tmp_path / "w.pth.tar")
    model = cifar_resnet(20)
    assert load_weights(model, tmp_path / "w.pth.tar").head is None
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_a_prefix_before_some_names_only_is_another_network(tmp_path: Path) -> None:
    state = {(k if k.startswith("linear") else f"backbone.{k}"): v for k, v in cifar_resnet(20).state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(RunError, match=r"unknown to the model \(backbone\.conv1\.weight"):
        load_weights(cifar_resnet(20), tmp_path / "w.pth", new_head=True)


@pytest.mark.parametrize("was", [100, None])
def test_a_last_layer_of_other_classes_starts_anew_where_that_is_asked_for(was: int | None, tmp_path: Path) -> None:
    state = cifar_resnet(20, classes=was or 10).state_dict()
    if was is None:
        state = {k: v for k, v in state.items() if not k.startswith("linear.")}
    save_file(state, tmp_path / "w.safetensors")
    model = cifar_resnet(20, classes=5)
    before = model.linear.weight.clone()
    with pytest.raises(RunError, match="or fine-tune them for these classes"):
        load_weights(model, tmp_path / "w.safetensors")
    head = load_weights(model, tmp_path / "w.safetensors", new_head=True).head
    assert head == Head("linear", was, 5)
    assert torch.equal(model.linear.weight, before)
    assert torch.equal(model.conv1.weight, state["conv1.weight"])


def test_a_last_layer_that_fits_is_kept(file: Path) -> None:
    model = cifar_resnet(20)
    assert load_weights(model, file, new_head=True).head is None
    assert torch.equal(model.linear.weight, load_file(file)["linear.weight"])


@pytest.mark.parametrize("depth", [14, 32])
def test_a_new_last_layer_excuses_no_other_difference(depth: int, file: Path) -> None:
    model = cifar_resnet(depth, classes=5)
    with pytest.raises(RunError, match="another network"):
        load_weights(model, file, new_head=True)
