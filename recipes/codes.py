"""The file of shipped coding schemes, ``src/torchpaths/coding/shipped/schemes.json``: searches too long for every call.

    python recipes/codes.py

makes them again, in a few minutes. Steps are counted and nothing depends on time, so the file comes out the same on
every machine, and a scheme is the one that `torchpaths.codes` would find without the file.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

from torchpaths.coding import shipped
from torchpaths.coding.certificates import certificate
from torchpaths.coding.constructions import construct

SCHEMES = (
    (100, 20, 8),
    (100, 32, 8),
    (100, 32, 16),
    (1000, 16, 8),
    (1000, 20, 8),
    (1000, 20, 10),
    (1000, 32, 8),
    (1000, 32, 12),
    (1000, 64, 16),
    (1000, 64, 24),
    (1000, 64, 32),
)
"""Classes, units, active."""

FILE = pathlib.Path(shipped.__file__).parent / shipped.FILE


def main() -> None:
    """Search, print and write."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    found: dict[str, str] = {}
    for classes, units, active in SCHEMES:
        start = time.perf_counter()
        words = construct(classes, units, active)
        print(f"{certificate(words)}\n{time.perf_counter() - start:.1f} s", flush=True)
        found[shipped.key(classes, units, active)] = shipped.write(words)
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
