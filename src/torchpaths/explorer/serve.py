"""The page with its model: a small HTTP server, on this machine alone unless told otherwise.

    GET  api/survey                    the document, with pictures of the run's set
    GET  api/openness?site=            a site's shares, bytes [class, unit]
    POST api/run {image | upload, path, attack}     units open, MACs, scores and top 5 of one image, or of it attacked
    POST api/upload                    an image; its path and id
    GET  api/accuracy?path=&label=     events that grow surer
    GET  api/time?path=                an event
    POST api/cut {classes, budget}     numbers, id; then GET api/cut/ID.zip

A path is a character for each unit: 0, 1, or - for what decides itself. Errors are ``{error, remedy}`` with a 4xx.
"""

from __future__ import annotations

import ipaddress
import json
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from numpy.typing import NDArray
from starlette.middleware.gzip import GZipMiddleware

from torchpaths import errors
from torchpaths.data.decode import Form
from torchpaths.explorer.answers import Answers
from torchpaths.explorer.asked import Limited, attack_levels, class_numbers, macs_budget, most_bytes, too_large
from torchpaths.explorer.bundle import page_file
from torchpaths.explorer.cutting import cut
from torchpaths.explorer.packing import bytes_of
from torchpaths.explorer.pictures import thumb
from torchpaths.explorer.uploads import MOST_BYTES, upload_pixels
from torchpaths.whole import is_whole

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
KEPT = 32
"""Uploads and cuts that are remembered; older ones are let go."""

_TOLD = (
    errors.PathError,
    errors.BudgetError,
    errors.RouteError,
    errors.DataError,
    errors.MeasureError,
    errors.RunError,
    errors.CallError,
)
_HERE = {"127.0.0.1", "localhost", "::1"}
_BY_NAME = (
    "Open it as printed. From another machine, ssh -L 8000:127.0.0.1:8000 THIS-MACHINE and open http://localhost:8000/ "
    "there; for a proxy, serve it with --host 0.0.0.0, and then whoever reaches this machine may run the model."
)
_BY_PAGE = (
    "Open this one's own. Behind a proxy, have it pass on the Host that the browser asked, port and all (nginx: "
    "proxy_set_header Host $http_host), and serve with --host 0.0.0.0."
)
_FILES = {"js": "text/javascript", "css": "text/css", "html": "text/html"}


class Kept(OrderedDict[str, Any]):
    """What was made last, by ids that cannot be guessed."""

    def keep(self, value: Any) -> str:
        """Remember a value; returns its id."""
        key = secrets.token_urlsafe(9)
        self[key] = value
        while len(self) > KEPT:
            self.popitem(last=False)
        return key


def told(error: Exception) -> dict[str, str]:
    """An error as what was wrong, and what to do about it: two sentences, since the page sets one behind the other."""
    what, _, remedy = str(error).partition("; ")
    return {"error": what.rstrip(".") + ".", "remedy": remedy[:1].upper() + remedy[1:]}


def named(host: str) -> str:
    """A host without its port, in small letters: of ``[::1]:8000`` what stands in the brackets."""
    return host[1:].partition("]")[0].lower() if host.startswith("[") else host.partition(":")[0].lower()


