"""The live page answers to this machine's names only, wherever on this machine it is served."""

from __future__ import annotations

import pytest

from torchpaths.explorer.serve import address, here, named


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST", "::1", "[::1]", "127.0.0.2", "0:0:0:0:0:0:0:1"]
)
def test_every_address_of_this_machine_alone_is_asked_by_its_own_names(host: str) -> None:
    names = here(host)
    assert names is not None
    assert "evil.example" not in names
    assert {named("localhost:8000"), named("[::1]:8000"), named("[::1]"), named("127.0.0.1:8000")} <= names


def test_another_address_is_asked_by_any_name_and_printed_as_browsers_take_it() -> None:
    assert here("0.0.0.0") is None
    assert here("example.org") is None
    assert address("::1", 8000) == address("[::1]", 8000) == "http://[::1]:8000/"
    assert address("127.0.0.2", 80) == "http://127.0.0.2:80/"
