"""Stand-ins for what is published: a tiny network of timm, caches as the libraries lay them out, and no network."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm

TINY = "timm/test_resnet"


def config(name: str = "test_resnet") -> dict[str, Any]:
    """What timm says of a network's images."""
    found = timm.get_pretrained_cfg(name)
    assert found is not None
    return dataclasses.asdict(found)


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, and no network; returns the hub's cache."""

    def none(*_: Any, **__: Any) -> None:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", none)
    monkeypatch.setattr(socket, "create_connection", none)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "hub"


def cached(cache: Path, repository: str, name: str) -> Path:
    """A place for a file in the hub's cache, as its client lays it out."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text("0" * 40)
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True, exist_ok=True)
    return snapshot / name
