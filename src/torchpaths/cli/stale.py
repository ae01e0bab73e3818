"""A page of a run that was written before what it shows: ``stale_page`` names the command that makes it anew."""

from __future__ import annotations

import pathlib
import shlex

PAGE = "explorer.html"


def stale_page(written: pathlib.Path) -> list[str]:
    """What to say of a page beside a file that was just written; nothing where there is none.

    Args:
        written: a run's survey or front.
    """
    page = written.parent / PAGE
    if not page.is_file():
        return []
    folder, file = (shlex.quote(str(path)) for path in (written.parent, page))
    return [f"{page} is older than {written.name}; make it anew: torchpaths explore {folder} --out {file}"]
