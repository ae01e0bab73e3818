"""The live page answers to this machine's names only, wherever on this machine it is served."""

from __future__ import annotations

import pytest

from torchpaths.errors import RunError
from torchpaths.explorer.door import listening
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


def test_a_port_is_taken_or_refused_with_what_to_do() -> None:
    with listening("127.0.0.1", 0) as door:
        port = door.getsockname()[1]
        with pytest.raises(RunError, match=rf"port {port} of 127\.0\.0\.1 is taken.*choose another --port"):
            listening("127.0.0.1", port)
    listening("localhost", port).close()
    for port in (-1, 2**16):
        with pytest.raises(RunError, match="ports are 1 to 65535"):
            listening("127.0.0.1", port)
    for host in ("192.0.2.1", "no such host", "a" * 70):
        with pytest.raises(RunError, match=r"--host .* is no address of this machine"):
            listening(host, 0)
