"""Peak memory of one forward pass: what a call allocates at most at one time, beyond weights and input.

On a GPU torch's allocator keeps the count. On a CPU torch's profiler reports every allocation and release; summed in
order of time, their largest running sum is the peak. Both count what torch's allocators hand out: feature maps, copies,
workspaces asked of them. Memory that a library takes past them (oneDNN's scratch pads) is not seen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.autograd.profiler import profile

_ALLOCATION = "[memory]"
"""What torch's profiler calls an allocation or release."""


def peak_memory(call: Callable[[], object], device: torch.device) -> int:
    """The most bytes that ``call()`` holds allocated at one time, over what was allocated before it.

    Args:
        call: runs once. It should have run before: a first call allocates what later ones find ready.
        device: where it works.
    """
    if device.type == "cpu":
        return _on_cpu(call)
    torch.accelerator.synchronize(device)
    torch.accelerator.reset_peak_memory_stats(device)
    before = torch.accelerator.memory_allocated(device)
    call()
    torch.accelerator.synchronize(device)
    return int(torch.accelerator.max_memory_allocated(device) - before)


def _on_cpu(call: Callable[[], object]) -> int:
    with profile(profile_memory=True) as profiled:
        call()
    assert profiled.kineto_results is not None
    events = [event for event in profiled.kineto_results.events() if event.name() == _ALLOCATION]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak
