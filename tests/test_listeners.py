import fcntl
import os
import socket
import struct
import threading
from pathlib import Path

import pytest

from fastws.errors import ConfigError
from fastws.server.listeners import close, listen_tcp, listen_unix


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


# What is ours and what is not.


@pytest.mark.hostile("X53")
@pytest.mark.parametrize("successor", ["server", "file", "nothing"])
def test_a_successors_file_is_left_alone(tmp_path: Path, successor: str) -> None:
    path, aside = tmp_path / "s", tmp_path / "aside"
    old = listen_unix(str(path))
    path.rename(aside)
    new = listen_unix(str(path)) if successor == "server" else None
    if successor == "file":
        path.write_text("mine")
    close(old)
    assert aside.exists()  # whoever moved it there may keep it
    assert path.exists() == (successor != "nothing")
    if new is not None:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        close(new)
        assert not path.exists()


@pytest.mark.hostile("X53")
def test_a_file_is_found_again_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    listener = listen_unix("s")
    monkeypatch.chdir("elsewhere")
    Path("s").write_text("mine")
    close(listener)
    assert not (tmp_path / "s").exists()
    assert Path("s").read_text() == "mine"


@pytest.mark.hostile("X53", "X67")
def test_a_child_leaves_the_file_of_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = listen_unix(str(path))
    child = os.fork()
    if child == 0:
        close(listener)
        os._exit(0)
    os.waitpid(child, 0)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    close(listener)
    assert not path.exists()


@pytest.mark.hostile("X53")
def test_of_many_that_replace_a_stale_file_at_once_one_is_reached(tmp_path: Path) -> None:
    path, got, refused = tmp_path / "s", list[socket.socket](), list[str]()
    for _ in range(20):
        listen_unix(str(path)).close()  # as a crash leaves it
        barrier = threading.Barrier(4)

        def start(barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                got.append(listen_unix(str(path)))
            except ConfigError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 1, refused
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        close(got.pop())
    assert all("in use" in why for why in refused)


@pytest.mark.hostile("X53")
def test_one_whose_queue_is_full_is_in_use(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(path)
        busy.listen(0)
        client.connect(path)
        with pytest.raises(ConfigError, match="in use"):
            listen_unix(path)


@pytest.mark.hostile("X53")
def test_a_folder_that_somebody_keeps_locked_does_not_hold_it_up_for_long(tmp_path: Path) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    listener = listen_unix(str(tmp_path / "s"))
    close(listener)
    os.close(folder)
    assert not (tmp_path / "s").exists()
