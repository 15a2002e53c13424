"""Where a server listens."""

from __future__ import annotations

import socket

from seg_zero.errors import InputError


def bind(host: str, port: int) -> socket.socket:
    """A socket bound to an address, not yet listening. Raises InputError if the address is not available."""
    try:
        (family, *_, address), *_ = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found = socket.socket(family)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
    except OSError as error:
        raise InputError(f"cannot listen on {host}:{port} ({error}); give another --host or --port") from error
    return found
