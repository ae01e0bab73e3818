"""JSON documents that say which schema they are of: fronts, surveys and descriptions of cut networks read alike."""

from __future__ import annotations

import pathlib
from typing import Any

from torchpaths.errors import DataError
from torchpaths.files.disk import inside, read_bytes
from torchpaths.schema import MalformedError, convert, parse, reading


def read_json(file: pathlib.Path, error: type[Exception], remedy: str, kind: Any = dict[str, Any]) -> Any:
    """The contents of a JSON file as a value of a type, by default an object with anything in it.

    Args:
        file: of JSON, in UTF-8; a link out of its folder is not followed.
        error: the class to raise.
        remedy: what to do about a file that is damaged, for errors.
        kind: a type, as `torchpaths.schema.convert` takes it.

    Raises:
        error: for a file that cannot be read, is no JSON or does not hold that.
    """
    with reading(file, error, remedy):
        try:
            data = read_bytes(inside(file.parent, file.name))
        except OSError as fault:
            raise MalformedError(f"cannot be read ({fault.strerror})") from fault
        return convert(parse(data), kind)


def read_document(
    file: pathlib.Path,
    schema: str,
    noun: str,
    command: str,
    kind: Any = dict[str, Any],
    *,
    older: tuple[str, ...] = (),
) -> Any:
    """The contents of a document as a value of a type, by default an object with anything in it.

    Args:
        file: of JSON, in UTF-8.
        schema: what its ``schema`` must be.
        noun: what such a file holds, for errors.
        command: that makes it, for errors.
        kind: a type, as `torchpaths.schema.convert` takes it.
        older: schemas of older versions that are read too.

    Raises:
        DataError: no such file, one that cannot be read, that is no JSON, is of another schema, or malformed.
    """
    remedy = f"make it anew with {command}"
    with reading(file, DataError, remedy):
        try:
            data = read_bytes(file)
        except FileNotFoundError as error:
            raise DataError(f"{file}: no {noun} there; make one with {command}.") from error
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error.strerror}); give the file of a {noun}.") from error
        document = parse(data)
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        if found not in (schema, *older):
            known = " and ".join(map(repr, (schema, *older)))
            raise MalformedError(f"schema {found!r}, this version reads {known}")
        return convert(document, kind)
