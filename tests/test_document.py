"""Every document that is written is read alike: what is none is refused with the command that makes one."""

import pathlib

import pytest

from torchpaths.errors import DataError
from torchpaths.files.document import read_document


def read(file: pathlib.Path) -> dict[str, object]:
    found: dict[str, object] = read_document(file, "torchpaths.thing/2", "thing", "torchpaths thing RUN")
    return found


def test_a_document_of_the_right_schema_is_read_as_it_stands(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "thing.json"
    file.write_bytes('{"schema": "torchpaths.thing/2", "name": "Bär"}'.encode())
    assert read(file) == {"schema": "torchpaths.thing/2", "name": "Bär"}


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "not JSON .*make it anew with torchpaths thing RUN"),
        (b'{"schema": "torchpaths.th', "not JSON .*cut short"),
        (b"\x89PNG\xff", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"[1]", "schema 'list', this version reads 'torchpaths.thing/2'"),
        (b"{}", "schema None"),
        (b'{"schema": "torchpaths.thing/3"}', "schema 'torchpaths.thing/3'.* make it anew with torchpaths thing RUN"),
    ],
    ids=["empty", "short", "picture", "deep", "list", "bare", "later"],
)
def test_what_is_no_such_document_is_refused(contents: bytes, message: str, tmp_path: pathlib.Path) -> None:
    file = tmp_path / "thing.json"
    file.write_bytes(contents)
    with pytest.raises(DataError, match=message):
        read(file)


def test_a_file_that_is_not_there_or_is_a_folder_is_named(tmp_path: pathlib.Path) -> None:
    with pytest.raises(DataError, match="no thing there; make one with torchpaths thing RUN"):
        read(tmp_path / "thing.json")
    with pytest.raises(DataError, match=r"cannot be read .*give the file of a thing"):
        read(tmp_path)
