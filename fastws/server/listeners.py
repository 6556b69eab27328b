"""Listening sockets: TCP on every address of a name, and Unix sockets. Layer 6."""

import errno
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from fastws.checks import check_integer
from fastws.errors import ConfigError, host_and_port, printable

# As long as net.core.somaxconn allows, to which the kernel cuts it. Where the queue is full, the
# kernel forgets clients that take themselves for connected, and resets them when they speak.
BACKLOG = 65535
MOST = 8  # listening sockets of one engine
# A kernel without IPv6; a container whose /etc/hosts says "::1 localhost" all the same.
NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
FREE_PORTS = 10  # to try for a name with several addresses
LOWEST_PORT = 1024  # below it, listening is a privilege
LONGEST_PATH = 107  # bytes of a Unix socket's path (unix(7))
Address = tuple[str, int] | tuple[str, int, int, int]  # of IPv6 with its flow and scope
LOCK_TIME = 0.2  # seconds to wait for another server that looks at the same folder


class UnixListener(socket.socket):
    """A listening Unix socket that knows the file it made."""

    def __init__(self) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._path = ""
        self._made: tuple[int, int, int] | None = None  # process, device, inode

    def make(self, path: str, mode: int | None = None) -> None:
        """Bind and listen, in place of a socket that nobody listens on; raises OSError."""
        self._path = os.path.abspath(path)  # the working directory may be another one at the end
        with _alone(self._path):
            _remove_stale(path)
            if mode is not None:
                os.fchmod(self.fileno(), mode)  # the file is made with it, less the umask
            self.bind(path)
            self._made = (os.getpid(), *_identity(path))
            if mode is not None:
                _set_mode(path, mode)
            self.listen(BACKLOG)

    def remove(self) -> None:
        """Remove the file, if this process made it and it is still the same."""
        made, self._made = self._made, None
        if made is None or made[0] != os.getpid():
            return
        with suppress(OSError), _alone(self._path):
            if made[1:] == _identity(self._path):
                Path(self._path).unlink()


class _NotHere(ConfigError):
    """This machine does not have an address, or IPv6, which need not matter to a name with more."""


class _InUse(ConfigError):
    """Somebody else listens there."""


def listen_tcp(host: str | None, port: int) -> list[socket.socket]:
    """Bind and listen on every address of a host name that this machine has, one at least.

    Args:
        host: a name or address; None: every address of this machine, IPv4 and IPv6.
        port: 0 to 65,535; 0 takes a free one, the same for all addresses of the host.

    Raises:
        ConfigError: field `host` or `port`; the address is bad, in use or not ours.
    """
    check_integer("port", port, 0, 65_535)  # the C library takes it modulo 65,536
    addresses = _resolve(host, port)
    for _ in range(0 if port else FREE_PORTS):
        with suppress(_InUse):  # the free port of one address is taken on another
            return _listen_on_all(addresses, host)
    return _listen_on_all(addresses, host)


def _listen_on_all(
    addresses: Iterable[tuple[socket.AddressFamily, Address]], host: str | None
) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    missing: ConfigError | None = None
    try:
        for family, address in addresses:
            if listeners and not address[1]:
                port = listeners[0].getsockname()[1]
                address = cast(Address, (address[0], port, *address[2:]))
            try:
                listeners.append(_listen(family, address, host))
            except _NotHere as error:
                missing = error
    except ConfigError:
        for listener in listeners:
            listener.close()
        raise
    if missing is not None and not listeners:
        raise missing
    return listeners


def bound_address(listener: socket.socket) -> tuple[str, int]:
    """Return host and port of a socket of TCP; that of one link has its scope: `fe80::1%eth0`."""
    host, port, *more = listener.getsockname()
    scope = more[1] if more else 0
    if scope and "%" not in host:
        with suppress(OSError):  # the interface may be gone
            host += f"%{socket.if_indextoname(scope)}"
    return host, port


def shown_address(listener: socket.socket) -> str:
    """Return where a socket listens, as a URL, or the path of a Unix socket."""
    if listener.family == socket.AF_UNIX:
        return printable(str(listener.getsockname()))
    return f"ws://{host_and_port(bound_address(listener))}"


