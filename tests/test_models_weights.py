"""Claims about weights files: all tensors fit, or none is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from torchpaths.errors import RunError
from torchpaths.models import cifar_resnet, load_weights


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
