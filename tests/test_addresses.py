"""Listening works on the addresses that exist; what cannot be had is one clear line."""

import errno
import os
import re
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import open_files
from test_cli import COMMAND, ROOT, environment
from typed import Type

from fastws import App, Connection, Server, connect, serve
from fastws.bench.measurement import BenchOptions
from fastws.bench.run import Bench
from fastws.client.url import parse_url
from fastws.errors import ConfigError
from fastws.server.listeners import UnixListener, bound_address, close, listen_tcp, listen_unix


class Machine:
    """A machine whose names and addresses are chosen here."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **names: list[str]) -> None:
        self.names = names
        self.kernel_has_ipv6 = True
        self.refuse: Callable[[str], int] = lambda host: 0  # errno of binding there
        machine = self

        class Socket(socket.socket):
            def __init__(self, family: int, *arguments: int) -> None:
                if family == socket.AF_INET6 and not machine.kernel_has_ipv6:
                    raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
                super().__init__(family, *arguments)

            def bind(self, address: Any) -> None:
                number = machine.refuse(address[0])
                if number:
                    raise OSError(number, os.strerror(number))
                super().bind(address)

        monkeypatch.setattr("fastws.server.listeners.socket.socket", Socket)
        monkeypatch.setattr("fastws.server.listeners.socket.getaddrinfo", self.resolve)

    def resolve(self, host: str, port: int, **_: object) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each, port, 0, 0))
            if ":" in each
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in self.names[host]
        ]


def ended(listeners: list[socket.socket]) -> list[str]:
    """Close them; the hosts that they were bound to."""
    names = [str(listener.getsockname()[0]) for listener in listeners]
    for listener in listeners:
        close(listener)
    return names


# A name with several addresses.


@pytest.mark.parametrize("order", [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]])
@pytest.mark.parametrize("kernel", [True, False])
def test_a_name_listens_on_those_of_its_addresses_that_are_there(
    order: list[str], kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, localhost=order)
    machine.kernel_has_ipv6 = kernel
    machine.refuse = lambda host: errno.EADDRNOTAVAIL if host == "::1" else 0
    before = open_files()
    assert ended(listen_tcp("localhost", 0)) == ["127.0.0.1"]
    assert open_files() == before


@pytest.mark.parametrize("kernel", [True, False])
def test_a_name_without_an_address_that_is_there_is_one_clear_line(
    kernel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, six=["::1", "2001:db8::1"])
    machine.kernel_has_ipv6 = kernel
    machine.refuse = lambda host: errno.EADDRNOTAVAIL
    with pytest.raises(ConfigError, match=r"^host: cannot listen on 'six' port 0: "):
        listen_tcp("six", 0)


def test_one_address_in_use_is_an_error_though_others_are_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Machine(monkeypatch, two=["127.0.0.2", "127.0.0.1"])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        before = open_files()
        with pytest.raises(ConfigError, match=f"^port: {port} on 127.0.0.1 is in use: choose an"):
            listen_tcp("two", port)
        assert open_files() == before


def test_a_free_port_is_one_that_is_free_on_all_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, two=["127.0.0.2", "127.0.0.1"])
    taken = [errno.EADDRINUSE] * 5
    machine.refuse = lambda host: taken.pop() if host == "127.0.0.1" and taken else 0
    listeners = listen_tcp("two", 0)
    assert len({listener.getsockname()[1] for listener in listeners}) == 1
    assert ended(listeners) == ["127.0.0.2", "127.0.0.1"]
    assert not taken
    machine.refuse = lambda host: errno.EADDRINUSE if host == "127.0.0.1" else 0
    before = open_files()
    with pytest.raises(ConfigError, match="in use"):  # and not for ever
        listen_tcp("two", 0)
    assert open_files() == before


# Addresses of one link.


def of_one_link() -> tuple[str, str]:
    """An address fe80::… of this machine, and its interface."""
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, *_, name = line.split()
        if digits.startswith("fe80"):
            return ":".join(re.findall("....", digits)), name
    pytest.skip("no interface has an address of its link")


def test_the_scope_of_an_address_is_kept() -> None:
    address, name = of_one_link()
    server = Server(App())
    ((host, port),) = server.listen(f"{address}%{name}", 0)
    assert host.endswith(f"%{name}")
    assert host.startswith("fe80::")
    (listener,) = server.sockets
    assert listener.getsockname()[3] == socket.if_nametoindex(name)
    with socket.create_connection((host, port), 5):
        pass
    server.close()


def test_serve_shows_the_scope_and_bench_reaches_it() -> None:
    address, name = of_one_link()
    with subprocess.Popen(
        [*COMMAND, "serve", "--host", f"{address}%{name}", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        try:
            url = process.stdout.readline().split()[2]
            assert re.fullmatch(rf"ws://\[fe80::[0-9a-f:]+%{name}\]:\d+", url)
            assert Bench(BenchOptions(parse_url(url), 2, 0.1, 0.0)).run().failures == []
        finally:
            process.kill()


def test_a_client_finds_an_address_by_its_scope(run: Callable[[Any], Any]) -> None:
    address, name = of_one_link()
    seen: list[str] = []

    async def handler(ws: Connection) -> None:
        seen.append(ws.request.headers["host"])
        await ws.send("found")

    async def story() -> None:
        async with serve(handler, f"{address}%{name}") as server:
            port = server.sockets[0].getsockname()[1]
            for percent in ("%", "%25"):
                async with connect(f"ws://[{address}{percent}{name}]:{port}") as client:
                    assert await client.recv() == "found"
        assert seen == [f"[{address}]:{port}"] * 2  # the scope is nobody else's business
        with pytest.raises(ConnectionRefusedError):
            async with connect(f"ws://[{address}%{name}]:{port}"):
                pass

    run(story())


def test_an_address_without_a_scope_is_shown_as_it_is() -> None:
    (listener,) = listen_tcp("::1", 0)
    assert bound_address(listener) == ("::1", listener.getsockname()[1])
    ended([listener])


@pytest.mark.parametrize("mode", ["rw", "99", "1777", "-1", ""])
def test_a_mode_that_is_none_is_a_wrong_option(typed: Type, mode: str) -> None:
    done = typed("serve", "--unix", "/tmp/s", "--unix-mode", mode)
    assert done.status == 2
    assert "'--unix-mode': must be from 0 to 777 in octal, such as 660" in done.errors


# What cannot be had.


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "192.0.2.1"], "--host: cannot listen on '192.0.2.1' port 8080: Cannot assign"),
        (["--host", "2001:db8::1"], "--host: cannot listen on '2001:db8::1' port 8080: Cannot"),
        (["--host", "name.invalid"], "--host: cannot listen on 'name.invalid': "),
        (["--host", "::1%none9"], "--host: cannot listen on '::1%none9': "),
        (["--host", "[::1]"], "--host: cannot listen on '[::1]': "),
        (["--unix", "/nowhere/s"], "--unix: cannot listen on '/nowhere/s': No such file"),
        (["--unix", "/proc/s"], "--unix: cannot listen on '/proc/s': "),
        (["--unix", "/tmp/" + 103 * "x"], "it is longer than 107 bytes"),
        (["--unix", "/tmp"], "--unix: cannot listen on '/tmp': File exists"),
        (["--unix-mode", "660"], "--unix-mode: needs --unix"),
    ],
)
def test_serve_says_what_it_cannot_have_in_one_line(
    typed: Type, arguments: list[str], says: str
) -> None:
    done = typed("serve", *arguments)
    assert done.status in (1, 2)
    assert done.output == ""
    assert done.errors.startswith("fastws: ")
    assert says in done.errors
    assert done.errors.count("\n") == 1


def test_a_port_that_is_a_privilege_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, here=["127.0.0.1"])
    machine.refuse = lambda host: errno.EACCES
    with pytest.raises(ConfigError, match=r"^port: .*denied; ports below 1024 are a privilege"):
        listen_tcp("here", 80)
    with pytest.raises(ConfigError, match=r"^port: .*Permission denied$"):
        listen_tcp("here", 8080)


@pytest.mark.parametrize("path", ["s\0t", "\0s", "", "x" * 108])
def test_a_path_that_is_none_is_one_line(path: str) -> None:
    before = open_files()
    with pytest.raises(ConfigError, match=r"^unix: cannot listen on "):
        listen_unix(path)
    assert open_files() == before


# The permissions of a Unix socket.


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666, 0o777, 0o000])
def test_the_file_of_a_unix_socket_has_the_permissions_asked_for(
    tmp_path: Path, umask: int, mode: int
) -> None:
    path = tmp_path / "s"
    before = os.umask(umask)
    try:
        listener = listen_unix(str(path), mode)
        found = stat.S_IMODE(path.stat().st_mode)
    finally:
        os.umask(before)
    close(listener)
    assert found == mode
    assert not path.exists()


def test_it_never_has_more_permissions_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even between the call that makes the file and one that would change it."""
    path, seen = tmp_path / "s", list[int]()

    def bind(listener: UnixListener, address: str) -> None:
        socket.socket.bind(listener, address)
        seen.append(stat.S_IMODE(path.stat().st_mode))

    monkeypatch.setattr(UnixListener, "bind", bind, raising=False)
    before = os.umask(0)
    try:
        close(listen_unix(str(path), 0o640))
    finally:
        os.umask(before)
    assert seen == [0o640]


def test_without_a_mode_the_umask_decides(tmp_path: Path) -> None:
    path = tmp_path / "s"
    before = os.umask(0o027)
    try:
        listener = listen_unix(str(path))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o750
    close(listener)


@pytest.mark.parametrize("mode", [-1, 0o1000, True, "660", 1.5])
def test_a_mode_out_of_range_is_one_line(tmp_path: Path, mode: Any) -> None:
    with pytest.raises(ConfigError, match=r"^unix_mode: must be from 0 to 777 in octal"):
        listen_unix(str(tmp_path / "s"), mode)
    assert list(tmp_path.iterdir()) == []


def test_a_mode_needs_a_path() -> None:
    async def handler(ws: object) -> None:
        """Never called."""

    with pytest.raises(ConfigError, match=r"^unix_mode: needs unix"):
        serve(handler, unix_mode=0o600)
