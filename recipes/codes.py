"""The file of shipped coding schemes, ``src/torchpaths/coding/shipped/schemes.json``: searches too long for every call.

    python recipes/codes.py

searches again, with more steps than `torchpaths.codes` takes itself, and keeps a scheme where that gives a larger
minimum distance. The steps are counted and nothing depends on time, so the file comes out the same on every machine.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

from torchpaths.coding import shipped
from torchpaths.coding.bounds import distance_bound
from torchpaths.coding.certificates import certificate
from torchpaths.coding.constructions import construct

SCHEMES = {(1000, 32, 8): 1}
"""Classes, units, active: how many times more steps."""

FILE = pathlib.Path(shipped.__file__).parent / shipped.FILE


def main() -> None:
    """Search, print and write."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    found: dict[str, str] = {}
    for (classes, units, active), effort in SCHEMES.items():
        start = time.perf_counter()
        words = construct(classes, units, active, effort)
        reached = certificate(words).distance
        bound, _ = distance_bound(classes, units, active)
        print(f"{classes} {units} {active}: {reached} of {bound}, {time.perf_counter() - start:.0f} s", flush=True)
        found[shipped.key(classes, units, active)] = shipped.write(words)
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