def listen_unix(path: str, mode: int | None = None) -> socket.socket:
    """Bind and listen on a Unix socket, in place of one that nobody listens on any more.

    Args:
        path: up to 107 bytes.
        mode: of its file, 0 to 0o777, from the moment it is there; None: as the umask has it.
            Who may not write to it cannot connect.

    Raises:
        ConfigError: field `unix`; the path is too long, in use, or something else is there. Field
            `unix_mode`: it is out of range.
    """
    if mode is not None and (type(mode) is not int or not 0 <= mode <= 0o777):
        raise ConfigError("unix_mode", "must be from 0 to 777 in octal, such as 660")
    listener = UnixListener()
    try:
        if len(os.fsencode(path)) > LONGEST_PATH:
            raise OSError(errno.ENAMETOOLONG, f"it is longer than {LONGEST_PATH} bytes")
        listener.make(path, mode)
    except (OSError, ValueError) as error:  # ValueError: a NUL
        close(listener)
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError("unix", f"cannot listen on {path!r}: {why}") from None
    return listener


def add_listeners(kept: list[socket.socket], more: list[socket.socket]) -> None:
    """Add listening sockets to those that are kept, or close them where they are too many.

    Raises:
        ConfigError: field `host` or `unix`; together they are more than eight.
    """
    if len(kept) + len(more) > MOST:
        field = "unix" if more[0].family == socket.AF_UNIX else "host"
        for listener in more:
            close(listener)
        raise ConfigError(field, f"more than {MOST} addresses to listen on")
    kept += more


def take_socket(sock: socket.socket) -> socket.socket:
    """Let a socket that is bound listen, and not block.

    Raises:
        ConfigError: field `sock`; it is no stream socket of TCP or Unix, or cannot listen.
    """
    families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
    if sock.type != socket.SOCK_STREAM or sock.family not in families:
        raise ConfigError("sock", "must be a stream socket of TCP or Unix")
    try:
        sock.setblocking(False)
        sock.listen(BACKLOG)
    except OSError as error:
        raise ConfigError("sock", f"cannot listen: {error.strerror}") from None
    return sock


def close(listener: socket.socket) -> None:
    """Close a listening socket; the file that it made goes with it."""
    if isinstance(listener, UnixListener):
        listener.remove()
    listener.close()


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Keep servers that come and go in a folder from each other, for as long as that takes.

    Between a look at a file and its removal another one could take its place, and one that is
    bound but does not listen yet looks stale. The folder itself is locked, so that no lock file
    stays; where that cannot be had in time, it goes without.
    """
    try:
        folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield  # to bind there says why
        return
    try:
        _lock(folder)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(folder, fcntl.LOCK_UN)  # a fork may have copied the descriptor
        os.close(folder)


def _lock(folder: int) -> None:
    until = time.monotonic() + LOCK_TIME
    while True:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                return
            time.sleep(0.002)
        except OSError:
            return


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _set_mode(path: str, mode: int) -> None:
    """Add what the umask has taken away; another file that took its place is left alone."""
    file = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        found = os.fstat(file).st_mode
        if stat.S_ISSOCK(found) and stat.S_IMODE(found) != mode:
            os.chmod(f"/proc/self/fd/{file}", mode)
    finally:
        os.close(file)


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
        except BlockingIOError:
            pass  # its queue is full, so somebody listens
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _resolve(host: str | None, port: int) -> list[tuple[socket.AddressFamily, Address]]:
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "not a host name"
        raise ConfigError("host", f"cannot listen on {host!r}: {why}") from None
    unique = dict.fromkeys((family, address) for family, _, _, _, address in found)
    return cast(list[tuple[socket.AddressFamily, Address]], list(unique))


def _listen(family: socket.AddressFamily, address: Address, host: str | None) -> socket.socket:
    try:
        listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise _refused(error, address, host) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refused(error, address, host) from None
    return listener


def _refused(error: OSError, address: Address, host: str | None) -> ConfigError:
    """Return what to raise for an address that cannot be had."""
    number, port = error.errno or 0, address[1]
    if number == errno.EADDRINUSE:
        return _InUse(
            "port", f"{port} on {address[0]} is in use: choose another one, or 0 for any free one"
        )
    why = f"cannot listen on {host!r} port {port}: {os.strerror(number)}"
    if number in NOT_HERE:
        return _NotHere("host", why)
    if number == errno.EACCES and port < LOWEST_PORT:
        why += f"; ports below {LOWEST_PORT} are a privilege (CAP_NET_BIND_SERVICE)"
    return ConfigError("port" if number == errno.EACCES else "host", why)
