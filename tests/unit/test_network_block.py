"""The block that keeps unit tests off the network."""

import socket

import pytest
import requests
from pytest_socket import SocketBlockedError


def test_no_socket_can_be_made() -> None:
    with pytest.raises((SocketBlockedError, UserWarning), match="tried to use socket"):
        socket.create_connection(("127.0.0.1", 9))


def test_no_library_gets_around_it() -> None:
    with pytest.raises((SocketBlockedError, UserWarning), match="tried to use socket"):
        requests.get("http://127.0.0.1:9", timeout=1)
