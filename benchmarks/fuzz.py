"""What the library says to damaged files: seeded mutations of every kind of file that it reads.

    python benchmarks/fuzz.py --count 12000 --out records/fuzz/results.json

Each file is written whole, opened, and then opened again after a mutation: for JSON fields dropped, retyped, made huge,
nested deep or given twice, NaN, other encodings, names that lead elsewhere; for every file truncation, flipped bits,
zeros, and headers that lie. Counted are

    error        an error of the library, of at most 500 characters, that names the file
    equal        opened, and what was read is what was written
    another      opened, and another document: a number or name was changed into another that may stand there
    silent       opened, and other weights or arrays than were written: must not be
    poor error   an error of the library that is too long or does not say which file: must not be
    bare         any other exception: must not be
    hang         more than five seconds of the processor, or a minute of waiting: must not be

The exit status is 1 if anything happened that must not.
"""

from __future__ import annotations

import json
import pathlib
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
import tyro
from fuzz_files import BINARY, Kind, kinds
from rich.console import Console
from rich.table import Table

from torchpaths.meter.setting import device_name
from torchpaths.train.environment import commit

SECONDS = {signal.ITIMER_PROF: 5, signal.ITIMER_REAL: 60}
"""Of the processor, whatever else it has to do, and by the clock."""
BAD = ("silent", "poor error", "bare", "hang")
OUTCOMES = ("error", "equal", "another", *BAD)


@dataclass(frozen=True)
class Options:
    """What is tried.

    Attributes:
        count: mutations, shared among the kinds of files.
        seed: of the mutations.
        minutes: after which no more are made.
        only: the kinds of files to try, all by default.
        out: JSON file for the table.
        show: print so many of what must not happen.
    """

    count: int = 12000
    seed: int = 0
    minutes: float = 60
    only: tuple[str, ...] = ()
    out: pathlib.Path | None = None
    show: int = 20


class HangError(BaseException):
    """Too long. Not an `Exception`, so that nothing catches it on the way."""


def _ring(*_: Any) -> None:
    raise HangError


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of everything within JSON data."""
    found = [at]
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        found += places(each, (*at, key))
    return found


STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 3.5, -2.5, 10**9, 2**63, 2**70, 10**400, 1e308, -1e308),
    *("", "12", "x", "..", "../x", "/etc/passwd", "a\0b", "\ud800", "x" * 100_000, "os:system", "[/bold]", "\x1b[31m"),
    *([], {}, [[]], [None], {"": 1}, [1, "a"], {"class": "os:system"}, [{}], list(range(1000))),
)


def mutate_json(data: bytes, draw: random.Random) -> bytes:
    """JSON changed in its structure; the text may be none afterwards."""
    value = json.loads(data)
    at = draw.choice(places(value)[1:] or [()])
    if not at:
        return draw.choice([b"", b"[]", b"null", b'"x"', b"1"])
    place = value
    for key in at[:-1]:
        place = place[key]
    how = draw.randrange(9)
    if how == 0:
        del place[at[-1]]
    elif how in (1, 2, 3):
        place[at[-1]] = draw.choice(STRANGE)
    elif how == 4 and isinstance(place, dict):
        place[draw.choice(["extra", "__class__", "class", "schema", "file", "path"])] = draw.choice(STRANGE)
    elif how == 5:
        marked = json.dumps({**value} if isinstance(value, dict) else value)
        text = json.dumps(place[at[-1]])
        deep = draw.choice(["NaN", "Infinity", "-Infinity", "1e999", "[" * 100_000, "[" * 900 + "]" * 900, "1" * 5000])
        return marked.replace(text, deep, 1).encode()
    elif how == 6 and isinstance(place, dict):
        text = json.dumps(value)
        key = json.dumps(at[-1])
        return text.replace(f"{key}: ", f"{key}: {json.dumps(draw.choice(STRANGE[:12]))}, {key}: ", 1).encode()
    elif how == 7:
        return json.dumps(value, ensure_ascii=False).encode(draw.choice(["utf-16", "utf-32", "utf-8-sig", "utf-16-le"]))
    else:
        other = draw.choice(places(value)[1:])
        taken = value
        for key in other:
            taken = taken[key]
        place[at[-1]] = json.loads(json.dumps(taken))
    return json.dumps(value).encode()


def mutate_header(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file whose header says something else."""
    length = int.from_bytes(data[:8], "little")
    if draw.random() < 0.25:
        said = draw.choice([0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1, 100_000_001])
        return said.to_bytes(8, "little") + data[8:]
    header = mutate_json(data[8 : 8 + length], draw)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def mutate_bytes(data: bytes, draw: random.Random) -> bytes:
    """Bytes flipped, cut off, zeroed, added or moved."""
    how = draw.randrange(8)
    if not data:
        return b"\0"
    at = draw.randrange(len(data))
    if how < 4:  # one bit, which nothing but a digest finds
        return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
    if how == 4:
        return data[:at]
    if how == 5:
        return data[:at] + bytes(min(64, len(data) - at)) + data[at + 64 :]
    if how == 6:
        return data + draw.randbytes(draw.randrange(1, 64))
    return data[at:] + data[:at]


