"""What a change of the library costs a call: this checkout and another in one run, taking turns.

    python benchmarks/overhead.py --other PATH_OF_ANOTHER_CHECKOUT

A process for each checkout, both with the same network and images; in every round each makes some calls, in random
order, and the ratio of a round's medians is one observation. Printed are the median ratio (here / other) and its 95 %
interval, for two calls: `skipping` on a CIFAR ResNet-56 whose gates open half of the blocks, and a plain call of a
routed ResNet-50; batch 1, one thread, fp32. To be run alone on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def work() -> None:
    """One checkout's process: a line in, the median seconds of so many calls out."""
    import statistics

    import torch

    import torchpaths as tp
    from torchpaths.models import cifar_resnet

    torch.set_num_threads(1)
    torch.manual_seed(0)
    import torchvision

    small, image = cifar_resnet(56, classes=10).eval(), torch.randn(1, 3, 32, 32)
    net = tp.route(small, tp.GatedBlocks(), example=image).eval()
    for i, gate in enumerate(net.deciders.values()):  # half of the gates shut, looking at the image all the same
        gate.fc2.bias.data = torch.tensor([0.0, 4.0 if i % 2 else -4.0])  # type: ignore[union-attr, assignment]
    large, photo = torchvision.models.resnet50().eval(), torch.randn(1, 3, 224, 224)
    routed = tp.route(large, example=photo).eval()
    calls = {"skipping": (tp.skipping(net), image), "routed": (routed, photo)}
    with torch.no_grad():
        for model, x in calls.values():
            for _ in range(5):
                model(x)
        print("ready", flush=True)
        for line in sys.stdin:
            name, count = line.split()
            model, x = calls[name]
            taken = []
            for _ in range(int(count)):
                start = time.perf_counter()
                model(x)
                taken.append(time.perf_counter() - start)
            print(statistics.median(taken), flush=True)


class Checkout:
    """A process that imports torchpaths from a checkout."""

    def __init__(self, root: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--work"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def seconds(self, name: str, count: int) -> float:
        """The median of so many calls."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name} {count}\n")
        self.process.stdin.flush()
        return float(self._line())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--other", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work()
    from torchpaths.meter.timing import median_interval

    checkouts = {"here": Checkout(ROOT), "other": Checkout(given.other)}
    draw = random.Random(0)
    rows: list[dict[str, Any]] = []
    for name, count in (("skipping", 40), ("routed", 4)):
        times: dict[str, list[float]] = {"here": [], "other": []}
        for _ in range(given.rounds):
            for which in draw.sample(list(checkouts), 2):
                times[which].append(checkouts[which].seconds(name, count))
        ratio = median_interval([a / b for a, b in zip(times["here"], times["other"], strict=True)])
        ms = {which: 1e3 * sorted(found)[len(found) // 2] for which, found in times.items()}
        rows.append({"call": name, "ms": ms, "ratio": [ratio.value, ratio.low, ratio.high]})
        print(
            f"{name:10s} here {ms['here']:7.2f} ms, other {ms['other']:7.2f} ms, "
            f"ratio {ratio.value:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"
        )
    print(json.dumps({"rounds": given.rounds, "rows": rows}))
    for checkout in checkouts.values():
        checkout.process.kill()
    return None


if __name__ == "__main__":
    main()
