import socket
import struct
from pathlib import Path

import pytest

from fastws.errors import ConfigError
from fastws.listeners import close, listen_tcp, listen_unix


def test_a_name_with_two_addresses_gets_one_port() -> None:
    listeners = listen_tcp("localhost", 0)
    ports = {listener.getsockname()[1] for listener in listeners}
    for listener in listeners:
        close(listener)
    assert len(ports) == 1


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"port: {port} on 127.0.0.1 is in use"):
            listen_tcp("127.0.0.1", port)


@pytest.mark.hostile("X24")
def test_as_many_wait_to_be_accepted_as_the_kernel_allows() -> None:
    (listener,) = listen_tcp("127.0.0.1", 0)
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    close(listener)
    # tcpi_sacked, which of a listening socket is the length of its queue (tcp(7))
    (longest,) = struct.unpack_from("I", info, 28)
    assert longest == int(Path("/proc/sys/net/core/somaxconn").read_text())


@pytest.mark.hostile("X53")
def test_the_file_of_a_unix_socket_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = listen_unix(str(path))
    assert path.is_socket()
    close(listener)
    assert not path.exists()


@pytest.mark.hostile("X53")
def test_a_stale_unix_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listen_unix(str(path)).close()  # as a crash leaves it
    assert path.is_socket()
    close(listen_unix(str(path)))


@pytest.mark.hostile("X53")
def test_a_unix_socket_in_use_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = listen_unix(str(path))
    with pytest.raises(ConfigError, match="in use"):
        listen_unix(str(path))
    assert path.is_socket()
    close(listener)


@pytest.mark.hostile("X53")
@pytest.mark.parametrize("kind", ["file", "folder", "long", "nowhere"])
def test_a_path_that_cannot_be_had_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("x" * 200 if kind == "long" else "s/t" if kind == "nowhere" else "s")
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(ConfigError, match="unix: cannot listen on"):
        listen_unix(str(path))
    assert kind != "file" or path.read_text() == "mine"