def mutated(file: str, data: bytes, draw: random.Random) -> bytes:
    """A file's contents after one mutation."""
    if file.endswith(".safetensors") and draw.random() < 0.4:
        return mutate_header(data, draw)
    if file.endswith(".json") and draw.random() < 0.75:
        return mutate_json(data, draw)
    if file.endswith(".jsonl") and draw.random() < 0.75:
        lines = data.splitlines(keepends=True)
        at = draw.randrange(len(lines))
        lines[at] = mutate_json(lines[at], draw) + b"\n"
        return b"".join(lines)
    return mutate_bytes(data, draw)


def outcome(kind: Kind, folder: pathlib.Path, file: str, whole: Any) -> tuple[str, str]:
    """What opening a mutated file came to, and what was said."""
    for clock, seconds in SECONDS.items():
        signal.setitimer(clock, seconds)
    try:
        found = kind.read(folder)
    except HangError:
        return "hang", ""
    except Exception as error:
        text = str(error)
        if not any(base.__module__ == "torchpaths.errors" for base in type(error).__mro__):
            return "bare", f"{type(error).__name__}: {text[:200]}"
        named = folder.name in text or any(where in text for where in kind.says)
        return ("error" if named and len(text) <= 500 else "poor error"), text[:700]
    finally:
        for clock in SECONDS:
            signal.setitimer(clock, 0)
    if found == whole:
        return "equal", ""
    return ("silent" if file.endswith(BINARY) else "another"), f"{file} changed what was read"


def main(options: Options) -> int:
    """Mutate, count and print."""
    for rings in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(rings, _ring)
    warnings.simplefilter("ignore")
    console = Console()
    began, rows, shown = time.monotonic(), [], 0
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        found = [k for k in kinds(root / "whole") if not options.only or k.name in options.only]
        share = sum(kind.weight for kind in found)
        for kind in found:
            draw = random.Random(f"{options.seed} {kind.name}")
            counts: Counter[str] = Counter()
            copy = root / "fuzzed"
            shutil.rmtree(copy, ignore_errors=True)
            shutil.copytree(kind.folder, copy)
            whole = kind.read(copy)
            contents = {file: (copy / file).read_bytes() for file in kind.files}
            for _ in range(round(options.count * kind.weight / share)):
                if time.monotonic() - began > options.minutes * 60:
                    console.print("out of time")
                    break
                file = draw.choice(kind.files)
                changed = mutated(file, contents[file], draw)
                if changed == contents[file]:
                    continue
                (copy / file).write_bytes(changed)
                came, said = outcome(kind, copy, file, whole)
                (copy / file).write_bytes(contents[file])
                counts[came] += 1
                if came in BAD and shown < options.show:
                    shown += 1
                    console.print(f"{kind.name}, {file}: {came}: {said}", markup=False, soft_wrap=True)
            rows.append({"kind": kind.name, **{o: counts[o] for o in OUTCOMES}})
    total = {"kind": "all", **{o: sum(row[o] for row in rows) for o in OUTCOMES}}
    table = Table(*("kind", *OUTCOMES))
    for row in [*rows, total]:
        table.add_row(*(str(value) for value in row.values()))
    console.print(table)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        made = {"seed": options.seed, "mutations": sum(total[o] for o in OUTCOMES), "commit": commit()}
        made |= {"device": device_name(torch.device("cpu")), "python": platform.python_version()}
        options.out.write_text(json.dumps({**made, "rows": [*rows, total]}, indent=1) + "\n")
    return int(any(total[o] for o in BAD))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
