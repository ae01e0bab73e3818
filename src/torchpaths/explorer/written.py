"""``explore``: a survey as one HTML file that anybody can open."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any

from torchpaths.errors import DataError
from torchpaths.explorer.bundle import one_file
from torchpaths.explorer.document import document
from torchpaths.files.write import disk, write_file
from torchpaths.fronts.measured import Measured
from torchpaths.surveys import Survey


def explore(
    survey: Survey | pathlib.Path | str,
    file: pathlib.Path | str = "explorer.html",
    *,
    front: Measured | None = None,
    run: pathlib.Path | str | None = None,
    decoded: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Write a survey as a page: one self-contained HTML file, opened from disk in any browser.

    Args:
        survey: what `torchpaths.survey` gives, or where its ``survey.json`` is: the file or its folder.
        file: the page, ending in ``.html``; folders are made.
        front: the menu of the same network, for the dial.
        run: the folder of the run, which commands on the page name.
        decoded: what `torchpaths.decoding.decode_report` gives of it, for what its classes are worth cut out.

    Returns:
        The file.

    Raises:
        DataError: for a survey that cannot be read, a front or report of another network, or another ending.
        RunError: if the disk is full or refuses.
    """
    file = pathlib.Path(file)
    if file.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"{file}: a page ends in .html, so that browsers open it.")
    found = survey if isinstance(survey, Survey) else Survey.load(survey)
    text = one_file(document(found, front, {} if run is None else {"run": str(run)}, decoded))
    with disk(file, "what was there before is intact"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_file(file, text.encode())
    return file
