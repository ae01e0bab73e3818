"""The verb ``decode``: everything about a coded run, beside its plain twin and images of other classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import torchpaths as tp
from shared import encode, pictures, write_parquet
from torchpaths.cli import decode
from torchpaths.data import Loader, open_data
from torchpaths.train.run import train
from train_toys import tiny
from verbs import answer, complaint, without_images


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A coded run of one epoch on digits, its plain twin, a run of another model, and noise as another data set."""
    folder = tmp_path_factory.mktemp("decode")
    train(tiny(model="resnext20_10x4d", method=tp.CodedPaths(classes=10)), folder / "coded", quiet=True)
    train(tiny(model="resnext20_10x4d", method=None), folder / "plain", quiet=True)
    for name, side in (("noise", 8), ("large", 9)):
        made = [encode(p) for p in pictures(40, side, side, 1)]
        write_parquet(folder / name / "test.parquet", made, [0, 1] * 20, group=40)
    return folder


def test_the_verb_measures_writes_and_draws(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = runs / "out"
    options = ["--twin", runs / "plain", "--ood", runs / "noise", "--train-images", 200, "--repeats", 1, "--out", out]
    answered = answer(capsys, "decode", runs / "coded", *options, "--json")
    kept = json.loads((out / "decode.json").read_text())
    assert {k: v for k, v in answered.items() if k not in ("files", "folder")} == kept
    assert answered["accuracy"] == json.loads((runs / "coded" / "summary.json").read_text())["accuracy"]
    assert answered["images"] == {"train": 200, "test": 355, "foreign": 40}
    assert set(answered["classifiers"]) == {"negatives", "paths", "whole", "twin", "twin_whole"}
    assert answered["class_paths"]["params"] < answered["class_paths"]["plain_params"]
    assert len(answered["files"]) == 13
    assert all(Path(file).is_file() for file in answered["files"])
    assert not (runs / "coded" / "decode.json").exists()


def test_the_verb_wants_a_coded_run_a_twin_of_it_and_images_of_its_size(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    coded, plain = runs / "coded", runs / "plain"
    assert "has no codewords to decode; train one that has" in complaint(capsys, "decode", plain)
    assert "is no plain twin of" in complaint(capsys, "decode", coded, "--twin", coded)
    assert "give images of that size and mode" in complaint(capsys, "decode", coded, "--ood", runs / "large")
    assert "0 images: --train-images and --test-images take at least one" in complaint(
        capsys, "decode", coded, "--train-images", "0"
    )
    assert "'layer9' is no coded site" in complaint(capsys, "decode", coded, "--site", "layer9")
    assert "gone/cifar10" in complaint(capsys, "decode", without_images(coded, runs / "elsewhere"))


def test_a_part_of_the_training_images_is_the_same_each_time() -> None:
    part = decode.Part(Loader(open_data("digits", "train"), 64, shuffle=True, seed=3), 100)
    first, second = [[y.numpy() for _, y in part] for _ in range(2)]
    assert len(part) == 2
    assert np.array_equal(np.concatenate(first), np.concatenate(second))
    assert len(np.concatenate(first)) == 128
