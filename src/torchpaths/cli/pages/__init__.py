"""The help of each verb as a file of this folder, written from its options: ``python -m torchpaths.cli.pages``."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import os
import textwrap
from unittest import mock

from torchpaths.cli import VERBS

WIDTH = 80
"""Columns of a page, whatever the terminal."""


def written(verb: str) -> str:
    """A verb's help as its options are now."""
    out = io.StringIO()
    plain = {"COLUMNS": str(WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    with mock.patch.dict(os.environ, plain), contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        importlib.import_module(f"torchpaths.cli.{verb}").run(["--help"])
    lines = (
        textwrap.wrap(line, WIDTH) if len(line) > WIDTH else [line.rstrip()] for line in out.getvalue().splitlines()
    )
    return "".join(f"{line}\n" for line in itertools.chain.from_iterable(lines))


def main() -> None:
    """Write all pages."""
    from torchpaths.cli import help_page

    for verb in VERBS:
        help_page(verb).write_text(written(verb), encoding="utf-8")
