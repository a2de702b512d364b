"""Whether a port can be listened on, asked before work is done that needs it."""

from __future__ import annotations

import socket

from gatewise.errors import InvalidConfig


def check_port(host: str, port: int) -> None:
    """Raise InvalidConfig where the port is in use or the address is not this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As servers do: a connection that was just closed does not count as use.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise InvalidConfig(f"--port: {host}:{port} cannot be listened on: {error.strerror or error}") from None
