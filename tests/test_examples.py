"""The examples run as they stand, and end with what they promise."""

from __future__ import annotations

import importlib.util
import pathlib
from typing import Any

import pytest

import torchpaths as tp

EXAMPLES = pathlib.Path(__file__).resolve().parents[1] / "examples"


def example(name: str) -> Any:
    """An example as a module, its ``main`` not called."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_timm_model_becomes_a_network_of_many_depths(capsys: pytest.CaptureFixture[str]) -> None:
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
