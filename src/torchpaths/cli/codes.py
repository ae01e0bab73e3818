"""``torchpaths codes``: a coding scheme for so many classes, with its certificate. Needs no run, and no torch."""

from __future__ import annotations

import pathlib
from dataclasses import dataclass

from rich import box
from rich.table import Table

from torchpaths.cli import OK
from torchpaths.cli.arguments import Json, emit, parse, speaking
from torchpaths.coding.certificates import Certificate, certificate
from torchpaths.coding.schemes import codes
from torchpaths.files.write import write_json
from torchpaths.terminal import Console

SCHEMA = "torchpaths.codes/1"

MOST_WORDS = 20
"""Up to so many codewords are printed for people."""


@dataclass(frozen=True)
class Options:
    """What the verb takes."""

    classes: int
    """Codewords."""
    units: int
    """Their length: branches of a block, or groups of channels."""
    active: int
    """Units that work for a class: ones in each codeword."""
    distance: int | None = None
    """The minimum Hamming distance that the scheme must have at least."""
    out: pathlib.Path | None = None
    """Write what --json prints to this file."""
    json: Json = False


def run(arguments: list[str]) -> int:
    """Make, write and print. Returns the exit status, see `torchpaths.cli.main`."""
    about = "A coding scheme: equally many units for each class, equally many classes for each unit, far apart."
    options = parse(Options, arguments, "codes", about)
    with speaking(options.json) as console:
        with Console(stderr=True).status(f"looking for {options.classes} codewords"):
            words = codes(options.classes, options.units, options.active, distance=options.distance)
            found = certificate(words)
        texts = ["".join("01"[bit] for bit in word) for word in words.astype(int)]
        result = {"schema": SCHEMA, "words": texts, "certificate": found.to_json()}
        if options.out is not None:
            write_json(options.out, result)
        _show(console, texts, found, options.out)
    if options.json:
        emit(result)
    return OK


def _show(console: Console, texts: list[str], found: Certificate, out: pathlib.Path | None) -> None:
    console.print(str(found), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("distance", "pairs", "share"):
        table.add_column(title, justify="right")
    total = sum(found.histogram.values())
    for distance, pairs in found.histogram.items():
        table.add_row(str(distance), f"{pairs:,}", f"{pairs / total:.1%}")
    console.print(table)
    if len(texts) <= MOST_WORDS:
        console.print("\n".join(texts))
    if out is not None:
        console.print(f"wrote {out}", soft_wrap=True)
    elif len(texts) > MOST_WORDS:
        console.print(f"{len(texts)} codewords: --out FILE writes them, --json prints them")
