"""The examples run as they stand, and end with what they promise."""

from __future__ import annotations

import importlib.util
import pathlib

import pytest

import torchpaths as tp

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"


def test_a_timm_model_becomes_a_network_of_many_depths(capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("adaptive_depth", EXAMPLES / "adaptive_depth.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    front = module.main(epochs=1)
    assert isinstance(front, tp.Front)
    assert front.best(tp.Budget(macs=0.8)).macs <= 0.8 * front.layout.plain.macs
    assert "same answers: True" in capsys.readouterr().out
