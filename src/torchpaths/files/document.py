"""JSON documents that say which schema they are of: fronts, surveys and descriptions of cut networks read alike."""

from __future__ import annotations

import json
import pathlib
from typing import Any

from torchpaths.errors import DataError


def read_document(file: pathlib.Path, schema: str, noun: str, command: str) -> dict[str, Any]:
    """The contents of a document; what stands in them is the caller's to check.

    Args:
        file: of JSON, in UTF-8.
        schema: what its ``schema`` must be.
        noun: what such a file holds, for errors.
        command: that makes it, for errors.

    Raises:
        DataError: no such file, one that cannot be read, that is no JSON, or that is of another schema.
    """
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError as error:
        raise DataError(f"{file}: no {noun} there; make one with {command}.") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror}); give the file of a {noun}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{file}: not JSON ({error}); it was cut short or is no {noun}, make it anew with {command}."
        ) from error
    found = document.get("schema") if isinstance(document, dict) else type(document).__name__
    if found != schema:
        raise DataError(f"{file}: schema {found!r}, this version reads {schema!r}; make it anew with {command}.")
    return dict(document)
