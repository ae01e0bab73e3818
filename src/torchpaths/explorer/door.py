"""``listening``: where the live page is served, taken before its address is told, or an error that says why not."""

from __future__ import annotations

import errno
import os
import socket

from torchpaths.errors import RunError


def listening(host: str, port: int) -> socket.socket:
    """A socket at an address, which nobody else can take any more.

    Args:
        host: a name or an address, IPv6 with or without brackets.
        port: 1 to 65535, or 0 for any that is free.

    Raises:
        RunError: for a port that is taken, not allowed or none, or a host that is not this machine's.
    """
    if not 0 <= port < 2**16:
        raise RunError(f"port {port} is none, ports are 1 to 65535 (0 takes a free one); choose another --port.")
    try:
        found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, at = min(found, key=lambda each: each[0] != socket.AF_INET)
    except (OSError, UnicodeError) as error:  # a name that is none is a UnicodeError
        raise RunError(
            f"--host {host!r} is no address of this machine ({error}); give one, 127.0.0.1 for this machine alone."
        ) from error
    door = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":  # else the port of a page just closed is taken for a minute; elsewhere it is shared
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(at)
        door.listen(128)
    except OSError as error:
        door.close()
        if error.errno == errno.EADDRNOTAVAIL:
            why = f"--host {host!r} is no address of this machine; give one, 127.0.0.1 for this machine alone."
        elif error.errno == errno.EADDRINUSE:
            why = f"port {port} of {host} is taken by another program; choose another --port, 0 for any that is free."
        else:
            why = f"port {port} of {host} cannot be served ({error.strerror}); choose another --port, above 1023."
        raise RunError(why) from error
    return door
