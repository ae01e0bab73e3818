"""``torchpaths explore RUN``: the Path Explorer, live with the model behind it, or with ``--out`` as one HTML file."""

from __future__ import annotations

import contextlib
import pathlib
from dataclasses import dataclass
from typing import Any

from torchpaths.cli import OK
from torchpaths.cli.options import OfRun, emit, parse, refuse, speaking
from torchpaths.errors import DataError
from torchpaths.explorer import explore
from torchpaths.files.document import read_document
from torchpaths.fronts import Front
from torchpaths.optional import need
from torchpaths.surveys import Survey

_OF_A_FILE = {
    ("data", "split", "weights", "skip-corrupt"): "a file shows a survey as it was saved; give it to torchpaths survey "
    "RUN, and then write the page without.",
    ("method", "model"): "a file shows a survey, for which no network is opened; leave it out.",
    ("host", "port"): "a file is not served; leave it out, or leave out --out.",
}
"""What says nothing with ``--out``, and why."""


@dataclass(frozen=True)
class Options(OfRun):
    """What the verb takes."""

    out: pathlib.Path | None = None
    """Write the page as one HTML file instead, of a run's survey or of a survey.json given in its place."""
    host: str = "127.0.0.1"
    """Where to serve it: this machine alone by default. Whoever reaches it may run the model and upload images."""
    port: int = 8000
    """At which port."""
    front: pathlib.Path | None = None
    """The front.json for the dial; that of the run by default, where there is one."""


def run(arguments: list[str]) -> int:
    """Read, write or serve. Returns the exit status, see `torchpaths.cli.main`."""
    about = "A page that shows which units open for which class and image, lets you shut them and take the rest home."
    options = parse(Options, arguments, "explore", about)
    if options.out is not None:
        for names, why in _OF_A_FILE.items():
            refuse(arguments, names, why)
    survey = read_survey(options.run)
    folder = options.run if options.run.is_dir() else options.run.parent
    front = read_front(options.front or folder / "front.json", survey, asked=options.front is not None)
    decoded = read_decoded(folder / "decode.json")
    if options.out is None:
        return serve(options, survey, front, decoded)
    with speaking(options.json) as console:
        run = folder if (folder / "run.json").is_file() else None  # a survey may lie elsewhere than its run
        file = explore(survey, options.out, front=front, run=run, decoded=decoded)
        console.print(f"wrote {file}", soft_wrap=True)
    if options.json:
        emit({"folder": str(folder), "file": str(file), "bytes": file.stat().st_size})
    return OK


def serve(options: Options, survey: Survey, front: Front | None, decoded: dict[str, Any] | None) -> int:
    """Open the run, and serve the page with it until Ctrl-C."""
    uvicorn = need("uvicorn", "explore")
    need("fastapi", "explore")
    from torchpaths.explorer.answers import Answers
    from torchpaths.explorer.door import listening
    from torchpaths.explorer.pictures import live_document
    from torchpaths.explorer.serve import address, app_of

    opened = options.open()
    if survey.layout.fingerprint != opened.net.layout.fingerprint:
        raise DataError(
            f"the survey in {options.run} is of network {survey.layout.fingerprint}, the run's is "
            f"{opened.net.layout.fingerprint}; survey the run again: torchpaths survey {options.run}"
        )
    images = options.images(opened)
    if survey.dataset and (survey.dataset, survey.split) != (images.name, options.split):
        raise DataError(
            f"the survey in {options.run} is of {survey.dataset}, {survey.split} split, not of {images.name}, "
            f"{options.split} split, so its pictures would be others; serve it with --split {survey.split} and its "
            "--data, or survey these: torchpaths survey RUN --data DATA --split SPLIT."
        )
    with listening(options.host, options.port) as door:
        answers = Answers(opened, survey, images)
        app = app_of(answers, live_document(answers, front, decoded), options.host)
        where = address(options.host, door.getsockname()[1])
        with speaking(options.json) as console:
            console.print(f"{where}  (Ctrl-C stops it)", soft_wrap=True)
        if options.json:
            emit({"folder": str(options.run), "address": where})
        with contextlib.suppress(KeyboardInterrupt):  # how it is stopped
            uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[door])
    return OK


def read_survey(where: pathlib.Path) -> Survey:
    """The survey of a run folder or a file.

    Raises:
        DataError: if there is none, with the command that makes one.
    """
    file = where / "survey.json" if where.is_dir() else where
    if not file.is_file():
        raise DataError(f"{file}: no survey there; make one: torchpaths survey {where}")
    return Survey.load(file)


def read_front(file: pathlib.Path, survey: Survey, *, asked: bool) -> Front | None:
    """The front beside a survey, None where there is none.

    Args:
        file: where it is.
        survey: of the same network.
        asked: it was named, so that it has to be there.

    Raises:
        DataError: for one that cannot be read or is of another network.
    """
    if not asked and not file.is_file():
        return None
    return Front.load(file, survey)


def read_decoded(file: pathlib.Path) -> dict[str, Any] | None:
    """The decode report beside a survey, None where there is none."""
    if not file.is_file():
        return None
    found: dict[str, Any] = read_document(file, "torchpaths.decode/1", "decode report", "torchpaths decode RUN")
    return found
