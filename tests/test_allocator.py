"""Memory that tensors give back is kept, and a measurement says who hands it out."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
import torch

from torchpaths.meter import allocator
from torchpaths.meter.setting import setting_of

FAULTS = """
import resource, torch
from torchpaths.meter.allocator import allocator, keep_memory
def work():
    for _ in range(4):
        torch.ones(16 << 20)
def faults():
    for _ in range(3):
        work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
given_back = faults()
assert keep_memory() and allocator() == "glibc, kept"
print(faults(), given_back)
"""

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")


@glibc
def test_kept_memory_needs_no_new_pages() -> None:
    """Pages that a process has to get again for work it has done before: first as it is, then with memory kept."""
    environment = {"OMP_NUM_THREADS": "1"}
    found = subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, text=True, check=True)
    kept, given_back = map(int, found.stdout.split())
    assert kept < 20 < 4 * 32 <= given_back, "64 MiB are 32 pages where pages are huge"


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"LD_PRELOAD": "/usr/lib/libjemalloc.so.2"}, "jemalloc"),
        ({"LD_PRELOAD": "libtcmalloc.so.4"}, "tcmalloc"),
        pytest.param({"MALLOC_TRIM_THRESHOLD_": "-1"}, "glibc, tuned", marks=glibc),
        pytest.param({"GLIBC_TUNABLES": "glibc.malloc.mmap_max=0"}, "glibc, tuned", marks=glibc),
        pytest.param({}, "glibc", marks=glibc),
    ],
)
def test_a_setting_names_the_allocator(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str) -> None:
    monkeypatch.setattr(allocator, "_kept", False)
    for key in ("LD_PRELOAD", "GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"):
        monkeypatch.delenv(key, raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert allocator.allocator() == name
    assert setting_of(torch.nn.Identity(), torch.randn(1, 3)).allocator == name


def test_where_another_library_hands_out_memory_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "_kept", False)
    monkeypatch.setenv("LD_PRELOAD", "libjemalloc.so.2")
    assert not allocator.keep_memory()
    assert allocator.allocator() == "jemalloc"
