"""Two threads that share one network: what they gain, beside what two threads gain on the plain network.

    python benchmarks/threads.py

ResNet-50 at 224 x 224, batch 1, fp32, one torch thread each. In every round the same calls are made by one thread and
by two, on the plain network and on the routed one (each thread along a path of its own, both with everything open, so
that equal work is compared), in random order. The gain is one thread's time over two threads' time; printed is the
median of (gain routed / gain plain) with its 95 % interval. Needs two idle cores.
"""

from __future__ import annotations

import argparse
import json
import random
import threading
import time
from collections.abc import Callable
from functools import partial

import torch
import torchvision

import torchpaths as tp
from torchpaths.meter.timing import median_interval

CALLS = 6


def seconds(call: Callable[[int], object], threads: int) -> float:
    """Time of ``CALLS`` calls, divided among so many threads."""

    def serve(number: int) -> None:
        torch.set_num_threads(1)
        with torch.no_grad():
            for _ in range(CALLS // threads):
                call(number)

    workers = [threading.Thread(target=serve, args=(number,)) for number in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(1, 3, 224, 224)
    plain = torchvision.models.resnet50().eval()
    net = tp.route(torchvision.models.resnet50().eval(), example=x).eval()
    fast = tp.skipping(net)
    paths = [tp.Path.full(net), tp.Path(dict(tp.Path.full(net)))]
    networks: dict[str, Callable[[int], object]] = {
        "plain": lambda _: plain(x),
        "routed": lambda number: net(x, paths[number]),
        "skipping": lambda number: fast(x, paths[number]),
    }
    draw = random.Random(0)
    gains: dict[str, list[float]] = {name: [] for name in networks}
    for round_ in range(given.rounds + 1):
        found: dict[str, float] = {}
        for name in draw.sample(list(networks), len(networks)):
            times = {n: partial(seconds, networks[name], n) for n in draw.sample([1, 2], 2)}
            taken = {n: run() for n, run in times.items()}
            found[name] = taken[1] / taken[2]
        if round_:  # the first warms up
            for name, gain in found.items():
                gains[name].append(gain)
    rows = []
    for name in ("routed", "skipping"):
        ratio = median_interval([a / b for a, b in zip(gains[name], gains["plain"], strict=True)])
        medians = {n: sorted(gains[n])[len(gains[n]) // 2] for n in ("plain", name)}
        rows.append({"network": name, "gains": medians, "ratio": [ratio.value, ratio.low, ratio.high]})
        print(
            f"{name:9s} two threads gain {medians[name]:.2f}, on the plain network {medians['plain']:.2f}: "
            f"ratio {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
        )
    print(json.dumps({"rounds": given.rounds, "rows": rows}))


if __name__ == "__main__":
    main()
