"""Listening sockets: TCP on every address of a name, and Unix sockets. Layer 6."""

import errno
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fastws.config import check_integer
from fastws.errors import ConfigError

# As long as net.core.somaxconn allows, to which the kernel cuts it. Where the queue is full, the
# kernel forgets clients that take themselves for connected, and resets them when they speak.
BACKLOG = 65535
MOST = 8  # listening sockets of one engine
PORT_ERRORS = (errno.EADDRINUSE, errno.EACCES)


def listen_tcp(host: str, port: int) -> list[socket.socket]:
    """Bind and listen on every address of a host name.

    Args:
        host: a name or address.
        port: 0 to 65,535; 0 takes a free one, the same for all addresses of the host.

    Raises:
        ConfigError: field `host` or `port`; the address is bad, in use or not ours.
    """
    check_integer("port", port, 0, 65_535)  # the C library takes it modulo 65,536
    listeners: list[socket.socket] = []
    try:
        for family, address in _resolve(host, port):
            if port == 0 and listeners:
                address = (address[0], listeners[0].getsockname()[1])
            listeners.append(_listen(family, address, host))
    except ConfigError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def listen_unix(path: str) -> socket.socket:
    """Bind and listen on a Unix socket, in place of one that nobody listens on any more.

    Raises:
        ConfigError: field `unix`; the path is too long, in use, or something else is there.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _remove_stale(path)
        listener.bind(path)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        why = str(error) if error.errno is None else os.strerror(error.errno)
        raise ConfigError("unix", f"cannot listen on {path!r}: {why}") from None
    return listener


def keep(kept: list[socket.socket], more: list[socket.socket]) -> None:
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


def close(listener: socket.socket) -> None:
    """Close a listening socket; the file of a Unix socket goes with it."""
    if listener.family == socket.AF_UNIX:
        with suppress(OSError):
            Path(listener.getsockname()).unlink()
    listener.close()


def _remove_stale(path: str) -> None:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink()
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _resolve(host: str, port: int) -> Iterable[tuple[socket.AddressFamily, tuple[str, int]]]:
    try:
        found = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "not a host name"
        raise ConfigError("host", f"cannot listen on {host!r}: {why}") from None
    unique = dict.fromkeys((family, address[:2]) for family, _, _, _, address in found)
    return [(family, (str(address[0]), int(address[1]))) for family, address in unique]


def _listen(family: socket.AddressFamily, address: tuple[str, int], host: str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        field = "port" if error.errno in PORT_ERRORS else "host"
        raise ConfigError(field, _why(error, address, host)) from None
    return listener


def _why(error: OSError, address: tuple[str, int], host: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{address[1]} on {address[0]} is in use"
    return f"cannot listen on {host!r} port {address[1]}: {os.strerror(error.errno or 0)}"
