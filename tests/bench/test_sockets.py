"""What the kernel says of a connection's queues."""

import socket
import time

import pytest

from fastws.bench.sockets import queues


def test_unread_and_unacknowledged_bytes_of_a_port_are_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if queues(port) is None:
            pytest.skip("the kernel has no sock_diag here")
        with socket.create_connection(("127.0.0.1", port)) as client:
            server, _ = listener.accept()
            with server:
                server.sendall(b"x" * 1000)
                found = queues(port)
                assert found is not None
                assert (found.unacknowledged, found.unread) == (0, 1000)
                assert client.recv(2000) == b"x" * 1000
                found = queues(port)
                assert found is not None
                assert (found.unacknowledged, found.unread) == (0, 0)


def test_a_reader_that_stops_holds_the_sender_by_its_window() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if queues(port) is None:
            pytest.skip("the kernel has no sock_diag here")
        with socket.create_connection(("127.0.0.1", port)):
            server, _ = listener.accept()
            with server:
                server.setblocking(False)
                until = time.monotonic() + 1
                while time.monotonic() < until:
                    try:
                        server.send(b"x" * 1_000_000)
                    except BlockingIOError:
                        time.sleep(0.01)
                found = queues(port)
    assert found is not None
    assert found.window_limited is not None
    assert found.window_limited > 0.5
    assert found.unacknowledged > 0
