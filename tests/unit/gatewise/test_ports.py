from __future__ import annotations

import socket

import pytest

from gatewise.errors import InvalidConfig
from gatewise.ports import check_port


def test_a_port_in_use_is_refused_and_a_free_one_is_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidConfig, match=f"127.0.0.1:{port} cannot be listened on: Address already"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="cannot be listened on"):
        check_port("192.0.2.1", 3000)
