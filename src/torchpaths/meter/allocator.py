"""Memory on the CPU: let the C library keep what tensors give back.

glibc returns large blocks to the system as soon as they are freed and gets them back page by page, each page cleared
anew. A network that allocates the same activations in every call spends time on that of which MACs know nothing, so
that the gap grows too (`docs/measure.md` has figures). PyTorch's own tuning guide recommends another allocator
(jemalloc, tcmalloc) for the same reason; this needs none.
"""

from __future__ import annotations

import ctypes
import os
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of mallopt(3)."""

_kept = False


def keep_memory() -> bool:
    """Asks glibc to keep freed memory for the rest of the process, whose size then stays at its peak.

    The same as starting it with MALLOC_TRIM_THRESHOLD_=-1 and MALLOC_MMAP_MAX_=0.

    Returns:
        Whether that was done: not on other systems, nor where another allocator stands in for glibc's, which has its
        own ways.
    """
    global _kept
    if allocator() == "glibc":
        libc = ctypes.CDLL(None)
        _kept = bool(libc.mallopt(_TRIM_THRESHOLD, -1)) and bool(libc.mallopt(_MMAP_MAX, 0))
    return _kept


def allocator() -> str:
    """Who hands out memory on the CPU: "glibc", "glibc, kept" after `keep_memory`, "glibc, tuned" where the environment
    does, the name of the library that stands in for it, or "system" elsewhere."""
    preloaded = os.environ.get("LD_PRELOAD", "")
    for name in ("jemalloc", "tcmalloc", "mimalloc"):
        if name in preloaded:
            return name
    if platform.libc_ver()[0] != "glibc":
        return "system"
    if _kept:
        return "glibc, kept"
    tuned = "malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(key.startswith("MALLOC_") for key in os.environ)
    return "glibc, tuned" if tuned else "glibc"