def here(host: str) -> set[str] | None:
    """The names by which a server at an address is asked on this machine alone; None where others reach it."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return _HERE if host.lower() == "localhost" else None
    return _HERE | {str(address)} if address.is_loopback else None


def address(host: str, port: int) -> str:
    """What a browser opens."""
    host = host.strip("[]")
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def app_of(answers: Answers, document: dict[str, Any], host: str = "127.0.0.1") -> FastAPI:
    """The server of one model and the document of its survey.

    Args:
        answers: the model.
        document: what the page reads.
        host: where it is served. On this machine alone it answers to this machine's names only, so that no page of
            another site whose name was pointed here reaches it.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Limited)
    app.add_middleware(GZipMiddleware, minimum_size=1000)
    names = here(host)
    uploads, cuts = Kept(), Kept()
    channels, height, width = answers.net.example_shape
    form = Form(height, width, channels, scale=True, drop_colour=True, scaling=answers.run.recipe.scaling)

    def malformed(_: Request, error: Exception) -> Response:
        return JSONResponse({"error": "this is no question", "remedy": "send a JSON object of what is asked."}, 422)

    app.add_exception_handler(RequestValidationError, malformed)
    for kind in _TOLD:
        app.add_exception_handler(kind, lambda _, error: JSONResponse(told(error), 422))

    @app.middleware("http")
    async def guarded(request: Request, call_next: Callable[[Request], Any]) -> Response:
        asked = request.headers.get("host", "")
        if names is not None and named(asked) not in names:
            return JSONResponse({"error": "Asked by a name that is not this machine's.", "remedy": _BY_NAME}, 400)
        origin = request.headers.get("origin")
        if origin is not None and origin not in (f"http://{asked}", f"https://{asked}"):
            return JSONResponse({"error": "A page of another site asked.", "remedy": _BY_PAGE}, 403)
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < 18) or int(length) > most_bytes(
            request.url.path
        ):
            return too_large(request.url.path)
        response: Response = await call_next(request)
        response.headers["content-security-policy"] = POLICY
        response.headers["x-content-type-options"] = "nosniff"
        return response

    @app.get("/")
    def page() -> Response:
        return Response(page_file("index.html"), media_type="text/html")

    @app.get("/{name}.{ending}")
    def file(name: str, ending: str) -> Response:
        if ending not in _FILES or not name.isalpha():
            return JSONResponse({"error": f"no {name}.{ending} here.", "remedy": "Open /."}, 404)
        try:
            return Response(page_file(f"{name}.{ending}"), media_type=_FILES[ending])
        except FileNotFoundError:
            return JSONResponse({"error": f"no {name}.{ending} here.", "remedy": "Open /."}, 404)

    @app.get("/api/health")
    def health() -> dict[str, bool]:
        return {"well": True}

    @app.get("/api/survey")
    def survey() -> JSONResponse:
        return JSONResponse(document)

    @app.get("/api/openness")
    def openness(site: str) -> Response:
        found = next((s for s in document["sites"] if s["name"] == site), None)
        if found is None:
            raise errors.DataError(f"no site {site!r} in this survey; {errors.near(site, answers.layout.sites)}")
        shares = answers.survey.openness[:, found["start"] : found["start"] + found["units"]]
        return Response(bytes_of(shares).tobytes(), media_type="application/octet-stream")

    @app.post("/api/run")
    def run(asked: dict[str, Any]) -> dict[str, Any]:
        pixels, units = pixels_of(asked), answers.units(str(asked.get("path", "")))
        strength = attack_levels(asked)
        if strength is None:
            return answers.seen(pixels, units)
        label = None if asked.get("upload") is not None else int(answers.images.labels[int(asked["image"])])
        levels = answers.attacked(pixels, label, strength, units)
        return {**answers.seen(levels, units), "name": "fgsm", "strength": strength, "thumb": thumb(levels)}

    def pixels_of(asked: dict[str, Any]) -> NDArray[np.uint8]:
        key = asked.get("upload")
        if key is not None:
            if not isinstance(key, str) or key not in uploads:
                raise errors.DataError("this upload is no longer here; upload the image again.")
            kept: NDArray[np.uint8] = uploads[key]
            return kept
        number = asked.get("image")
        if number is None or not is_whole(number, 0, len(answers.images) - 1):
            raise errors.DataError(
                f"no image {errors.clip(repr(number), 60)}; give a number from 0 to {len(answers.images) - 1}."
            )
        [pixels] = answers.images.read([int(number)])
        return np.asarray(pixels)

    @app.post("/api/upload")
    def upload(file: UploadFile) -> dict[str, Any]:
        pixels = upload_pixels(file.file.read(MOST_BYTES + 1), form)
        free = [-1] * len(answers.layout.units)
        return {**answers.seen(pixels, free), "id": uploads.keep(pixels), "thumb": thumb(pixels)}

    @app.get("/api/accuracy")
    def accuracy(path: str, label: int | None = None) -> StreamingResponse:
        return events(answers.accuracy(answers.units(path), label))

    @app.get("/api/time")
    def time(path: str) -> StreamingResponse:
        units = answers.units(path)
        return events(answers.time(units) for _ in range(1))

    @app.post("/api/cut")
    def cut_out(asked: dict[str, Any]) -> dict[str, Any]:
        numbers, data = cut(answers, class_numbers(asked, len(answers.survey.classes)), macs_budget(asked))
        return {**numbers, "id": cuts.keep(data)}

    @app.get("/api/cut/{key}.zip")
    def zipped(key: str) -> Response:
        if key not in cuts:
            raise errors.DataError("this cut is no longer here; cut it again.")
        return Response(cuts[key], media_type="application/zip")

    return app


def events(found: Iterator[dict[str, Any]]) -> StreamingResponse:
    """Values as server-sent events; an error is the last of them."""

    def lines() -> Iterator[str]:
        try:
            for value in found:
                yield f"data: {json.dumps(value)}\n\n"
        except _TOLD as error:
            yield f"data: {json.dumps({**told(error), 'done': True})}\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")
